"""The replicas of all deployments under one numbering of pods."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import inf, nextafter
from typing import Any

import numpy as np

from simulator.cluster.replicas import BATCHES_PER_CALL, Replicas
from simulator.engine import loop
from simulator.engine.compiled import JIT
from simulator.engine.uncached import python_handle
from simulator.records.tables import State


class Fleets:
    """The pods of all deployments, in order of the deployments.

    ``in_step``: the replicas must be advanced in order of time, because some take turns on a GPU.
    """

    def __init__(self, parts: Sequence[Replicas]) -> None:
        self.parts = parts
        self.first = [0, *accumulate(len(p) for p in parts)]
        self.in_step = any(part.shared for part in parts)
        self._handles: Any = None

    def __len__(self) -> int:
        return self.first[-1]

    def outstanding(self) -> np.ndarray:
        """Requests taken and not ended, of each pod; live for a single deployment of one replica a pod."""
        if len(self.parts) == 1:
            return self.parts[0].outstanding()
        return np.concatenate([p.outstanding() for p in self.parts])

    def signals(self) -> tuple[np.ndarray, ...]:
        """Of each pod: requests waiting and running, queued prompt tokens, share of KV blocks held."""
        found = [part.signals() for part in self.parts]
        return tuple(np.concatenate(column) for column in zip(*found, strict=True)) if found[1:] else found[0]

    def cached_tokens(self, row: int, pods: np.ndarray) -> np.ndarray:
        """Prompt tokens of request ``row`` in the prefix cache of each of ``pods``, which rise."""
        if len(self.parts) == 1:
            return self.parts[0].cached_tokens(row, pods)
        edges = np.searchsorted(pods, self.first)
        return np.concatenate(
            [
                p.cached_tokens(row, pods[a:b] - f)
                for p, f, a, b in zip(self.parts, self.first, edges, edges[1:], strict=False)
            ]
        )

    def deployment_of_pods(self) -> list[str]:
        """The name of each pod's deployment."""
        return [part.name for part in self.parts for _ in range(len(part))]

    def part_of(self, pod: int) -> tuple[Replicas, int]:
        """The deployment of ``pod`` and its place in it."""
        part = bisect_right(self.first, pod) - 1
        return self.parts[part], pod - self.first[part]

    def latest(self) -> float:
        """The latest time [s] up to which outputs were handed over."""
        return max(float(part.fleet.replica["updated_at"].max()) for part in self.parts)

    def push(self, row: int, pod: int) -> bool:
        part, place = self.part_of(pod)
        return part.push(row, place)

    def advance(self, until: float) -> None:
        if self.in_step:
            while self.to_notice(until)[0] < until:
                pass
            return
        for part in self.parts:
            part.advance(until)

    def arrives(self, row: int, at: float, deadline_s: float) -> None:
        """Request ``row``, whose arrival was not known beforehand, arrives at ``at``; its client waits to
        ``deadline_s`` [s]."""
        for part in self.parts:
            part.arrives(row, at, deadline_s)

    def to_notice(self, until: float) -> tuple[float, list[tuple[int, State]]]:
        """Advance all replicas in step to ``until`` [s], sooner to where a watched request has ended.

        Returns the time reached, all outputs at it handed over, and what ended there: row and state.
        It may also come back earlier without any, after `BATCHES_PER_CALL` batches.
        """
        python = self.parts[0].python_loop
        if python is not None:
            handles: Any = [python_handle(p.fleet, p.handle) for p in self.parts]
            code, which, reached = python["until_notice"](handles, until, BATCHES_PER_CALL)
        else:
            if self._handles is None:
                self._handles = np.stack([p.handle for p in self.parts]) if JIT else [p.fleet for p in self.parts]
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
        if self.in_step:
            while min(part.peek() for part in self.parts) < inf:
                self.to_notice(inf)
                yield
        for part in self.parts:
            yield from part.drain()
