"""``servelab export``: what `run --out` wrote, as files that other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.errors import ServelabError

app = typer.Typer(no_args_is_help=True, help="Write a result as a file that other tools read.")
BAD_INPUT = 2

Folder = Annotated[Path, typer.Argument(help="folder that run --out wrote", metavar="RESULT")]
Overwrite = Annotated[bool, typer.Option(help="replace an existing file")]


@app.command()
def bench(
    result: Folder,
    file: Annotated[Path, typer.Argument(help="file to write (.json)")],
    percentiles: Annotated[str, typer.Option(help="as --metric-percentiles of vllm bench serve")] = "99",
    overwrite: Overwrite = False,
) -> None:
    """The JSON of vllm bench serve --save-result --save-detailed; needs a run with --steps full."""
    from simulator.export.vllm_bench import write_bench
    from simulator.result import Result

    try:
        try:
            wanted = [float(p) for p in percentiles.split(",")]
        except ValueError:
            raise ServelabError(
                f"--percentiles: expected numbers such as 50,99, got {percentiles!r}"
            ) from None
        write_bench(Result.load(result), file, overwrite=overwrite, percentiles=wanted)
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(f"wrote {file}")


@app.command()
def trace(
    result: Folder,
    file: Annotated[Path, typer.Argument(help="file to write (.json or .json.gz)")],
    max_requests: Annotated[int, typer.Option(min=0, help="show so many requests, the first ones")] = 10_000,
    overwrite: Overwrite = False,
) -> None:
    """Batches and requests for Perfetto or chrome://tracing; needs a run with --steps full or sampled."""
    from simulator.export.chrome_trace import write_trace_events
    from simulator.result import Result

    try:
        write_trace_events(Result.load(result), file, max_requests=max_requests, overwrite=overwrite)
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(f"wrote {file}")
