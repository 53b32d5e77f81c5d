"""Requests through the replicas of all deployments: one compiled pass, or SimPy where routing needs the state."""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from math import inf, nextafter
from time import perf_counter

import numpy as np
import simpy

from simulator.cluster.replicas import Replicas
from simulator.cluster.router import Router, fixed_choices

Progress = Callable[[float, int], None]  # simulated time [s], requests that have arrived
SLICE_S = 0.1  # computing time between two looks at Ctrl-C and progress


class Fleets:
    """The replicas of all deployments under one numbering, in order of the deployments."""

    def __init__(self, parts: Sequence[Replicas]) -> None:
        self.parts = parts
        self.first = [0, *accumulate(len(p) for p in parts)]

    def __len__(self) -> int:
        return self.first[-1]

    def outstanding(self) -> np.ndarray:
        """Requests taken and not ended, of each replica; live for a single deployment."""
        if len(self.parts) == 1:
            return self.parts[0].outstanding
        return np.concatenate([p.outstanding for p in self.parts])

    def push(self, row: int, replica: int) -> bool:
        part = bisect_right(self.first, replica) - 1
        return self.parts[part].push(row, replica - self.first[part])

    def advance(self, until: float) -> None:
        for part in self.parts:
            part.advance(until)

    def expect(self, choices: np.ndarray) -> None:
        for i, part in enumerate(self.parts):
            local = choices - self.first[i]
            part.expect(np.where((local >= 0) & (local < len(part)), local, -1))

    def drain(self) -> Iterator[None]:
        """Run until all replicas are idle; yields now and then."""
        for part in self.parts:
            yield from part.drain()


def run_requests(
    fleets: Fleets, router: Router, arrival_s: np.ndarray, method: str, progress: Progress
) -> tuple[str, float | None]:
    """Serve all requests; returns the method used and, after Ctrl-C, the simulated time [s] reached.

    ``method`` is ``auto``, ``compiled`` (one pass; needs a router that does not look at the replicas) or ``simpy``.
    """
    choices = None if method == "simpy" else fixed_choices(router, len(arrival_s))
    if choices is None:
        return "simpy", _with_simpy(fleets, router, arrival_s, progress)
    return "compiled", _in_one_pass(fleets, choices, arrival_s, progress)


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
        return reached
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
    try:
        env.run()
        for _ in fleets.drain():
            progress(env.now, len(times))
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            fleets.advance(env.now)
        return float(env.now)
    return None


def at(env: simpy.Environment, t: float) -> simpy.Event:
    """An event at exactly ``t`` [s]: now + delay is made to round to it."""
    delay = t - env.now
    while env.now + delay < t:
        delay = nextafter(delay, inf)
    while env.now + delay > t:
        delay = nextafter(delay, -inf)
    return env.timeout(max(delay, 0.0))
