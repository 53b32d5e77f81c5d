"""Copies of the notebooks as pages. Their cells run in the folder of the originals, so that relative paths stay
true."""

from pathlib import Path

import nbformat

HOME = "import os\n\nos.chdir({!r})"


def copy(source: Path, target: Path) -> None:
    """Every notebook of ``source`` into ``target``; a copy that would not change is left alone, one without an
    original goes."""
    target.mkdir(exist_ok=True)
    wanted = {p.name: _page(p) for p in sorted(source.glob("*.ipynb"))}
    for old in target.glob("*.ipynb"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        page = target / name
        if not page.is_file() or page.read_text() != text:
            page.write_text(text)


def _page(path: Path) -> str:
    """A notebook whose links to docs/ lead to pages, with a cell behind its title that is run and not shown."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../docs/", "](../")
    cell = nbformat.v4.new_code_cell(HOME.format(str(path.parent)), id="folder", metadata={"tags": ["remove-cell"]})
    notebook.cells.insert(1, cell)
    return nbformat.writes(notebook)
