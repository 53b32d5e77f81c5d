"""Directives whose pages are made from the code: Markdown that a function gives, chapters and all. None has
arguments or options."""

import command_line
import public_api
import record_tables
import scenario_schema
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

PAGES = {
    "command-line": command_line.as_markdown,
    "record-tables": record_tables.as_markdown,
    "scenario-schema": scenario_schema.page,
}


class MadePage(SphinxDirective):
    """What the function of the directive's name gives."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(PAGES[self.name](), allow_section_headings=True)


class PublicApi(SphinxDirective):
    """The reference of one subject, which is the directive's content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = StringList(public_api.as_rst(" ".join(self.content)).splitlines(), source="public-api")
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, lines, node)
        return node.children


def setup(app: Sphinx) -> dict[str, bool]:
    for name in PAGES:
        app.add_directive(name, MadePage)
    app.add_directive("public-api", PublicApi)
    return {"parallel_read_safe": True}
