"""Presets: lengths and shared prefixes of common uses, from ``data/workload_presets.csv``.

Each row has a value, unit, basis (``fitted``: to a public trace; ``assumption``: ours, to be replaced by your own
figures), source and date. A preset says nothing about arrivals: those are yours.
"""

import csv
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from simulator.catalog.files import data_folder
from simulator.errors import ServelabError, nearest

FILE = "workload_presets.csv"
BASES = ("fitted", "assumption")


@lru_cache
def preset_rows() -> Mapping[str, tuple[Mapping[str, str], ...]]:
    """Rows of the table by preset: preset, field, index, value, unit, basis, source, date."""
    found: dict[str, list[Mapping[str, str]]] = {}
    with open(data_folder() / FILE, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["preset"], []).append(MappingProxyType(row))
    return MappingProxyType({name: tuple(rows) for name, rows in found.items()})


def preset(name: str) -> dict[str, Any]:
    """Fields of a `config.TrafficClass`: prompt_tokens, output_tokens, correlation, shared_prefix, name.

    Raises ServelabError for an unknown name, with the nearest.

    >>> preset("summarisation")["output_tokens"]["kind"]
    'lognormal'
    """
    rows = preset_rows()
    if name not in rows:
        raise ServelabError(f"unknown preset {name!r}{nearest(name, rows)}, expected one of {', '.join(rows)}")
    fields: dict[str, dict[str, Any]] = {}
    out: dict[str, Any] = {"name": name}
    for row in rows[name]:
        part, _, key = row["field"].partition(".")
        value: Any = int(row["value"]) if row["unit"] in ("token", "count") else float(row["value"])
        if not key:
            out[part] = value
        elif row["index"]:
            fields.setdefault(part, {}).setdefault(key, []).append(value)
        else:
            fields.setdefault(part, {})[key] = value
    for part, values in fields.items():
        kind = {} if part == "shared_prefix" else {"kind": "empirical" if "levels" in values else "lognormal"}
        if "median" in values:
            values["median"] = float(values["median"])
        out[part] = {**kind, **values}
    return out
