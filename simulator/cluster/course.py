"""Requests through the replicas of all deployments: one compiled pass, or SimPy where anything depends on their
state."""

from collections.abc import Callable
from contextlib import suppress
from math import inf, nextafter
from time import perf_counter
from typing import Any

import numpy as np
import simpy

from simulator.cluster.clients import Clients
from simulator.cluster.fleets import Fleets
from simulator.records.tables import State
from simulator.workload.table import RequestTable

Progress = Callable[[float, int], None]  # simulated time [s], requests that have arrived
PATIENCE_S = 6 * 3600.0  # so long requests wait for pods that do not come, once nothing else happens
SLICE_S = 0.1  # computing time between two looks at Ctrl-C and progress


def in_one_pass(fleets: Fleets, choices: np.ndarray, arrival_s: np.ndarray, progress: Progress) -> float | None:
    """All replicas side by side in slices of simulated time, each about `SLICE_S` of computing.

    ``choices``: the pod of each request. Returns, after Ctrl-C, the simulated time [s] reached.
    """
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


def routed_in_one_pass(fleets: Fleets, arrival_s: np.ndarray, progress: Progress) -> float | None:
    """One deployment of single replicas, each request to the one with the fewest; returns as `in_one_pass`."""
    part, sent, some = fleets.parts[0], 0, 1000
    try:
        while sent < len(arrival_s):
            began = perf_counter()
            part.route(sent, min(sent + some, len(arrival_s)))
            sent = min(sent + some, len(arrival_s))
            progress(float(arrival_s[sent - 1]), sent)
            some *= 2 if perf_counter() - began < SLICE_S / 2 else 1
        for _ in fleets.drain():
            progress(float(arrival_s[-1]), len(arrival_s))
    except KeyboardInterrupt:
        return max(float(arrival_s[max(sent - 1, 0)]), fleets.latest())
    return None


class Course:
    """A run in simulated time: clients, replicas and SimPy's events, whichever comes first.

    ``arrived(row, now)`` is called with each request that a client sends, ``answered(row, now, state)`` with each that
    the LLM is done with, if ``watching``. Whoever is at the end of a request's path calls `finish`. ``state`` and
    ``end_s`` say how requests ended that the LLM did not end; ``sent_s`` when each was sent.
    """

    def __init__(self, fleets: Fleets, table: RequestTable, timeout_s: float, progress: Progress) -> None:
        self.env = simpy.Environment()
        self.fleets, self.timeout_s, self.now = fleets, timeout_s, 0.0
        self._table, self._progress = table, progress
        self._clients = Clients(table)
        self.sent_s = table.arrival_s.copy()
        self.state = np.zeros(len(table), np.int8)
        self.end_s = np.full(len(table), np.nan)
        self.watching = table.reacts
        self.sent, self._served_s = 0, 0.0
        self.arrived: Callable[[int, float], None] = lambda row, now: None
        self.answered: Callable[[int, float, State], None] = self.finish
        self.waiting: Callable[[], int] = lambda: 0

    def at(self, t: float, call: Callable[..., None], *args: Any) -> None:
        """Have ``call(*args)`` called at exactly ``t`` [s]."""
        event = at(self.env, max(t, self.now))
        event.callbacks.append(lambda _: call(*args))  # type: ignore[union-attr]

    def busy(self, at_s: float | None = None) -> bool:
        """Whether requests are to come or are being served, or wait and something may come of it by ``at_s`` (now)
        [s]."""
        if self._clients.due() < inf or self.fleets.outstanding().any():
            self._served_s = self.now
            return True
        return self.waiting() > 0 and (self.now if at_s is None else at_s) - self._served_s < PATIENCE_S

    def finish(self, row: int, now: float, state: State) -> None:
        """Request ``row`` has ended for its client."""
        self._clients.ended(row, now, state is State.COMPLETED)

    def lose(self, row: int, now: float, state: State) -> None:
        """Request ``row`` ended at ``now`` [s] elsewhere than in the LLM."""
        self.state[row], self.end_s[row] = state, now
        self.finish(row, now, state)

    def run(self) -> float | None:
        """To the end; after Ctrl-C the simulated time [s] reached."""
        said = perf_counter()
        clients, env, fleets = self._clients, self.env, self.fleets
        try:
            while True:
                due, event = clients.due(), env.peek()
                if due == inf and event < inf and not self.busy(event):
                    break  # what is left are controllers without a load
                t = min(due, event)
                if perf_counter() - said > SLICE_S:
                    said = perf_counter()
                    self._progress(self.now, self.sent)
                if self.watching:
                    reached, ended = fleets.to_notice(t)
                    if ended or reached < t:
                        self.now = max(self.now, reached)
                        for row, state in ended:
                            self.answered(row, self.now, state)
                        continue
                elif t < inf:
                    fleets.advance(t)
                if t == inf:
                    break
                self.now = t
                if due <= event:
                    row = clients.take()
                    self.sent += 1
                    self.sent_s[row] = due
                    self.arrived(row, due)
                else:
                    env.step()
            for _ in fleets.drain():
                self._progress(self.now, self.sent)
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                fleets.advance(self.now)
            return max(self.now, fleets.latest())
        return None


def at(env: simpy.Environment, t: float) -> simpy.Event:
    """An event at exactly ``t`` [s]: now + delay is made to round to it."""
    delay = t - env.now
    while env.now + delay < t:
        delay = nextafter(delay, inf)
    while env.now + delay > t:
        delay = nextafter(delay, -inf)
    return env.timeout(max(delay, 0.0))
