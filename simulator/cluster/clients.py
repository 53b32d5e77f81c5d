"""Clients whose next request waits for an answer: turns of a session, calls of an agent, closed loops."""

from heapq import heappop, heappush

import numpy as np

from simulator.workload.columns import FREED, NONE
from simulator.workload.table import RequestTable


class Clients:
    """Which requests are due, and when; see `RequestTable` for what makes a request wait."""

    def __init__(self, table: RequestTable) -> None:
        self._wait_s, self._until_s = table.wait_s, table.until_s
        self._pool_of = table.pool
        rows = np.flatnonzero((table.after == NONE) & (table.arrival_s < table.until_s))
        self._open = rows.tolist()
        self._times = table.arrival_s[rows].tolist()
        self._next = 0
        self._due: list[tuple[float, int]] = []
        after = np.where(table.after >= 0, table.after, len(table))
        order = np.argsort(after, kind="stable")
        self._followers = order  # rows by the row that they come after
        self._first = np.searchsorted(after[order], np.arange(len(table) + 1))
        self._pools: dict[int, list[int]] = {}
        for pool in np.unique(table.pool[table.after == FREED]).tolist():
            waiting = np.flatnonzero((table.after == FREED) & (table.pool == pool))
            self._pools[pool] = waiting[::-1].tolist()  # the next one last

    @staticmethod
    def watched(table: RequestTable) -> np.ndarray:
        """The requests whose end makes others be sent."""
        found = table.pool >= 0
        found[table.after[table.after >= 0]] = True
        return found

    def _open_s(self) -> float:
        """Time [s] of the next request that does not depend on an answer."""
        return self._times[self._next] if self._next < len(self._times) else np.inf

    def due(self) -> float:
        """Time [s] of the next request, inf when none is known to come."""
        return min(self._open_s(), self._due[0][0]) if self._due else self._open_s()

    def take(self) -> int:
        """The next request; at one time those that do not depend on an answer come first."""
        if self._due and self._due[0][0] < self._open_s():
            return heappop(self._due)[1]
        self._next += 1
        return self._open[self._next - 1]

    def ended(self, row: int, at: float, completed: bool) -> None:
        """Request ``row`` ended at ``at`` [s]: what follows it becomes due, or its place in the closed loop is free."""
        sent = False
        if completed:
            for follower in self._followers[self._first[row] : self._first[row + 1]].tolist():
                sent |= self._send(follower, at)
        waiting = self._pools.get(int(self._pool_of[row]))
        if not sent and waiting:
            self._send(waiting.pop(), at)

    def _send(self, row: int, at: float) -> bool:
        due = at + float(self._wait_s[row])
        if due >= self._until_s[row]:
            return False
        heappush(self._due, (due, row))
        return True
