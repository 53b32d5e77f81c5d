"""A queueing station: servers, one queue in order of arrival, batches where it makes them."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from simulator.topology.path import StageBatch


class Clock(Protocol):
    def at(self, t: float, call: Callable[..., None], *args: object) -> None:
        """Have ``call(*args)`` called at ``t`` [s]."""


@dataclass(eq=False)
class Visit:
    """One attempt of request ``row`` at stage ``stage``."""

    row: int
    stage: int
    attempt: int
    service_s: float
    queued_s: float
    start_s: float = inf
    gone: bool = False  # nobody waits for it any longer
    done: Callable[["Visit", float], None] = field(default=lambda visit, now: None)


class Station:
    """``servers`` servers; a batch occupies one of them."""

    def __init__(self, clock: Clock, servers: int, batch: StageBatch | None = None) -> None:
        self._clock, self.servers, self._batch = clock, servers, batch
        self._queue: deque[Visit] = deque()
        self.busy = 0
        self.busy_s = 0.0
        self._woken = inf

    def enter(self, visit: Visit, now: float) -> None:
        self._queue.append(visit)
        self._begin(now)

    def resize(self, servers: int, now: float) -> None:
        """Have ``servers`` servers from now on; those that are busy end what they do."""
        self.servers = servers
        self._begin(now)

    def _begin(self, now: float) -> None:
        while self.busy < self.servers:
            while self._queue and self._queue[0].gone:
                self._queue.popleft()
            if not self._queue:
                return
            size = 1
            if self._batch is not None:
                size = min(len(self._queue), self._batch.max_batch_size)
                closes = self._queue[0].queued_s + self._batch.max_delay_s
                if size < self._batch.max_batch_size and now < closes:
                    if self._woken != closes:
                        self._woken = closes
                        self._clock.at(closes, self._begin, closes)
                    return
            batch = [self._queue.popleft() for _ in range(size)]
            seconds = max(v.service_s for v in batch) + (self._batch.item_s * size if self._batch else 0.0)
            for visit in batch:
                visit.start_s = now
            self.busy += 1
            self.busy_s += seconds
            self._clock.at(now + seconds, self._end, batch, now + seconds)

    def _end(self, batch: list[Visit], now: float) -> None:
        self.busy -= 1
        for visit in batch:
            visit.done(visit, now)
        self._begin(now)
