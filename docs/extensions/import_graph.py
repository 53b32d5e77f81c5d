"""The import graph of the packages, drawn from their files: arrows, rooms, circles."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

Graph = dict[str, set[str]]


def module_name(path: Path, root: Path) -> str:
    """``simulator/engine/__init__.py`` under ``root`` is ``simulator.engine``."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """All that a file imports, wherever in it, for type checking too: modules, and what is taken of them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph(root: Path, packages: Iterable[str] = ("simulator", "calibration")) -> Graph:
    """Each module of ``packages`` and the modules of them that it imports."""
    files = {module_name(p, root): p for package in packages for p in sorted((root / package).rglob("*.py"))}
    out: Graph = {}
    for name, path in files.items():
        arrows = set()
        for target in imported(path):
            parts = target.split(".")
            known = next((k for n in range(len(parts), 0, -1) if (k := ".".join(parts[:n])) in files), None)
            if known is not None and known != name:
                arrows.add(known)
        out[name] = arrows
    return out


def room(module: str) -> str:
    """The folder at the top that a module belongs to, or the module itself where it stands at the top.

    >>> room("simulator.engine.step_time.base"), room("simulator.errors"), room("simulator")
    ('simulator.engine', 'simulator.errors', 'simulator')
    """
    return ".".join(module.split(".")[:2])


def rooms(arrows: Mapping[str, set[str]]) -> Graph:
    """The same graph between rooms; the packages' own ``__init__``, which only names what is public, left out."""
    out: Graph = {}
    for module, targets in arrows.items():
        if "." in module:
            mine = out.setdefault(room(module), set())
            mine |= {room(t) for t in targets if "." in t and room(t) != room(module)}
    return out


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other around in a circle (strongly connected components, Tarjan 1972)."""
    number: dict[str, int] = {}
    least: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        number[v] = least[v] = len(number)
        stack.append(v)
        for w in sorted(arrows.get(v, ())):
            if w not in number:
                visit(w)
                least[v] = min(least[v], least[w])
            elif w in stack:
                least[v] = min(least[v], number[w])
        if least[v] == number[v]:
            group = stack[stack.index(v) :]
            del stack[stack.index(v) :]
            if len(group) > 1:
                found.append(sorted(group))

    for v in sorted(arrows):
        if v not in number:
            visit(v)
    return found


def backwards(arrows: Mapping[str, set[str]], order: list[str]) -> list[str]:
    """Arrows from a room to one that stands behind it in ``order``, as text."""
    out = []
    for module, targets in sorted(arrows.items()):
        for target in sorted(targets):
            here, there = room(module), room(target)
            if here in order and there in order and order.index(there) > order.index(here):
                out.append(f"{module} -> {target}")
    return out
