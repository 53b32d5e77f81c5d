"""``servelab calibrate``: measure an engine, fit a profile, validate it."""

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    model: Annotated[str, typer.Option(help="model to measure: a folder or a name that vLLM knows")],
    out: Annotated[
        Path, typer.Option(help="folder for raw rows, profile.json and report.html; one that was begun is gone on with")
    ],
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="a flag of vLLM's engine as key=value, passed through; may be repeated")
    ] = None,
    budget: Annotated[str, typer.Option(help="time to measure, such as 90s, 5m, 1h")] = "5m",
    python: Annotated[
        Path | None, typer.Option(help="Python with vLLM; default .venv-vllm/bin/python, else this one")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="catalog name of the GPU; default: what the driver says")] = None,
    name: Annotated[str | None, typer.Option(help="of the profile; default: the folder's")] = None,
    prompt: Annotated[float, typer.Option(help="mean prompt of the load tests, in tokens")] = 256.0,
    output: Annotated[float, typer.Option(help="mean output of the load tests, in tokens")] = 64.0,
    seed: Annotated[int, typer.Option(help="of batches, loads and token ids")] = 0,
    url: Annotated[
        str | None, typer.Option(help="measure this OpenAI-compatible server over HTTP instead of starting vLLM")
    ] = None,
    served: Annotated[
        str | None, typer.Option(help="with --url: the server's name for the model; default --model")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="with --url: most sequences at once", min=2)] = 16,
    longest: Annotated[
        int, typer.Option(help="with --url: longest prompt and answer together, in tokens", min=128)
    ] = 2048,
    fit_only: Annotated[bool, typer.Option("--fit-only", help="fit what the folder holds, measure nothing")] = False,
) -> None:
    """Measure real vLLM, fit a profile, validate it on load tests that the fit has not seen.

    Rows are written as they come: after Ctrl-C, a crash of the engine or a full disk the same command goes on where
    it was. Exit code 0: done. 2: input that cannot be used. 4: the engine died; what was measured is kept and fitted.
    130: stopped.
    """
    from rich.console import Console

    from calibration.commands.calibrating import Asked, Server, measure_and_fit, seconds
    from calibration.measure.http_client import Loads
    from simulator.errors import ServelabError

    errors = Console(stderr=True, soft_wrap=True)
    try:
        asked = Asked(
            model,
            out,
            name or out.name,
            engine_arg or [],
            0.0 if fit_only else seconds(budget),
            Loads(prompt, output, seed),
            python,
            gpu,
        )
        server = None if url is None else Server(url, served or model, concurrency, longest)
        code = measure_and_fit(asked, server, fit_only)
    except ServelabError as problem:
        errors.print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None
    raise typer.Exit(code)
