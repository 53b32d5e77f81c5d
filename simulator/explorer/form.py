"""A scenario as a form: its JSON Schema and its values -> fields with label, unit, limits and help, by panel.

A new field of a config appears by itself. Members of a union come with the fields of the chosen one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from simulator.catalog import load_gpus, load_models, load_prices
from simulator.catalog.profile import load_profiles
from simulator.explorer.meanings import MEANINGS
from simulator.explorer.starters import STARTERS
from simulator.scenario import Scenario

PANELS = ("Workload", "Model and GPU", "Engine", "Topology", "Autoscaling", "SLO", "Prices")
_TOP = {"workload": "Workload", "slo": "SLO", "prices": "Prices"}
_OF_DEPLOYMENT = {
    "model": "Model and GPU",
    "gpu": "Model and GPU",
    "step_time": "Model and GPU",
    "step_time_factor": "Model and GPU",
    "api_server": "Engine",
    "engine": "Engine",
    "serving": "Engine",
    "autoscaler": "Autoscaling",
    "metrics": "Autoscaling",
    "rollout": "Autoscaling",
}
_TAGS = ("kind", "source")
_UNITS = (
    ("_bytes_per_s", "B/s"),
    ("_bytes", "B"),
    ("_rps", "request/s"),
    ("_token_s", "s/token"),
    ("_seq_s", "s/sequence"),
    ("_kv_s", "s/token"),
    ("_s", "s"),
    ("_months", "month"),
    ("_gb", "GB"),
    ("_hours", "h"),
    ("_w", "W"),
    ("usd_per_1m_tokens", "USD/1M token"),
    ("_tokens", "token"),
    ("_fraction", "share"),
)
Kind = Literal["integer", "number", "boolean", "choice", "suggest", "text", "yaml"]
Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Field:
    """One value of a scenario and how it may be entered.

    ``path`` are the keys to it. ``kind`` is ``choice`` where only ``choices`` are allowed, ``suggest`` where they are
    those of the catalog and others are, too, and ``yaml`` for what has no simpler form. ``minimum`` and ``maximum`` are
    inclusive unless ``exclusive`` says otherwise. ``nullable``: an empty field takes the default, which ``help``
    explains.
    """

    path: Keys
    panel: str
    kind: Kind
    value: Any = None
    default: Any = None
    unit: str = ""
    help: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive: tuple[bool, bool] = (False, False)
    nullable: bool = False
    tag: bool = False

    @property
    def group(self) -> str:
        """The heading that it stands under within its panel."""
        keys = [str(k) for k in self.path[:-1] if not isinstance(k, int)]
        return " ".join(
            keys[1:] if keys[:1] == ["deployments"] or keys[:1] == [self.path[0]] and self.path[0] in _TOP else keys
        )

    @property
    def name(self) -> str:
        """The path as it is written in errors and after --set."""
        return ".".join(map(str, self.path))

    @property
    def label(self) -> str:
        """Name and unit, where the name does not say it.

        >>> Field(("slo", "ttft_s"), "SLO", "number", unit="s").label
        'ttft_s [s]'
        """
        name = str(self.path[-1])
        return f"{name} [{self.unit}]" if self.unit and not (len(self.unit) > 3 and self.unit in name) else name

    @property
    def limits(self) -> str:
        """What is allowed, in words.

        >>> Field(("slo", "attainment"), "SLO", "number", minimum=0, maximum=1, exclusive=(True, False)).limits
        'above 0, at most 1'
        """
        low = "" if self.minimum is None else f"{'above' if self.exclusive[0] else 'at least'} {self.minimum:,.10g}"
        high = "" if self.maximum is None else f"{'below' if self.exclusive[1] else 'at most'} {self.maximum:,.10g}"
        return ", ".join(x for x in (low, high) if x)


@cache
def _schema() -> dict[str, Any]:
    return Scenario.model_json_schema()


def fields(mapping: Mapping[str, Any], deployment: int = 0, schema: Mapping[str, Any] | None = None) -> list[Field]:
    """Fields of a scenario given as plain data: those of one deployment and all that is not of a deployment.

    ``schema``: taken from `Scenario` where not given.
    """
    whole = _schema() if schema is None else schema
    return list(_Walk(whole).object(whole, mapping, (), deployment))


def panel_of(path: Keys) -> str:
    """The panel that a field belongs to; what is not named here is part of the topology.

    >>> panel_of(("deployments", 0, "engine", "max_num_seqs")), panel_of(("router", "kind"))
    ('Engine', 'Topology')
    """
    if path[0] == "deployments":
        return _OF_DEPLOYMENT.get(str(path[2]), "Topology")
    return _TOP.get(str(path[0]), "Topology")


def unit_of(name: str, description: str) -> str:
    """The unit in brackets of a description, or the one that a name ends with.

    >>> unit_of("ttft_s", "limit on it"), unit_of("block_size", "[token]"), unit_of("replicas", "pods")
    ('s', 'token', '')
    """
    found = re.search(r"\[([^\]]+)\]", description)
    if found:
        return found.group(1).partition(" since")[0]
    return next((unit for end, unit in _UNITS if name.endswith(end)), "")


class _Walk:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._defs = schema.get("$defs", {})

    def _open(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            node = {**self._defs[node["$ref"].rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}}
        return node

    def _branches(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Members of a union, those of unions within it too."""
        node = self._open(node)
        inner = node.get("anyOf") or node.get("oneOf")
        if inner is None:
            yield node
            return
        for branch in inner:
            yield from self._branches(branch)

    def object(
        self, node: Mapping[str, Any], value: Mapping[str, Any], path: Keys, deployment: int = 0, tag: str = ""
    ) -> Iterator[Field]:
        required = set(node.get("required", ()))
        for name, child in node.get("properties", {}).items():
            if name in (tag, "schema_version"):
                continue
            if path == () and name == "deployments":
                one = self._open(child["items"])
                yield from self.object(one, value["deployments"][deployment], ("deployments", deployment))
                continue
            meaning = MEANINGS.get(f"{node.get('title')}.{name}") or MEANINGS.get(name, "")
            yield from self._child(child, value.get(name), (*path, name), name in required, meaning)

    def _child(self, child: Mapping[str, Any], value: Any, path: Keys, required: bool, meaning: str) -> Iterator[Field]:
        described = self._open(child)
        text = str(child.get("description") or meaning)
        default = described.get("default")
        branches = [b for b in self._branches(child) if b.get("type") != "null"]
        nullable = not required and default is None
        about: dict[str, Any] = {"panel": panel_of(path), "default": default, "help": text, "nullable": nullable}
        value = default if value is None else value
        tagged = {name: b for b in branches for t in _TAGS if (name := b.get("properties", {}).get(t, {}).get("const"))}
        if len(tagged) > 1 and len(tagged) == len(branches):
            yield from self._union(tagged, value, path, about)
            return
        names = tuple(n for b in branches for n in b.get("enum", ()))
        if len(branches) > 1 and names and (value is None or value in names):
            yield Field(path, kind="choice", value=value, choices=names, **about)
            return
        suggested = _suggestions(path)
        if suggested and (value is None or isinstance(value, str)):
            yield Field(path, kind="suggest", value=value, choices=suggested, **about)
            return
        if len(branches) == 1 and "properties" in branches[0]:
            if isinstance(value, Mapping):
                yield from self.object(branches[0], value, path)
                return
        elif len(branches) == 1:
            yield self._plain(branches[0], value, path, about)
            return
        yield Field(path, kind="yaml", value=value, **about)

    def _union(self, tagged: Mapping[str, Mapping[str, Any]], value: Any, path: Keys, about: dict) -> Iterator[Field]:
        tag = next(t for t in _TAGS if t in next(iter(tagged.values()))["properties"])
        chosen = str((value or {}).get(tag))
        offered = tuple(
            n for n, b in tagged.items() if n == chosen or n in STARTERS.get(str(path[-1]), {}) or not b.get("required")
        )
        yield Field((*path, tag), kind="choice", value=chosen, choices=offered, tag=True, **about)
        if chosen in tagged:
            yield from self.object(tagged[chosen], value, path, tag=tag)

    def _plain(self, node: Mapping[str, Any], value: Any, path: Keys, about: dict) -> Field:
        if "enum" in node:
            return Field(path, kind="choice", value=value, choices=tuple(node["enum"]), **about)
        kind: Any = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "text"}.get(
            node.get("type", "")
        )
        if kind == "boolean" and about["nullable"]:
            return Field(path, kind="choice", value=value, choices=(True, False), **about)
        low, high = node.get("minimum"), node.get("maximum")
        return Field(
            path,
            kind=kind or "yaml",
            value=value,
            unit=unit_of(str(path[-1]), about["help"]),
            minimum=node.get("exclusiveMinimum", low),
            maximum=node.get("exclusiveMaximum", high),
            exclusive=("exclusiveMinimum" in node, "exclusiveMaximum" in node),
            **about,
        )  # type: ignore[arg-type]


@cache
def _catalog(name: str) -> tuple[str, ...]:
    if name == "model":
        return tuple(sorted(load_models()))
    if name == "gpu":
        return tuple(sorted(load_gpus()))
    if name == "provider":
        return tuple(sorted(set(load_prices()["provider"])))
    return tuple(sorted(load_profiles()))


def _suggestions(path: Keys) -> tuple[str, ...]:
    """Names of the catalog that fit a field."""
    last = path[-1]
    if path[0] == "deployments" and last in ("model", "gpu"):
        return _catalog(str(last))
    if path[-2:] == ("step_time", "name"):
        return _catalog("profile")
    return _catalog("provider") if path == ("prices", "provider") else ()
