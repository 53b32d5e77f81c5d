"""Drives a scheduler through a case as vLLM's engine core does, and keeps every decision.

Schedules until one batch (two when asynchronous) is in flight, then hands the outputs of the oldest back.
Requests arrive before a schedule; aborts come before a schedule or between a schedule and the update that
follows it. The scheduler is given as an object, so nothing here imports vllm.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np

from calibration.oracle.cases import Case
from calibration.oracle.token_streams import TokenStreams

SOURCE = "scheduler classes driven without a model"
MOST_IDLE_SCHEDULES = 3
"""Schedules in a row that may run nothing with nothing in flight, before the case counts as stuck."""


class StuckError(RuntimeError):
    """The scheduler makes no progress: some request can never run under these flags."""


class Batch(NamedTuple):
    """What one schedule decided; `handle` is the scheduler's own, to be given back with the outputs."""

    tokens: dict[str, int]
    computed_before: dict[str, int]
    preempted: list[str]
    free_blocks: int
    handle: Any

    def event(self) -> dict[str, Any]:
        return {
            "schedule": self.tokens,
            "computed_before": self.computed_before,
            "preempted": self.preempted,
            "free_blocks": self.free_blocks,
        }


class SchedulerLike(Protocol):
    """A scheduler under test; requests go by their ids."""

    version: str

    def add(self, row: int) -> None: ...
    def busy(self) -> bool: ...
    def states(self) -> dict[str, Any]: ...
    def outputs(self, name: str) -> int | None: ...
    def schedule(self) -> Batch: ...
    def update(self, batch: Batch, sampled: dict[str, list[int]]) -> None: ...
    def abort(self, name: str) -> None: ...


class Drive:
    """One case through one scheduler."""

    def __init__(self, case: Case, streams: TokenStreams, scheduler: SchedulerLike) -> None:
        self.case, self.streams, self.scheduler = case, streams, scheduler
        self.to_come = deque(range(len(case.requests)))
        self.depth = 2 if case.engine["async_scheduling"] else 1
        self.in_flight: deque[tuple[int, Batch]] = deque()
        self.batches = 0
        self.events: list[dict[str, Any]] = []
        self.rng = np.random.default_rng([2, case.seed])

    def record(self) -> dict[str, Any]:
        """Runs the case to its end and returns the recording. Raises `StuckError` where nothing moves."""
        self._run()
        case = self.case
        wide = {} if case.profile == "narrow" else {"profile": case.profile, "empty_schedules": True}
        return {
            "seed": case.seed,
            "vllm": self.scheduler.version,
            "source": SOURCE,
            "engine": case.engine,
            "num_blocks": case.engine["num_gpu_blocks_override"],
            "block_size": case.engine["block_size"],
            **wide,
            "in_flight": self.depth,
            "requests": case.requests,
            "events": self.events,
        }

    def _run(self) -> None:
        step = idle = 0
        while self.to_come or self.scheduler.busy() or self.in_flight:
            self._arrive(step)
            step += 1
            self._maybe_abort()
            ran = self.scheduler.busy() and self._schedule()
            if ran and len(self.in_flight) < self.depth:
                continue
            if self.in_flight:
                self._maybe_abort()
                self._update()
                idle = 0
            elif self.scheduler.states():
                idle += 1
            if idle > MOST_IDLE_SCHEDULES:
                raise StuckError(f"seed {self.case.seed}: {len(self.scheduler.states())} requests never run")

    def _arrive(self, step: int) -> None:
        added = []
        while self.to_come and self.case.requests[self.to_come[0]]["step"] <= step:
            row = self.to_come.popleft()
            self.scheduler.add(row)
            added.append(self.case.requests[row]["id"])
        if added:
            self.events.append({"add": added})

    def _schedule(self) -> bool:
        """One schedule; whether it scheduled any token. One that did not is kept in the wide profile only."""
        pointless = not self.scheduler.states()
        batch = self.scheduler.schedule()
        if batch.tokens:
            self.in_flight.append((self.batches, batch))
            self.batches += 1
        elif pointless or self.case.profile == "narrow":
            return False
        self.events.append(batch.event())
        return bool(batch.tokens)

    def _update(self) -> None:
        """Hands made-up outputs of the oldest batch back."""
        number, batch = self.in_flight.popleft()
        ends = {name: batch.computed_before[name] + n for name, n in batch.tokens.items()}
        self.scheduler.update(batch, {name: self._sample(name, end) for name, end in ends.items()})
        left = self.scheduler.states()
        self.events.append({"update": number, "finished": sorted(name for name in ends if name not in left)})

    def _sample(self, name: str, computed: int) -> list[int]:
        """What a step ending at `computed` tokens samples: nothing before all known tokens are computed."""
        row = self.streams.row[name]
        position = computed - self.case.requests[row]["prompt_tokens"]
        known = self.scheduler.outputs(name)
        if known is None or position < known:
            return []
        if position > known:
            raise RuntimeError(f"seed {self.case.seed}, {name}: output {position} sampled before {known}")
        return [self.streams.output(row, position)]

    def _maybe_abort(self) -> None:
        """At the case's rate, aborts one or more requests in order, any state as likely as another."""
        alive = len(self.scheduler.states())
        if not alive or self.rng.random() >= self.case.abort_rate:
            return
        chosen: list[str] = []
        for _ in range(int(self.rng.choice([1, 1, 1, 2, 3, alive]))):
            by_state: dict[Any, list[str]] = {}
            for name, state in self.scheduler.states().items():
                by_state.setdefault(state, []).append(name)
            if not by_state:
                break
            names = list(by_state.values())[int(self.rng.integers(len(by_state)))]
            chosen.append(names[int(self.rng.integers(len(names)))])
            self.scheduler.abort(chosen[-1])
        self.events.append({"abort": chosen})
