"""Requests through the replicas of all deployments: one compiled pass, or SimPy where routing needs the state."""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from math import inf, nextafter
from time import perf_counter
from typing import Any

import numpy as np
import simpy

from simulator.cluster.clients import Clients
from simulator.cluster.replicas import BATCHES_PER_CALL, Replicas
from simulator.cluster.router import Router, fixed_choices
from simulator.engine import loop
from simulator.engine.compiled import JIT
from simulator.engine.uncached import python_handle
from simulator.workload.table import RequestTable

Progress = Callable[[float, int], None]  # simulated time [s], requests that have arrived
SLICE_S = 0.1  # computing time between two looks at Ctrl-C and progress


class Fleets:
    """The replicas of all deployments under one numbering, in order of the deployments."""

    def __init__(self, parts: Sequence[Replicas]) -> None:
        self.parts = parts
        self.first = [0, *accumulate(len(p) for p in parts)]
        self._handles: Any = None

    def __len__(self) -> int:
        return self.first[-1]

    def outstanding(self) -> np.ndarray:
        """Requests taken and not ended, of each replica; live for a single deployment."""
        if len(self.parts) == 1:
            return self.parts[0].outstanding
        return np.concatenate([p.outstanding for p in self.parts])

    def latest(self) -> float:
        """The latest time [s] up to which outputs were handed over."""
        return max(float(part.fleet.replica["updated_at"].max()) for part in self.parts)

    def push(self, row: int, replica: int) -> bool:
        part = bisect_right(self.first, replica) - 1
        return self.parts[part].push(row, replica - self.first[part])

    def advance(self, until: float) -> None:
        for part in self.parts:
            part.advance(until)

    def arrives(self, row: int, at: float, timeout_s: float) -> None:
        """Request ``row``, whose arrival was not known beforehand, arrives at ``at`` [s]."""
        for part in self.parts:
            part.arrives(row, at, timeout_s)

    def to_notice(self, until: float) -> tuple[float, list[tuple[int, bool]]]:
        """Advance all replicas in step to ``until`` [s], sooner to where a watched request has ended.

        Returns the time reached, all outputs at it handed over, and what ended there: row, whether completed.
        It may also come back earlier without any, after `BATCHES_PER_CALL` batches.
        """
        python = self.parts[0].python_loop
        if python is not None:
            handles: Any = [python_handle(p.fleet, p.handle) for p in self.parts]
            code, which, reached = python["until_notice"](handles, until, BATCHES_PER_CALL)
        else:
            if self._handles is None:
                self._handles = (
                    np.stack([p.handle for p in self.parts]) if JIT else [p.fleet for p in self.parts]
                )
            code, which, reached = loop.until_notice(self._handles, until, BATCHES_PER_CALL)
        if code not in (loop.REACHED, loop.IDLE):
            self.parts[which].heed(code)
            self._handles = None  # making room may have moved the arrays
            reached = min(reached, nextafter(until, -inf))  # something at that time may be left to do
        return reached, [ended for part in self.parts for ended in part.noticed()]

    def expect(self, choices: np.ndarray) -> None:
        for i, part in enumerate(self.parts):
            local = choices - self.first[i]
            part.expect(np.where((local >= 0) & (local < len(part)), local, -1))

    def drain(self) -> Iterator[None]:
        """Run until all replicas are idle; yields now and then."""
        for part in self.parts:
            yield from part.drain()


def run_requests(
    fleets: Fleets, router: Router, table: RequestTable, timeout_s: float, method: str, progress: Progress
) -> tuple[str, float | None]:
    """Serve all requests; returns the method used and, after Ctrl-C, the simulated time [s] reached.

    ``method`` is ``auto``, ``compiled`` (one pass; needs a router that does not look at the replicas, and requests
    that do not wait for answers) or ``simpy``.
    """
    if table.reacts:
        return "simpy", _with_answers(fleets, router, table, timeout_s, progress)
    choices = None if method == "simpy" else fixed_choices(router, len(table))
    if choices is None:
        return "simpy", _with_simpy(fleets, router, table.arrival_s, progress)
    return "compiled", _in_one_pass(fleets, choices, table.arrival_s, progress)


def _in_one_pass(
    fleets: Fleets, choices: np.ndarray, arrival_s: np.ndarray, progress: Progress
) -> float | None:
    """All replicas side by side in slices of simulated time, each about `SLICE_S` of computing."""
    fleets.expect(choices)
    last = float(arrival_s[-1]) if len(arrival_s) else 0.0
    reached, width = 0.0, max(last / 1000, 1e-3)
    try:
        while reached < last:
            began = perf_counter()
            fleets.advance(reached + width)
            reached += width
            progress(min(reached, last), int(np.searchsorted(arrival_s, reached)))
            width *= 2.0 if perf_counter() - began < SLICE_S / 2 else 1.0
        for _ in fleets.drain():
            progress(last, len(arrival_s))
    except KeyboardInterrupt:
        return max(reached, fleets.latest())
    return None


def _with_simpy(fleets: Fleets, router: Router, arrival_s: np.ndarray, progress: Progress) -> float | None:
    env = simpy.Environment()
    times = arrival_s.tolist()
    state = {"row": 0, "said": perf_counter()}

    def arrivals() -> Generator[simpy.Event, None, None]:
        for row, t in enumerate(times):
            if t > env.now:
                yield at(env, t)
            fleets.advance(t)
            fleets.push(row, router.choose(row, fleets.outstanding()))
            state["row"] = row + 1
            if row % 256 == 0 and perf_counter() - state["said"] > SLICE_S:
                state["said"] = perf_counter()
                progress(t, row)

    env.process(arrivals())
    return _run(env, fleets, lambda: progress(env.now, len(times)))


def _with_answers(
    fleets: Fleets, router: Router, table: RequestTable, timeout_s: float, progress: Progress
) -> float | None:
    """Requests that may wait for answers: the replicas go from one such answer, or arrival, to the next."""
    env, clients = simpy.Environment(), Clients(table)
    state: dict[str, Any] = {"sent": 0, "said": perf_counter()}

    def requests() -> Generator[simpy.Event, None, None]:
        while True:
            due = clients.due()
            reached, ended = fleets.to_notice(due)
            if perf_counter() - state["said"] > SLICE_S:
                state["said"] = perf_counter()
                progress(env.now, state["sent"])
            if env.now < reached < inf:
                yield at(env, reached)
            for row, completed in ended:
                clients.ended(row, env.now, completed)
            if ended or reached < due:
                continue
            if due == inf:
                return
            row = clients.take()
            state["sent"] += 1
            fleets.arrives(row, due, timeout_s)
            if not fleets.push(row, router.choose(row, fleets.outstanding())):
                clients.ended(row, due, False)

    env.process(requests())
    return _run(env, fleets, lambda: progress(env.now, state["sent"]))


def _run(env: simpy.Environment, fleets: Fleets, draining: Callable[[], None]) -> float | None:
    """Run to the end, ``draining`` while the last requests are served; after Ctrl-C the time [s] reached."""
    try:
        env.run()
        for _ in fleets.drain():
            draining()
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            fleets.advance(env.now)
        return max(float(env.now), fleets.latest())
    return None


def at(env: simpy.Environment, t: float) -> simpy.Event:
    """An event at exactly ``t`` [s]: now + delay is made to round to it."""
    delay = t - env.now
    while env.now + delay < t:
        delay = nextafter(delay, inf)
    while env.now + delay > t:
        delay = nextafter(delay, -inf)
    return env.timeout(max(delay, 0.0))
