"""The JSON Schema of a scenario -> its parts, each with rows of field, type, default, limits, unit and meaning."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simulator.explorer.meanings import MEANINGS

LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "≥ {} characters",
    "maxLength": "≤ {} characters",
    "minItems": "≥ {} items",
    "maxItems": "≤ {} items",
    "pattern": "matches `{}`",
}
UNITS = [
    (r"usd_per_1m_tokens$", lambda m: "USD/1M token"),
    (r"usd_per_(.+)$", lambda m: "USD/" + m[1].replace("_", "-")),
    (r"(?:^|_)bytes_per_s$", lambda m: "byte/s"),
    (r"(?:^|_)(?:bytes)(?:$|_)", lambda m: "byte"),
    (r"(?:^|_)flops$", lambda m: "FLOP/s"),
    (r"_(?:s|seconds)$|^seconds$", lambda m: "s"),
    (r"_rps$", lambda m: "request/s"),
    (r"_ms$", lambda m: "ms"),
    (r"_us$", lambda m: "us"),
    (r"_w$", lambda m: "W"),
    (r"_gb$", lambda m: "GB"),
    (r"microsecond|_micros$", lambda m: "us"),
    (r"(?:^|_)tokens$|max_model_len", lambda m: "token"),
]
TOLD = re.compile(r" ?\[((?:token|request|s\b|byte|B\b|USD|W\b|GB|FLOP|OP/s|ms|us|g/|%)[^\]]*)\]")
COLUMN = re.compile(r"^(\w+(?:, \w+)*)(?:  +| )(?=\S)(.*)$")


@dataclass(frozen=True)
class Row:
    """One field."""

    name: str
    type: str
    default: str
    limits: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Part:
    """One object of a scenario. ``chosen_by``: the field and value that choose it among others, or an empty string."""

    name: str
    text: str
    chosen_by: str
    rows: list[Row]
    uses: list[str]


def anchor(part: str) -> str:
    """Where a part stands on the page."""
    return f"schema-{part.lower()}"


def parts(schema: dict[str, Any]) -> dict[str, Part]:
    """Every part by its name, `Scenario` first."""
    found = {"Scenario": schema, **schema["$defs"]}
    return {name: _part(name, definition, found) for name, definition in found.items()}


def order(found: dict[str, Part], start: str) -> Iterator[str]:
    """Names of the parts that can be reached from ``start``, each one after the first that uses it."""
    seen = {start}
    waiting = [start]
    while waiting:
        name = waiting.pop(0)
        yield name
        fresh = [u for u in found[name].uses if u not in seen]
        seen.update(fresh)
        waiting = list(dict.fromkeys(fresh)) + waiting


def _part(name: str, definition: dict[str, Any], every: dict[str, Any]) -> Part:
    columns, text = split(definition.get("description", ""), list(definition.get("properties", {})))
    rows, uses, chosen = [], [], ""
    for field, node in definition.get("properties", {}).items():
        refs = list(_refs(node))
        uses += refs
        if "const" in node and field in ("kind", "source"):
            chosen = f"`{field}: {node['const']}`"
        meaning = node.get("description") or columns.get(field) or _sentence(text, field)
        meaning = meaning or MEANINGS.get(f"{name}.{field}")
        unit, meaning = _unit(field, meaning or "")
        if not meaning and len(refs) == 1:
            meaning = _first(every[refs[0]])
        if not meaning:
            unit, meaning = _unit(field, MEANINGS.get(f"{name}.{field}") or MEANINGS.get(field, ""))
        if "const" in node and field in ("kind", "source"):
            meaning = "chooses this part"
        default = _default(field, node, definition, every)
        rows.append(Row(field, _type(node, every), default, _limits(node), unit, meaning))
    return Part(name, text, chosen, rows, uses)


def split(text: str, fields: list[str]) -> tuple[dict[str, str], str]:
    """A docstring's lines of ``field   meaning`` (continued by indented ones), and the rest of it.

    >>> split("Head.\\n\\nbase_s  time of\\n        one [s]\\n\\nTail.", ["base_s"])
    ({'base_s': 'time of one [s]'}, 'Head.\\n\\nTail.')
    """
    columns: dict[str, str] = {}
    rest: list[str] = []
    names: list[str] = []
    for line in text.splitlines():
        match = COLUMN.match(line)
        told = match[1].split(", ") if match else []
        if match and all(n in fields for n in told) and (len(told) > 1 or "  " in line[: match.start(2) + 1]):
            names = told
            columns.update(dict.fromkeys(names, match[2]))
        elif names and line.startswith(" "):
            columns.update({n: f"{columns[n]} {line.strip()}" for n in names})
        else:
            names = []
            rest.append(line)
    return columns, re.sub(r"\n{3,}", "\n\n", "\n".join(rest)).strip()


def _sentence(text: str, field: str) -> str:
    """What a text says behind ``field``: up to the end of the clause."""
    match = re.search(rf"``{field}``(?:, [^:`]*(?:``\w+``)?[^:`]*)?: (.+?)(?:[;.](?=\s|$))", text, re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def _first(definition: dict[str, Any]) -> str:
    """First sentence of a part's text."""
    text = " ".join(definition.get("description", "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0] if text else ""


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[1]
        for key, value in node.items():
            if key not in ("default", "discriminator"):
                yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


def _type(node: dict[str, Any], every: dict[str, Any]) -> str:
    """A type in words, with links to parts: by what chooses them, else by their names."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        own = every[name].get("properties", {})
        shown = next((f"`{own[k]['const']}`" for k in ("kind", "source") if "const" in own.get(k, {})), name)
        return f"[{shown}](#{anchor(name)})"
    for key in ("anyOf", "oneOf"):
        if key in node:
            return ", ".join(dict.fromkeys(_type(n, every) for n in node[key]))
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{v}`" for v in node["enum"])
    kind = node.get("type", "anything")
    if kind == "array":
        inner = node.get("prefixItems")
        if inner:
            return "[" + ", ".join(_type(n, every) for n in inner) + "]"
        return f"list of {_type(node['items'], every)}" if node.get("items") else "list"
    if kind == "object":
        inner = node.get("additionalProperties")
        return f"mapping to {_type(inner, every)}" if isinstance(inner, dict) else "mapping"
    return kind


def _default(field: str, node: dict[str, Any], definition: dict[str, Any], every: dict[str, Any]) -> str:
    if "const" in node:
        return ""
    if "default" not in node:
        return "**required**" if field in definition.get("required", []) else "empty"
    value = node["default"]
    if isinstance(value, dict) and value:
        chosen = next((every[r] for r in _refs(node) if _matches(value, every[r])), None)
        if chosen is not None:
            own = chosen.get("properties", {})
            plain = [k for k, v in value.items() if "const" not in own[k] and v in (own[k].get("default"), {}, [])]
            value = {k: v for k, v in value.items() if k not in plain}
            if not value:
                return "its defaults"
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text.replace(chr(34), '') or chr(34) * 2}`"


def _matches(value: dict[str, Any], definition: dict[str, Any]) -> bool:
    own = definition.get("properties", {})
    return set(value) <= set(own) and all(own[k].get("const", v) == v for k, v in value.items())


def _limits(node: dict[str, Any]) -> str:
    found = []
    for one in [node, *node.get("anyOf", []), *node.get("oneOf", [])]:
        found += [text.format(_number(one[key])) for key, text in LIMITS.items() if key in one]
    items = node.get("items")
    if isinstance(items, dict) and (inner := _limits(items)):
        found.append(f"each {inner}")
    return ", ".join(dict.fromkeys(found))


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _unit(field: str, meaning: str) -> tuple[str, str]:
    """The unit that the meaning names in brackets, else the one in the field's name; and the meaning without it.

    >>> _unit("storage_gb", "disks and caches [GB]")
    ('GB', 'disks and caches')
    """
    told = TOLD.search(meaning)
    if told:
        unit = told[1].split(" of ")[0].split(" after ")[0].split(" since ")[0].split(",")[0]
        rest = re.sub(r"\s+([,;]|$)", r"\1", TOLD.sub("", meaning)).strip(" ;,")
        plain = told[1] == unit and len(TOLD.findall(meaning)) == 1
        return re.sub(r"\bB\b", "byte", unit), rest if plain else meaning
    for pattern, unit_of in UNITS:
        if match := re.search(pattern, field):
            return unit_of(match), meaning
    return "", meaning
