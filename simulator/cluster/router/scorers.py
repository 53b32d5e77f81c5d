"""When the gateway is llm-d's endpoint picker: weighted scorers under its names."""

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from simulator.cluster.router.base import Drawn, Scraping
from simulator.cluster.view import View
from simulator.errors import nearest

WAITING_THRESHOLD = 128  # of the load-aware scorer


class ScorersConfig(Scraping):
    """Each pod's score is the sum of weight x score; the highest wins, at a tie one at random [1]_.

    queue-scorer                 1 for the fewest waiting requests, 0 for the most
    kv-cache-utilization-scorer  1 - share of KV blocks held
    prefix-cache-scorer          share of the prompt in the pod's prefix cache
    load-aware-scorer            0.5 without waiting requests, falling to 0 at 128
    active-request-scorer        1 without outstanding requests, 0 for the most
    session-affinity-scorer      1 for the pod of the session's last request

    The picker's own index of prefixes is an approximation; here the caches are known exactly.

    .. [1] Gateway API Inference Extension, endpoint picker configuration; llm-d inference scheduler, architecture.
    """

    kind: Literal["scorers"] = "scorers"
    scorers: dict[str, float] = Field(
        default={"queue-scorer": 2.0, "kv-cache-utilization-scorer": 2.0, "prefix-cache-scorer": 3.0},
        min_length=1,
        description="weight by scorer",
    )
    signal_age_s: float = Field(default=0.05, ge=0, description="interval at which the metrics are scraped [s]")

    @field_validator("scorers")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if name not in SCORERS:
                raise ValueError(f"no scorer {name!r}{nearest(name, SCORERS)}; there are {', '.join(SCORERS)}")
            if weight < 0:
                raise ValueError(f"the weight of {name} must be at least 0, got {weight}")
        return value


def _queue(row: int, view: View, last: int) -> np.ndarray:
    waiting = view.signals.waiting[view.ready]
    most, least = waiting.max(), waiting.min()
    return np.ones(len(waiting)) if most == least else (most - waiting) / (most - least)


def _kv(row: int, view: View, last: int) -> np.ndarray:
    return 1.0 - view.signals.kv_use[view.ready]


def _prefix(row: int, view: View, last: int) -> np.ndarray:
    return view.cached_tokens(row) / max(int(view.table.prompt_tokens[row]), 1)


def _load(row: int, view: View, last: int) -> np.ndarray:
    return 0.5 * np.maximum(1.0 - view.signals.waiting[view.ready] / WAITING_THRESHOLD, 0.0)


def _active(row: int, view: View, last: int) -> np.ndarray:
    active = view.outstanding[view.ready]
    return (active.max() - active) / active.max() if active.max() > 0 else np.ones(len(active))


def _session(row: int, view: View, last: int) -> np.ndarray:
    return (view.ready == last).astype(float)


SCORERS = {
    "queue-scorer": _queue,
    "kv-cache-utilization-scorer": _kv,
    "prefix-cache-scorer": _prefix,
    "load-aware-scorer": _load,
    "active-request-scorer": _active,
    "session-affinity-scorer": _session,
}


class Scorers:
    """The pod with the highest weighted score."""

    def __init__(self, config: ScorersConfig, pods: int, rng: np.random.Generator) -> None:
        self._scorers = [(SCORERS[name], weight) for name, weight in config.scorers.items() if weight > 0]
        self._sticky = config.scorers.get("session-affinity-scorer", 0.0) > 0
        self._last: dict[int, int] = {}
        self._drawn = Drawn(rng)

    def choose(self, row: int, view: View) -> int:
        session = int(view.table.session[row]) if self._sticky else -1
        last = self._last.get(session, -1)
        total = np.zeros(len(view.ready))
        for scorer, weight in self._scorers:
            total += weight * scorer(row, view, last)
        best = np.flatnonzero(total == total.max())
        pod = int(view.ready[best[int(self._drawn[row][0] * len(best))]])
        if session >= 0:
            self._last[session] = pod
        return pod
