"""For the directive ``command-line``: every command of ``servelab`` with its arguments and options, as Typer's own
generator describes them."""

import re

import typer
from typer.cli import get_docs_for_click


def as_markdown() -> str:
    """A chapter for each command, those that join through the entry point ``servelab.commands`` too."""
    from simulator.command.app import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="servelab"), name="servelab")
    _, chapters = text.split("\n## ", 1)  # what stands before is the list of all commands
    chapters = re.sub(r"^\* `--help`: .*\n", "", f"## {chapters}", flags=re.MULTILINE)
    chapters = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", chapters)
    chapters = re.sub(r"\*\*Options\*\*:\n\n(?!\* )", "", chapters)
    return chapters.replace(" [OPTIONS] COMMAND [ARGS]...", " COMMAND ...").replace("```console\n$ ", "```text\n")
