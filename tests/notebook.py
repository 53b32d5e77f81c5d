"""Notebooks, run headless under other parameters."""

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"


def executed(name: str, **parameters: Any) -> nbformat.NotebookNode:
    """The notebook after running all cells; ``parameters`` replace lines of its parameters cell.

    Raises KeyError for a parameter that the cell does not have.
    """
    notebook = nbformat.read(FOLDER / name, as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    lines = cell.source.splitlines()
    for key, value in parameters.items():
        at = next((i for i, line in enumerate(lines) if line.startswith(f"{key} =")), None)
        if at is None:
            raise KeyError(key)
        lines[at] = f"{key} = {value!r}"
    cell.source = "\n".join(lines)
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(FOLDER)}}).execute()
    return notebook


def shown(notebook: nbformat.NotebookNode) -> str:
    """All Markdown that the code cells put out: the sentences computed from the run."""
    found = [
        o["data"].get("text/markdown", "")
        for c in notebook.cells
        for o in c.get("outputs", [])
        if "data" in o
    ]
    return "\n".join(found)


def charts(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """Data of the outputs that are charts."""
    data = [o["data"] for c in notebook.cells for o in c.get("outputs", []) if "data" in o]
    return [d for d in data if any("vegalite" in kind for kind in d)]
