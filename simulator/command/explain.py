"""``servelab explain``: what the figures of a run are made of."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import refused
from simulator.errors import ServelabError


def explain(
    result: Annotated[Path, typer.Argument(help="folder that run --out wrote", metavar="RESULT")],
    request_id: Annotated[
        int | None, typer.Argument(help="request, as in requests.parquet; none: the figures of the run")
    ] = None,
) -> None:
    """Say what each figure of a run is made of; or where the time of one request went, and who was ahead of it."""
    from simulator.planner.sentences import sentences
    from simulator.results.result import Result

    try:
        loaded = Result.load(result)
        if request_id is not None:
            typer.echo(str(loaded.explain(request_id)))
        else:
            typer.echo("\n".join(s.text for s in sentences(loaded)))
    except ServelabError as problem:
        raise refused(problem) from None
