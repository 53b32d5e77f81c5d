"""``servelab schema``: the JSON Schema of a scenario."""

import json

import typer


def schema() -> None:
    """Print the JSON Schema of a scenario, for editors."""
    from simulator.scenario import Scenario

    typer.echo(json.dumps(Scenario.model_json_schema(), indent=1))
