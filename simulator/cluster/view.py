"""What routers and admission may look at: which pods take requests, and signals of them, as old as they really are."""

from typing import NamedTuple

import numpy as np

from simulator.cluster.fleets import Fleets
from simulator.workload.columns import OWN_STREAM
from simulator.workload.table import RequestTable


class Signals(NamedTuple):
    """Of each pod, in the numbering of the fleets: what a model server's metrics endpoint shows."""

    waiting: np.ndarray  # requests not yet in a batch
    running: np.ndarray
    queued_tokens: np.ndarray  # prompt tokens of requests without a first token
    kv_use: np.ndarray  # share of KV blocks held


class View:
    """The fleets at the moment of one decision.

    ``ready`` are the pods that may be chosen, rising; ``outstanding`` is the gateway's own count of what it has sent
    and has not ended, which has no age. ``signals`` are scraped: they stand as of the first decision in each interval
    of ``age_s`` [s] (0: always fresh).
    """

    def __init__(self, fleets: Fleets, table: RequestTable, age_s: float = 0.0) -> None:
        self.fleets, self.table, self.age_s = fleets, table, age_s
        self.now_s = 0.0
        self.ready = np.arange(len(fleets))
        self._scraped = -1.0
        self._signals: Signals | None = None

    def at(self, now_s: float, ready: np.ndarray) -> "View":
        self.now_s, self.ready = now_s, ready
        if self.age_s == 0 or now_s // self.age_s != self._scraped:
            self._signals = None
        return self

    @property
    def outstanding(self) -> np.ndarray:
        return self.fleets.outstanding()

    @property
    def signals(self) -> Signals:
        if self._signals is None:
            self._signals = Signals(*self.fleets.signals())
            self._scraped = self.now_s // self.age_s if self.age_s else -1.0
        return self._signals

    def cached_tokens(self, row: int) -> np.ndarray:
        """Prompt tokens of request ``row`` in the prefix cache of each pod of ``ready``: exact and without age."""
        return self.fleets.cached_tokens(row, self.ready)

    def prefix(self, row: int) -> int:
        """What requests that begin alike have in common: their first shared stream, or one of the request's own."""
        first = int(self.table.segment_start[row])
        shared = first < int(self.table.segment_start[row + 1])
        return int(self.table.segment_stream[first]) if shared else OWN_STREAM + row
