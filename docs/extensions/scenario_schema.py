"""For the directive ``scenario-schema``: every part and field of a scenario as tables, made from its JSON Schema."""

from schema_parts import Part, anchor, order, parts

HEAD = "| field | type | default | limits | unit | meaning |\n| --- | --- | --- | --- | --- | --- |"


def as_markdown(found: dict[str, Part]) -> str:
    """Chapters by field of the scenario, in each the parts that are met there first."""
    lines = ["## Scenario", "", *_shown(found["Scenario"], [])]
    users: dict[str, list[str]] = {}
    for part in found.values():
        for row_part in part.uses:
            users.setdefault(row_part, []).append(part.name)
    seen = {"Scenario"}
    for row in found["Scenario"].rows:
        fresh = [
            name
            for start in _linked(found, row.type)
            for name in order(found, start)
            if name not in seen and not seen.add(name)  # type: ignore[func-returns-value]
        ]
        if fresh:
            lines += [f"## {row.name}", ""]
        for name in fresh:
            lines += [f"({anchor(name)})=", f"### {name}", "", *_shown(found[name], users.get(name, []))]
    return "\n".join(lines)


def _linked(found: dict[str, Part], text: str) -> list[str]:
    return [name for name in found if f"(#{anchor(name)})" in text]


def _shown(part: Part, users: list[str]) -> list[str]:
    said = [f"Chosen by {part.chosen_by}." if part.chosen_by else ""]
    if users := list(dict.fromkeys(users)):
        said.append("In " + ", ".join(f"[{u}](#{anchor(u)})" for u in users) + ".")
    lines = [*_text(part), " ".join(s for s in said if s), ""]
    if part.rows:
        lines += [HEAD, *(_row(r) for r in part.rows), ""]
    return lines


def _text(part: Part) -> list[str]:
    """The part's docstring, its footnotes as plain paragraphs."""
    text = part.text.replace("[1]_", "(source below)").replace(".. [1] ", "Source: ")
    return [text.replace("``", "`"), ""] if text else []


def _row(r) -> str:
    cells = [f"`{r.name}`", r.type, r.default, r.limits, r.unit, r.meaning.replace("``", "`")]
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def page() -> str:
    """The tables of the scenario, with an anchor before the first."""
    from simulator.scenario import Scenario

    return f"({anchor('Scenario')})=\n{as_markdown(parts(Scenario.model_json_schema()))}"
