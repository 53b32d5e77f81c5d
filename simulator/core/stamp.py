"""What a figure was made from, in one line: the hash of a scenario and the seed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def scenario_hash(mapping: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that stand for a scenario, given as plain data (`Scenario.to_mapping`).

    >>> scenario_hash({"a": 1, "b": 2}) == scenario_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(mapping, sort_keys=True).encode()).hexdigest()[:8]


def stamp(mapping: Mapping[str, Any], seed: int | None = None) -> str:
    """The corner of a chart: which scenario, which seed.

    >>> stamp({}, 7)
    'scenario 44136fa3, seed 7'
    """
    return f"scenario {scenario_hash(mapping)}" + ("" if seed is None else f", seed {seed}")
