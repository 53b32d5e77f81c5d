"""``servelab validate``: recorded schedules, load tests, scrapes and drift, held against the simulator."""

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
    """Replay measured load tests with a profile: the error of each figure against the noise of the measurement."""
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

    Exit code 0: no drift beyond the tolerance. 3: drift that is significant (5 %) and larger than the tolerance.
    2: bad input.
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
