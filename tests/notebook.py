"""Notebooks, run headless under other parameters by papermill."""

import tempfile
from pathlib import Path
from typing import Any

import nbformat
import papermill

FOLDER = Path(__file__).parents[1] / "notebooks"


def executed(name: str, **parameters: Any) -> nbformat.NotebookNode:
    """The notebook after running all cells under ``parameters``.

    Raises KeyError for a parameter that its parameters cell does not have, papermill.PapermillExecutionError where a
    cell fails.
    """
    known = papermill.inspect_notebook(str(FOLDER / name))
    for key in parameters:
        if key not in known:
            raise KeyError(key)
    with tempfile.TemporaryDirectory() as folder:
        found = papermill.execute_notebook(
            str(FOLDER / name),
            str(Path(folder) / name),
            parameters=parameters,
            cwd=str(FOLDER),
            progress_bar=False,
            execution_timeout=400,
        )
    return found


def outputs(cell: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """Data of the outputs of a cell, by MIME type."""
    return [o["data"] for o in cell.get("outputs", []) if "data" in o]


def sentences(cell: nbformat.NotebookNode) -> str:
    """All Markdown that a code cell puts out."""
    return "\n".join(d.get("text/markdown", "") for d in outputs(cell)).strip()


def shown(notebook: nbformat.NotebookNode) -> str:
    """All Markdown that the code cells put out: the sentences computed from the run."""
    return "\n".join(sentences(c) for c in notebook.cells)


def specs(cell: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """The charts of a cell, as Vega-Lite."""
    return [value for d in outputs(cell) for kind, value in d.items() if "vegalite" in kind]


def charts(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """Data of the outputs that are charts."""
    return [d for c in notebook.cells for d in outputs(c) if any("vegalite" in kind for kind in d)]
