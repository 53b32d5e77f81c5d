"""What each class of traffic was promised, and which requests kept it.

A class without an SLO of its own has that of the scenario.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from simulator.core.slo import SloConfig, good_requests
from simulator.records.metrics import column, completed, latency


def objectives(meta: Mapping[str, Any]) -> list[tuple[str, SloConfig]]:
    """Each class of traffic and the SLO that holds for it, in the order of ``requests.traffic_class``."""
    whole = meta.get("slo") or {}
    classes = meta.get("traffic_classes") or [{"name": "", "slo": None}]
    return [(c["name"], SloConfig.model_validate(c["slo"] or whole)) for c in classes]


def differ(meta: Mapping[str, Any]) -> bool:
    """Whether some class has an SLO of its own."""
    return any(c["slo"] for c in meta.get("traffic_classes") or [])


def latencies(requests: pd.DataFrame, slo: SloConfig) -> dict[str, np.ndarray]:
    """The latencies that ``slo`` limits [s]."""
    return {name: latency(requests, name) for name in slo.limits()}


def good(requests: pd.DataFrame, meta: Mapping[str, Any]) -> np.ndarray:
    """Which requests completed and met every limit of the SLO of their class."""
    out = np.zeros(len(requests), bool)
    place = column(requests, "traffic_class")
    for i, (_, slo) in enumerate(objectives(meta)):
        mine = place == i
        part = requests if mine.all() else requests[mine]
        out[mine] = good_requests(completed(part), latencies(part, slo), slo)
    return out
