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
    files: Annotated[
        list[Path], typer.Argument(help="recordings: .json, .jsonl, also .gz", metavar="FILE...")
    ],
) -> None:
    """Replay recorded vLLM schedules and compare every decision.

    Prints for each recording `identical N/N` (batches) or the first decision that differs. Exit code 0 only if
    all recordings are identical, 1 if one differs, 2 for a file that cannot be read.
    """
    from rich.console import Console

    from calibration.schedules import read_recordings, replay
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
