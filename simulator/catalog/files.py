"""Where the data and the examples lie, and the rows of a table."""

import csv
from functools import lru_cache
from pathlib import Path

from simulator.errors import ServelabError


@lru_cache
def data_folder() -> Path:
    """Where data/ lies: in the installed package, else beside it in the repository."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "data", package.parent / "data"):
        if (folder / "gpus.csv").is_file():
            return folder
    raise ServelabError(f"data: no gpus.csv in {package / 'data'} or {package.parent / 'data'}")


@lru_cache
def examples_folder() -> Path:
    """Where the examples lie: in the installed package, else in the repository."""
    package = Path(__file__).resolve().parent.parent
    found = [f for f in (package / "examples", package.parent / "examples") if (f / "default.yaml").is_file()]
    if not found:
        raise ServelabError(f"examples: no default.yaml in {package / 'examples'} or {package.parent / 'examples'}")
    return found[0]


def rows(name: str) -> list[dict[str, str]]:
    """The rows of data/``name``, without cells that are empty."""
    with open(data_folder() / name, newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]
