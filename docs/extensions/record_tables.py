"""For the directive ``record-tables``: the columns of every table of a result, from `simulator.records.tables`."""

HEAD = "| column | type | unit | meaning |\n| --- | --- | --- | --- |"


def as_markdown() -> str:
    """A chapter for each table."""
    from simulator.records.tables import TABLES

    lines = []
    for name, columns in TABLES.items():
        rows = (f"| `{c.name}` | {c.dtype} | {c.unit} | {c.meaning} |" for c in columns)
        lines += [f"## {name}", "", HEAD, *rows, ""]
    return "\n".join(lines)
