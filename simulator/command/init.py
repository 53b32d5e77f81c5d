"""``servelab init``: a commented scenario to start from."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import refused
from simulator.errors import ServelabError


def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path("scenario.yaml"),
    overwrite: Annotated[bool, typer.Option(help="replace an existing file")] = False,
) -> None:
    """Write a commented scenario to start from."""
    from simulator.catalog import data_folder

    if path.exists() and not overwrite:
        raise refused(ServelabError(f"file {str(path)!r} exists already; name another, or add --overwrite"))
    path.write_text((data_folder() / "scenario.yaml").read_text())
    typer.echo(f"wrote {path}; run it with: servelab run {path}")
