"""Directives whose pages are made from the code: Markdown that a function gives, chapters and all. None has
arguments or options."""

import command_line
import record_tables
import scenario_schema
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PAGES = {
    "command-line": command_line.as_markdown,
    "record-tables": record_tables.as_markdown,
    "scenario-schema": scenario_schema.page,
}


class MadePage(SphinxDirective):
    """What the function of the directive's name gives."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(PAGES[self.name](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    for name in PAGES:
        app.add_directive(name, MadePage)
    return {"parallel_read_safe": True}
