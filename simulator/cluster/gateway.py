"""The gateway in front of the pods: it admits, holds back where it is told to, and routes."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.admission.base import Admission
from simulator.cluster.fleets import Fleets
from simulator.cluster.router.base import Router
from simulator.cluster.view import View
from simulator.records.tables import State
from simulator.workload.table import RequestTable


class GatewayConfig(BaseModel):
    """Flow control: requests beyond ``max_outstanding_per_pod`` wait here, in ``order``, not in vLLM.

    vLLM never evicts a running request to admit a more urgent one, so priorities and fairness act where requests wait
    before it. Without ready pods requests wait here in any case.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_outstanding_per_pod: int | None = Field(default=None, ge=1, description="None: nothing is held back")
    order: Literal["fifo", "priority", "fair"] = Field(
        default="fifo", description="of those held: arrival, priority, or in turn by tenant, weighed by tokens"
    )
    max_waiting: int | None = Field(default=None, ge=1, description="beyond that requests are rejected; None: any")


class Held:
    """Requests held back, in the order in which they are let go."""

    def __init__(self, order: str, table: RequestTable) -> None:
        self._order, self._table = order, table
        self._heap: list[tuple[float, int, int]] = []
        self._gone: set[int] = set()
        self._count = 0
        self._virtual, self._finish = 0.0, defaultdict[int, float](float)  # start-time fair queueing

    def __len__(self) -> int:
        return len(self._heap) - len(self._gone)

    def push(self, row: int) -> None:
        key = 0.0
        if self._order == "priority":
            key = float(self._table.priority[row])
        elif self._order == "fair":
            tenant = int(self._table.tenant[row])
            key = max(self._virtual, self._finish[tenant])
            self._finish[tenant] = key + float(self._table.prompt_tokens[row]) + float(self._table.max_tokens[row])
        self._count += 1
        heappush(self._heap, (key, self._count, row))

    def pop(self) -> int:
        while True:
            key, _, row = heappop(self._heap)
            if row not in self._gone:
                self._virtual = max(self._virtual, key)
                return row
            self._gone.discard(row)

    def discard(self, row: int) -> None:
        """Request ``row``, which waits here, does so no longer."""
        self._gone.add(row)


class Gateway:
    """Takes requests with `arrive`; `lost` is called with those that end here: row, time [s], state."""

    def __init__(
        self,
        config: GatewayConfig,
        fleets: Fleets,
        router: Router,
        admission: Sequence[Admission],
        table: RequestTable,
        view: View,
        serves: dict[int, np.ndarray],
        lost: Callable[[int, float, State], None],
    ) -> None:
        """``serves``: by traffic class the pods whose deployment serves it; empty: all serve everything."""
        self._config, self._fleets, self._router, self._admission = config, fleets, router, admission
        self._table, self._view, self._lost = table, view, lost
        self.accepting = np.ones(len(fleets), bool)
        self.serves = serves
        self._ready: dict[int, np.ndarray] = {}
        self.held: dict[int, Held] = {}
        self.inside: set[int] = set()  # requests that wait here
        self.sent: Callable[[int], None] = lambda pod: None
        self.deadline_s: Callable[[int, float], float] = lambda row, now: inf

    def _class(self, row: int) -> int:
        return int(self._table.traffic_class[row]) if self.serves else 0

    def ready(self, kind: int) -> np.ndarray:
        """Pods that take requests of class ``kind``."""
        if kind not in self._ready:
            pods = np.flatnonzero(self.accepting)
            self._ready[kind] = pods[np.isin(pods, self.serves[kind])] if self.serves else pods
        return self._ready[kind]

    def changed(self, now: float) -> None:
        """The pods that take requests are others now; what waits may go."""
        self._ready.clear()
        self.release(now)

    def waiting(self, kind: int | None = None) -> int:
        """Requests held, of one class or all."""
        return sum(len(h) for k, h in self.held.items() if kind is None or k == kind)

    def _room(self, ready: np.ndarray) -> bool:
        most = self._config.max_outstanding_per_pod
        return len(ready) > 0 and (most is None or int(self._fleets.outstanding()[ready].sum()) < most * len(ready))

    def arrive(self, row: int, now: float) -> bool:
        """Request ``row`` comes at ``now`` [s], where the fleets stand; whether it waits here."""
        kind = self._class(row)
        ready = self.ready(kind)
        held = self.held.get(kind)
        if self._admission:
            view = self._view.at(now, ready)
            for i, policy in enumerate(self._admission):
                if not policy.admits(row, view, len(held) if held else 0):
                    for taken in self._admission[:i]:
                        taken.ended(row)
                    self._lost(row, now, State.REJECTED)
                    return False
        if (held is None or not len(held)) and self._room(ready):
            self._send(row, now, ready)
            return False
        if self._config.max_waiting is not None and self.waiting() >= self._config.max_waiting:
            self.ended(row)
            self._lost(row, now, State.REJECTED)
            return False
        self.held.setdefault(kind, Held(self._config.order, self._table)).push(row)
        self.inside.add(row)
        return True

    def _send(self, row: int, now: float, ready: np.ndarray) -> None:
        pod = self._router.choose(row, self._view.at(now, ready))
        self.sent(pod)
        self._fleets.arrives(row, now, self.deadline_s(row, now))
        if not self._fleets.push(row, pod):
            self.ended(row)
            self._lost(row, now, State.REJECTED)

    def release(self, now: float) -> None:
        """Let go what there is room for at ``now`` [s]."""
        for kind, held in self.held.items():
            ready = self.ready(kind)
            while len(held) and self._room(ready):
                row = held.pop()
                self.inside.discard(row)
                self._send(row, now, ready)

    def give_up(self, row: int) -> None:
        """The client of ``row``, which is held here, is gone."""
        self.inside.discard(row)
        self.held[self._class(row)].discard(row)
        self.ended(row)

    def ended(self, row: int) -> None:
        """A request that was taken has ended."""
        for policy in self._admission:
            policy.ended(row)
