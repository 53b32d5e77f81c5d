"""``servelab open``: a scenario with its topology opened up."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import refused
from simulator.errors import ServelabError


def open_(
    scenario: Annotated[Path, typer.Argument(help="scenario file (YAML)", metavar="SCENARIO")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="override a field: path=value")] = None,
) -> None:
    """Print a scenario with its topology opened up: every stage, hop and pool of a preset, to be changed."""
    import yaml

    from simulator.scenario import Scenario

    try:
        loaded = Scenario.load(scenario, set_ or [])
        mapping, path = loaded.to_mapping(), loaded.opened_path()
    except ServelabError as problem:
        raise refused(problem) from None
    if path is not None:
        mapping["path"] = path.model_dump(mode="json", exclude_none=True)
    typer.echo(yaml.safe_dump(mapping, sort_keys=False), nl=False)
