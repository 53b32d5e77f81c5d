"""Values of fields as they are typed and shown, and which fields stand at the top."""

import math
from typing import Any

import yaml

from simulator.catalog import in_catalog
from simulator.errors import ServelabError
from simulator.explorer.form import Field
from simulator.explorer.text import value_of

LARGEST = 10**12
LADDERS = {
    "tensor_parallel_size": (1, 2, 4, 8),
    "max_num_seqs": tuple(2**k for k in range(4, 11)),
    "max_num_batched_tokens": tuple(2**k for k in range(9, 15)),
}


def knobs(found: list[Field], deployment: int) -> list[Field]:
    """The fields that matter most, of those that the scenario has."""
    of = ("deployments", deployment)
    engine = [(*of, "engine", name) for name in LADDERS]
    wanted = [("workload", "rate_rps"), (*of, "gpu"), (*of, "replicas"), *engine]
    by_path = {f.path: f for f in found}
    return [by_path[p] for p in wanted if p in by_path and by_path[p].kind != "yaml" and reached(by_path[p])]


def reached(f: Field) -> bool:
    """Whether a knob can show the field's value.

    >>> reached(Field(("workload", "rate_rps"), "Workload", "number", value=0.0))
    False
    """
    name, value = f.path[-1], f.value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name == "rate_rps":
        return (whole or isinstance(value, float)) and 1e-9 <= value <= 1e9
    if name == "replicas":
        return whole and 0 <= value <= 100_000
    return name not in LADDERS or value is None or (whole and 1 <= value <= LARGEST)


def listed(f: Field) -> bool:
    """Whether a knob is a list of the catalog's names: they all show then, where a text field offers only those like
    its text."""
    return f.path[-1] == "gpu" and isinstance(f.value, str) and in_catalog("gpu", f.value)


def steps(f: Field) -> list[tuple[str, Any]]:
    """Labels and values of a knob that moves in steps, an empty text for the default; its own value is one of them."""
    out: list[tuple[str, Any]] = [("default", "")] if f.nullable else []
    out += [(f"{v:,}", v) for v in LADDERS[str(f.path[-1])]]
    return out if f.value is None or f.value in [v for _, v in out] else [*out, (f"{f.value:,}", f.value)]


def options(f: Field) -> list[tuple[str, Any]]:
    """Labels and values of a choice.

    >>> options(Field(("a",), "SLO", "choice", value="x", choices=("x", "y"), nullable=True))
    [('default', None), ('x', 'x'), ('y', 'y')]
    """
    out = [(str(c), c) for c in f.choices]
    if f.nullable or f.value is None:
        out.insert(0, ("default", None))
    return out if f.value in [v for _, v in out] else [*out, (str(f.value), f.value)]


def shown(f: Field) -> str:
    """The value as text; empty for the default.

    >>> shown(Field(("a",), "SLO", "number", value=0.05)), shown(Field(("a",), "SLO", "yaml", value=[1, 2]))
    ('0.05', '- 1\\n- 2')
    """
    if f.value is None:
        return ""
    if f.kind == "yaml":
        return yaml.safe_dump(f.value, sort_keys=False).strip().removesuffix("...").strip()
    short = isinstance(f.value, float) and f.value == float(f"{f.value:g}")
    return f"{f.value:g}" if short else str(f.value)


def entered(f: Field, value: Any) -> Any:
    """What was entered as a value of the field; None: its default. Raises ServelabError for text that is no such value.

    >>> entered(Field(("a",), "SLO", "integer"), "1,024"), entered(Field(("a",), "SLO", "number"), "")
    (1024, None)
    """
    if f.kind in ("boolean", "choice"):
        return value
    if isinstance(value, float):
        return float(f"{value:.4g}")  # of a slider
    if not isinstance(value, str):
        return value
    if value.strip() == "":
        return None
    if f.kind in ("text", "suggest"):
        return value.strip()
    if f.kind == "yaml":
        return value_of(value, f.name)
    try:
        number = float(value.replace(",", ""))
    except ValueError:
        raise ServelabError(f"{f.name}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise ServelabError(f"{f.name}: {value!r} is not a finite number")
    if f.kind != "integer" or not number.is_integer():
        return number
    if abs(number) > LARGEST:
        raise ServelabError(f"{f.name}: {value!r} is beyond the largest whole number here, {LARGEST:,}")
    return int(number)
