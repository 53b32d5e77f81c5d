"""Workloads that other tools describe, as ours: inference-perf, GuideLLM, Prometheus metrics of vLLM.

Each reader gives a `Description`: a ``workload:`` mapping, and notes on what does not map or cannot be known. Nothing
is dropped silently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simulator.errors import ServelabError
from simulator.workload.files import check_file


@dataclass(frozen=True)
class Description:
    """``mapping`` is a ``workload:`` of source synthetic, ``notes`` say what it leaves out."""

    mapping: dict[str, Any]
    notes: tuple[str, ...]


def load(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds a mapping. Raises ServelabError for anything else, with the line."""
    path = Path(path)
    check_file(path)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ServelabError(f"{path}: neither YAML nor JSON: {problem}") from None
    if not isinstance(found, dict):
        raise ServelabError(f"{path}: expected a mapping, got {type(found).__name__}")
    return found


def number(where: str, value: Any, least: float = 0.0) -> float:
    """A number above ``least``. Raises ServelabError naming the place."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > least:
        raise ServelabError(f"{where} must be a number above {least:g}, got {value!r}")
    return float(value)


def unmapped(part: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> list[str]:
    """A note for the fields of ``part`` that are not ``known``."""
    rest = [f"{where}{key}" for key, value in part.items() if key not in known and value not in (None, [], {})]
    return [f"not mapped: {', '.join(rest)}"] if rest else []
