"""``servelab from-serve``: a scenario from a vllm serve command that already runs somewhere."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import BAD_INPUT
from simulator.errors import ServelabError


def from_serve(
    command: Annotated[str, typer.Argument(help="a vllm serve command, in quotes; - reads standard input")],
    gpu: Annotated[str, typer.Option(help="what it runs on, as in `servelab list gpus`")],
    out: Annotated[Path | None, typer.Option(help="file to write; without it, the scenario is printed")] = None,
    vllm: Annotated[str, typer.Option("--vllm", help="version of vLLM")] = "0.32",
    name: Annotated[str, typer.Option(help="name of the deployment")] = "llm",
    overwrite: Annotated[bool, typer.Option(help="replace an existing file")] = False,
) -> None:
    """Write the scenario of an existing vllm serve command: its flags, and a placeholder for the traffic."""
    from simulator.export.from_vllm_serve import scenario_from_serve

    try:
        if out is not None and out.exists() and not overwrite:
            raise ServelabError(f"file {str(out)!r} exists already; name another, or add --overwrite")
        text = typer.get_text_stream("stdin").read() if command == "-" else command
        found = scenario_from_serve(text, gpu, version=vllm, name=name)
        if out is not None:
            if not out.parent.is_dir():
                raise ServelabError(f"--out {str(out)!r}: the folder {str(out.parent)!r} does not exist")
            out.write_text(found.to_yaml(out.parent), encoding="utf-8")
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    if out is None:
        typer.echo(found.to_yaml(), nl=False)
        return
    if found.ignored:
        typer.echo(f"ignored, no effect on the simulation: {', '.join(found.ignored)}")
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"wrote {out}; run it with: servelab run {out}")
