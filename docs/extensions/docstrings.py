"""Docstrings as they stand in the source -> reStructuredText: columns of names become field lists, footnotes get
names of their own."""

import re
from typing import Any

from sphinx.application import Sphinx

COLUMN = re.compile(r"^( *)(\w+(?:, \w+)*)  +(\S.*)$")
FOOTNOTE = re.compile(r"(^ *\.\. |\s)\[(\d)\](?=_|\s)")


def rewritten(lines: list[str], label: str) -> list[str]:
    """``name   meaning`` in columns -> ``:name: meaning``; ``[1]_`` -> a footnote whose label no other docstring has.

    >>> rewritten(["base_s  time of", "        one [s]", "", "See [1]_."], "x")
    ['', ':base_s: time of', '    one [s]', '', 'See [#x-1]_.']
    """
    out: list[str] = []
    inside = False
    for line in lines:
        match = COLUMN.match(line)
        if match and not line.lstrip().startswith((">>>", "...", "|", "-", "+")):
            if not inside:
                out.append("")
            out.append(f"{match[1]}:{match[2]}: {match[3]}")
            inside = True
        elif inside and line.startswith(" ") and line.strip():
            out.append(f"    {line.strip()}")
        else:
            if inside and line.strip():
                out.append("")
            inside = False
            out.append(FOOTNOTE.sub(rf"\1[#{label}-\2]", line))
    return out


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = rewritten(lines, re.sub(r"\W", "-", name.lower()))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
