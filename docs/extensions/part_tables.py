"""Tables of interchangeable parts in the pages, made from the code; ``make tables`` writes them.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, so that the page reads the same on a code host.
What it says is the first paragraph of a part's module (when one needs it), that of its class (the rule) and its
fields.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MANY = 14
DOCS = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: ([a-z_]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def first(text: str | None) -> str:
    """The first paragraph of a docstring as a cell: one line, footnotes and roles left out."""
    line = " ".join((inspect.cleandoc(text or "")).split("\n\n")[0].split())
    line = re.sub(r" ?\[\d+\]_", "", line)
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"`\1`", line.replace("``", "`")).replace("|", "\\|")


def fields(config: Any) -> str:
    """Names and defaults of a configuration's fields, ``kind`` left out."""
    out = []
    for name, f in config.model_fields.items():
        if name == "kind":
            continue
        given = None if f.is_required() else f.get_default(call_default_factory=True)
        shown = given if isinstance(given, bool | str) else f"{given:g}" if isinstance(given, int | float) else ""
        out.append(f"`{name}`" + (f" ({shown})" if shown != "" else ""))
    if len(out) > MANY:
        return ", ".join(out[:MANY]) + f" and {len(out) - MANY} more, see the schema"
    return ", ".join(out)


def config_of(part: Any, kind: str) -> Any:
    """The configuration whose ``kind`` is that of a part, in the part's own module."""
    found = [
        c
        for c in vars(inspect.getmodule(part)).values()
        if inspect.isclass(c) and "kind" in getattr(c, "model_fields", {}) and c.model_fields["kind"].default == kind
    ]
    return found[0]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def parts(registry: Mapping[str, Any]) -> str:
    """kind, when, rule, fields: of classes with a configuration beside them."""
    rows = []
    for kind, part in registry.items():
        module = inspect.getmodule(part)
        rows.append((f"`{kind}`", first(module.__doc__), first(part.__doc__), fields(config_of(part, kind))))
    return table(("kind", "when", "rule", "fields (defaults)"), rows)


def configs(union: Any) -> str:
    """kind, when, fields: of configurations that are the part themselves."""
    rows = []
    for config in union:
        when = first(inspect.getmodule(config).__doc__)
        rows.append((f"`{config.model_fields['kind'].default}`", when, fields(config)))
    return table(("kind", "when", "fields (defaults)"), rows)


def _routers() -> str:
    from simulator.cluster.router.config import ROUTERS

    return parts(ROUTERS)


def _admission() -> str:
    from simulator.cluster.admission.config import ADMISSIONS

    return parts(ADMISSIONS)


def _autoscalers() -> str:
    from simulator.cluster.autoscaler.config import AUTOSCALERS

    return parts(AUTOSCALERS)


def _serving() -> str:
    from simulator.engine.serving.config import ServingConfig

    return configs(ServingConfig.__origin__.__args__)


def _step_times() -> str:
    from simulator.engine.step_time.config import GivenStepTime
    from simulator.engine.step_time.profile import ProfileStepTime

    return configs((ProfileStepTime, *GivenStepTime.__origin__.__args__))


def _stages() -> str:
    from simulator.catalog import load_stages

    names = ("workers", "mean_s", "cv", "source", "date")
    rows = [(f"`{s['stage']}`", s.get("after") or "-", *(s[k] for k in names)) for s in load_stages()]
    return table(("stage", "after", "workers", "mean service [s]", "cv", "source", "date"), rows)


def _traces() -> str:
    from simulator.workload.formats.config import FORMATS

    return table(("`format`", "what", "time"), [(f"`{f.name}`", f.what, f.time) for f in FORMATS])


def _measurements() -> str:
    from calibration.formats import FILES

    return table(("file", "use", "what it cannot tell"), [(f.name, f.use, f.cannot) for f in FILES])


def _rooms() -> str:
    import import_graph

    arrows = import_graph.rooms(import_graph.graph(DOCS.parent))
    rows = []
    for name in sorted(arrows, key=lambda n: (n.split(".")[0] != "simulator", len(_behind(n, arrows)), n)):
        path = DOCS.parent / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not path.is_dir() and name.startswith("calibration"):
            continue  # a program, which only calls a room
        text = first(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))
        near = ", ".join(f"`{n.removeprefix('simulator.')}`" for n in sorted(arrows[name]))
        rows.append((f"`{file.relative_to(DOCS.parent).as_posix().removesuffix('/__init__.py')}`", text, near or "-"))
    return table(("room", "what lives there", "imports"), rows)


def _behind(name: str, arrows: Mapping[str, set[str]]) -> set[str]:
    """All rooms that a room rests on, directly or not."""
    found: set[str] = set()
    todo = [name]
    while todo:
        new = arrows.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


TABLES: dict[str, Callable[[], str]] = {
    "routers": _routers,
    "admission": _admission,
    "autoscalers": _autoscalers,
    "serving": _serving,
    "step_times": _step_times,
    "stages": _stages,
    "traces": _traces,
    "measurements": _measurements,
    "rooms": _rooms,
}


def renewed(text: str) -> str:
    """A page with its tables made anew. Raises KeyError for a table that nothing makes."""
    return BLOCK.sub(lambda m: m[1] + TABLES[m[2]]() + m[4], text)


def main() -> int:
    """Write the tables into all pages; prints those that changed."""
    for page in sorted(DOCS.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = renewed(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{page.name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
