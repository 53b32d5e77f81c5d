"""What calibration adds to the command line, found through the entry point ``servelab.commands``."""

from pathlib import Path
from typing import Annotated

import typer

validate = typer.Typer(no_args_is_help=True, help="Compare the simulator with what real vLLM did.")


@validate.callback()
def _validate() -> None:
    """Compare the simulator with what real vLLM did."""


@validate.command("schedule")
def validate_schedule(
    files: Annotated[list[Path], typer.Argument(help="recordings: .json, .jsonl, also .gz", metavar="FILE...")],
) -> None:
    """Replay recorded vLLM schedules and compare every decision.

    Prints for each recording `identical N/N` (batches) or the first decision that differs. Exit code 0 only if
    all recordings are identical, 1 if one differs, 2 for a file that cannot be read.
    """
    from rich.console import Console

    from calibration.judge.schedules import read_recordings, replay
    from simulator.errors import ServelabError

    out, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, soft_wrap=True)
    total = identical = batches = 0
    try:
        for path in files:
            for name, recording in read_recordings(path):
                r = replay(name, recording)
                total += 1
                identical += r.identical
                batches += r.batches
                said = f"identical {r.batches}/{r.planned}" if r.identical else f"DIFFERENT at {r.difference}"
                out.print(f"{name}: {said}", markup=False)
    except ServelabError as problem:
        errors.print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None
    out.print(f"{identical} of {total} recordings identical, {batches:,} batches compared")
    raise typer.Exit(0 if total and identical == total else 1)


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

    Rows are written as they come: after Ctrl-C, a crash of the engine or a full disk the same command goes on where it
    was. Exit code 0: done. 2: input that cannot be used. 4: the engine died; what was measured is kept and fitted. 130:
    stopped.
    """
    from rich.console import Console

    from calibration.commands.calibrating import measure_and_fit
    from simulator.errors import ServelabError

    errors = Console(stderr=True, soft_wrap=True)
    try:
        code = measure_and_fit(
            model=model,
            out=out,
            engine_args=engine_arg or [],
            budget=budget,
            python=python,
            gpu=gpu,
            name=name or out.name,
            prompt=prompt,
            output=output,
            seed=seed,
            fit_only=fit_only,
            url=url,
            served=served,
            concurrency=concurrency,
            longest=longest,
        )
    except ServelabError as problem:
        errors.print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


def fit_log(
    log: Annotated[
        Path, typer.Argument(help="log of vLLM served with --enable-logging-iteration-details", metavar="LOG")
    ],
    model: Annotated[str, typer.Option(help="catalog name of the model, or a folder with its config.json")],
    gpu: Annotated[str, typer.Option(help="catalog name of the GPU")],
    out: Annotated[Path, typer.Option(help="profile to write (.json)")],
    version: Annotated[str, typer.Option(help="version of vLLM, such as 0.32")] = "0.32",
) -> None:
    """Fit a profile to the batches in vLLM's own log. It says which coefficients such a log cannot tell."""
    from rich.console import Console

    from calibration.profiles.build_profile import profile_of_log
    from simulator.catalog import find_gpu, find_model
    from simulator.errors import ServelabError

    try:
        profile, fit = profile_of_log(log, out.stem, find_gpu(gpu).name, find_model(model), version)
        out.write_text(profile.to_json())
    except ServelabError as problem:
        Console(stderr=True, soft_wrap=True).print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None
    said = Console(highlight=False, soft_wrap=True)
    said.print(f"{profile.provenance['batches']} batches, held-out error {fit.score:.1%}; wrote {out}", markup=False)
    said.print(f"note: {profile.provenance['notes'][0]}", markup=False)


@validate.command("metrics")
def validate_metrics(
    result: Annotated[Path, typer.Argument(help="folder that run --out wrote", metavar="RESULT")],
    before: Annotated[Path, typer.Option(help="scrape of vLLM's /metrics before the load")],
    after: Annotated[Path, typer.Option(help="scrape after it")],
) -> None:
    """Compare a simulated result with what vLLM's histograms say of the real load between two scrapes."""
    from rich.console import Console

    from calibration.commands.validating import compare_metrics
    from simulator.errors import ServelabError

    try:
        compare_metrics(result, before, after)
    except ServelabError as problem:
        Console(stderr=True, soft_wrap=True).print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None


@validate.command("run")
def validate_run(
    profile: Annotated[str, typer.Argument(help="name of `servelab list profiles`, or a profile.json")],
    measured: Annotated[Path, typer.Option(help="folder of `servelab calibrate`, or a benchmark file")],
    as_json: Annotated[bool, typer.Option("--json", help="print the table of errors as JSON")] = False,
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="flag of the measured engine that the file does not say, as key=value")
    ] = None,
    replicas: Annotated[int, typer.Option(help="engines behind a router that picks the one with fewest requests")] = 1,
    report: Annotated[Path | None, typer.Option(help="write the comparison with pictures to this HTML file")] = None,
) -> None:
    """Replay measured load tests with a profile, and print the error of each figure against the noise of the
    measurement."""
    from rich.console import Console

    from calibration.commands.validating import compare
    from simulator.errors import ServelabError

    try:
        compare(profile, measured, as_json, engine_arg or [], replicas, report)
    except ServelabError as problem:
        Console(stderr=True, soft_wrap=True).print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None


@validate.command("drift")
def validate_drift(
    profile: Annotated[str, typer.Argument(help="name of `servelab list profiles`, or a profile.json")],
    measured: Annotated[
        Path, typer.Option(help="folder of `servelab calibrate`, or a benchmark file, newer than the profile")
    ],
    tolerance: Annotated[float, typer.Option(help="relative change that does not matter")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
    engine_arg: Annotated[list[str] | None, typer.Option(help="flag of the measured engine, as key=value")] = None,
) -> None:
    """Say whether an engine has moved away from its profile, after an upgrade for instance.

    Exit code 0: no drift beyond the tolerance. 3: drift that is significant (5 %) and larger than the tolerance. 2: bad
    input.
    """
    from rich.console import Console

    from calibration.commands.validating import drift
    from simulator.errors import ServelabError

    try:
        moved = drift(profile, measured, tolerance, as_json, engine_arg or [])
    except ServelabError as problem:
        Console(stderr=True, soft_wrap=True).print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None
    raise typer.Exit(3 if moved else 0)
