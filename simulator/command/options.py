"""Options and printing that the planning commands share."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.errors import ServelabError


class Backend(StrEnum):
    local = "local"
    serial = "serial"
    ray = "ray"


SCENARIO = Annotated[Path, typer.Argument(help="scenario file (YAML)", metavar="SCENARIO.yaml")]
SET = Annotated[list[str] | None, typer.Option("--set", help="override a field of the scenario: path=value")]
OUT = Annotated[Path | None, typer.Option(help="folder for the tables and records")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON")]
QUIET = Annotated[bool, typer.Option(help="no progress")]
OVERWRITE = Annotated[bool, typer.Option(help="write into a folder that is there")]
BACKEND = Annotated[Backend, typer.Option(help="where to simulate: processes of this machine, this process, or Ray")]
ADDRESS = Annotated[str | None, typer.Option(help="of a Ray cluster; none: start one here")]
WORKERS = Annotated[int | None, typer.Option(min=1, help="processes; none: a core each")]
CACHE = Annotated[Path | None, typer.Option(help="folder that keeps finished runs: an interrupted command resumes")]
SEED = Annotated[int, typer.Option(min=0, help="of all random draws")]


@contextmanager
def runs_of(
    what: str, backend: Backend, address: str | None, workers: int | None, cache: Path | None, quiet: bool
) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from simulator.planner.runs import Runs

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(what, total=None)
        yield Runs(
            backend.value, workers, address, cache, lambda done, all_: bar.update(task, completed=done, total=all_)
        )


def made_folder(out: Path | None, overwrite: bool) -> None:
    if out is not None and out.exists() and not (overwrite and out.is_dir()):
        raise ServelabError(f"output folder {str(out)!r} exists already; name another, or add --overwrite")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)


def _plain(value: Any) -> Any:
    """JSON without NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def say_json(value: Any) -> None:
    typer.echo(json.dumps(_plain(value), indent=1, default=lambda x: x.item()))


def say_table(frame: Any, title: str = "") -> None:
    from rich.console import Console
    from rich.table import Table

    from simulator.records.metrics import rows_of

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name in frame.columns:
        table.add_column(str(name).replace("_", " "), overflow="fold")
    for row in rows_of(frame):
        table.add_row(*(_cell(v) for v in row))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
