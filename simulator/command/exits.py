"""Exit codes, and how a command ends that cannot go on."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from simulator.errors import ServelabError

BAD_INPUT, MISSED_SLO, INTERRUPTED = 2, 3, 130
NOTHING_HOLDS = MISSED_SLO


def refused(problem: Exception) -> typer.Exit:
    """Say what was wrong with the input; to be raised."""
    typer.echo(f"error: {problem}", err=True)
    return typer.Exit(BAD_INPUT)


@contextmanager
def told() -> Iterator[None]:
    """Errors as one line, Ctrl-C as what it is."""
    try:
        yield
    except ServelabError as problem:
        raise refused(problem) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; with --cache FOLDER the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None
