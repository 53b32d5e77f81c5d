"""Why plain data is no scenario, in words: a line for each fault that pydantic found."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from simulator.errors import nearest


def explain(problem: ValidationError, mapping: Any, known: Callable[[], Iterable[str]]) -> Iterator[str]:
    """A line for each fault of ``mapping``: where, what was given, what is allowed, the nearest right name.

    ``known`` gives the names of all fields; it is asked only where one is unknown.
    """
    for error in problem.errors():
        where = _place(error["loc"], mapping)
        given = error.get("input")
        if error["type"] == "extra_forbidden":
            key = str(error["loc"][-1])
            yield f"{where}: unknown field{nearest(key, known())}"
        elif error["type"] == "missing":
            yield f"{where}: this field is required"
        elif error["type"] == "union_tag_invalid":
            context = error["ctx"]
            tags = [t.strip().strip("'") for t in context["expected_tags"].split(",")]
            yield (
                f"{where}: {context['discriminator']} is {context['tag']!r}{nearest(context['tag'], tags)}, "
                f"expected one of {', '.join(tags)}"
            )
        else:
            shown = "" if isinstance(given, dict | list) else f", got {given!r}"
            yield f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _steps(loc: tuple[Any, ...], mapping: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of ``loc`` that are keys of the file (not names of union members), each with its node."""
    node = mapping
    for i, part in enumerate(loc):
        if isinstance(node, list) and isinstance(part, int) and part < len(node):
            yield part, node
            node = node[part]
        elif isinstance(node, dict) and (part in node or i == len(loc) - 1):
            yield part, node
            node = node.get(part)


def _place(loc: tuple[Any, ...], mapping: Any) -> str:
    return ".".join(str(part) for part, _ in _steps(loc, mapping)) or "scenario"
