"""Globs of a toctree that match no page yet are left out, so that pages may be announced before they are written."""

import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = ("index", "api", "notebooks")
GLOB = re.compile(r"^[\w/]*[*\[][\w/*\[\]-]*$")


def kept(text: str, folder: Path) -> str:
    """A page without toctree lines that are globs of nothing."""
    lines = text.split("\n")
    return "\n".join(
        x for x in lines if not GLOB.match(x) or any(folder.glob(f"{x}.md")) or any(folder.glob(f"{x}.ipynb"))
    )


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    if page in PAGES:
        source[0] = kept(source[0], Path(app.srcdir))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
