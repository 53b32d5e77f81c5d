"""Directive ``record-tables``: the columns of every table of a result, from `simulator.records`."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HEAD = "| column | type | unit | meaning |\n| --- | --- | --- | --- |"


def as_markdown() -> str:
    """A chapter for each table."""
    from simulator.records import TABLES

    lines = []
    for name, columns in TABLES.items():
        rows = (f"| `{c.name}` | {c.dtype} | {c.unit} | {c.meaning} |" for c in columns)
        lines += [f"## {name}", "", HEAD, *rows, ""]
    return "\n".join(lines)


class RecordTables(SphinxDirective):
    """No arguments, no options."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(as_markdown(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("record-tables", RecordTables)
    return {"parallel_read_safe": True}
