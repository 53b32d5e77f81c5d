"""One pod from the wish for it to its end: placed, started phase by phase, ready, drained, asleep, gone."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import numpy as np

from simulator.cluster.cold_start import chain
from simulator.cluster.nodes import Placement, Pod
from simulator.cluster.pod_terms import (
    COUNTERS,
    DRAINING,
    GONE,
    PENDING,
    READY,
    SLEEPING,
    STARTING,
    Life,
    PodNews,
    PodTerms,
    PodWorld,
)
from simulator.cluster.reclaimed import Reclaims
from simulator.records.tables import State

POLL_S = 1.0  # how often a draining pod is looked at


class PodLives:
    """The lives of one deployment's pods; ``changed(now)`` is called whenever one became ready or ended.

    ``log`` gets the phases of every cold start: pod number, slot, phase, start and end [s], node.
    """

    def __init__(self, terms: PodTerms, world: PodWorld, news: PodNews, changed: Callable[[float], None]) -> None:
        self.name, self.part, self._template, self.config = terms.name, terms.part, terms.template, terms.config
        self._weights, self.supply = terms.weights_bytes, world.supply
        self._clock, self._numbers = world.clock, world.numbers
        self._news, self._changed = news, changed
        self._reclaims = Reclaims(terms.reclaim, world.rng, world.clock, self.take_back)
        self.lives: list[Life] = []  # all there ever were
        self.there: list[Life] = []  # those that are not gone
        self.log: list[tuple[int, int, str, float, float, int]] = []
        self.generation = 0
        self._compiled: set[int] = set()
        self._read: set[int] = set()

    # ---- what there is ------------------------------------------------------------------------------------

    def alive(self) -> list[Life]:
        return [p for p in self.there if p.state in (PENDING, STARTING, READY)]

    def ready(self) -> list[Life]:
        return [p for p in self.there if p.state == READY]

    def of_node(self, pod: Pod) -> Life:
        return next(p for p in self.there if p.pod.number == pod.number)

    def instances(self, end_s: float) -> list[tuple[Life, float, float, dict[str, np.ndarray]]]:
        """Each pod that held GPUs: from and to [s], and what it counted in between."""
        out = []
        for life in self.lives:
            if life.held_s is not None:
                to_s = end_s if life.end_s is None else life.end_s
                before = life.before or life.after
                out.append(
                    (life, life.held_s, max(to_s, life.held_s), {k: life.after[k] - before[k] for k in COUNTERS})
                )
        return out

    def close(self) -> None:
        """The run is over: the books of what is still there are closed."""
        for life in self.there:
            if life.state != GONE:
                life.after = self._counters(life.slot)

    # ---- from the wish to readiness -----------------------------------------------------------------------

    def new(self, slot: int, now: float) -> Life:
        number = next(self._numbers)
        t = self._template
        pod = Pod(number, t.deployment, slot, t.gpu, t.tensor_parallel, t.pipeline_parallel, t.priority, t.across_nodes)
        life = Life(pod, slot, self.generation, PENDING, now)
        self.lives.append(life)
        self.there.append(life)
        return life

    def at_start(self, slot: int) -> None:
        """A pod that is there, ready, from time 0 on, if it finds a node."""
        life = self.new(slot, 0.0)
        if self.supply is not None:
            self.supply.request(life.pod, 0.0, partial(self._put, life), self._news.give_way)
            if life.held_s is None:
                return  # it waits for a node like any other
        self._holds(life, 0.0)
        self._compiled.add(life.node)
        self._read.add(life.node)
        if self.supply is not None:
            self.supply.pulled_s[life.node, self.config.image] = 0.0
        self._make_ready(life, 0.0)

    def start(self, slot: int, now: float) -> None:
        """A new pod, to be scheduled."""
        life = self.new(slot, now)
        after = now + self.config.figure("schedule_s")
        self.log.append((life.pod.number, slot, "schedule", now, after, -1))
        self._clock.at(after, self._get_gpus, life, after)

    def wake(self, life: Life, now: float) -> None:
        """A sleeping pod comes back."""
        life.state = STARTING
        self._phase(life, [("wake", self.config.figure("wake_s"))], now)

    def _get_gpus(self, life: Life, now: float) -> None:
        if life.state != PENDING:
            return
        if self.supply is not None:
            self.supply.request(life.pod, now, partial(self._put, life), self._news.give_way)
            return
        life.state = STARTING
        steps = chain(
            self.config,
            self._weights,
            new_node=True,
            has_compiled=self.config.compile_cache == "shared" and bool(self._compiled),
        )
        held = now + steps[0][1]
        self._clock.at(held, self._holds, life, held)
        self._phase(life, steps, now)

    def _holds(self, life: Life, now: float) -> None:
        """The pod has its GPUs, on an instance of its own."""
        if life.state == GONE:
            return
        life.held_s = now
        self._reclaims.watch(life, now)

    def _put(self, life: Life, place: Placement, now: float) -> None:
        """The pod has its GPUs on ``place``."""
        life.node, life.held_s = place.parts[0][0], now
        if now == 0 and self.config.there_at_start:
            return
        pending_s = now - life.wanted_s
        if pending_s > self.config.figure("schedule_s"):
            self.log.append((life.pod.number, life.slot, "pending", life.wanted_s, now, life.node))
        life.state = STARTING
        assert self.supply is not None
        node = self.supply.cluster.nodes[life.node]
        shared = self.config.compile_cache == "shared" and bool(self._compiled)
        on_node = self.config.compile_cache == "node" and life.node in self._compiled
        image = self.config.image
        pulled_s = 0.0 if image in node.images else self.supply.pulled_s.get((life.node, image))
        steps = chain(
            self.config,
            self._weights,
            has_image=pulled_s is not None,
            has_weights=life.node in self._read,
            has_compiled=shared or on_node,
        )
        if pulled_s is None:
            pull = sum(seconds for phase, seconds in steps if phase.startswith("image"))
            self.supply.pulled_s[life.node, image] = now + pull
        elif pulled_s > now:  # another pod has begun to pull it
            steps.insert(0, ("image_pull", pulled_s - now))
        self._phase(life, steps, now)

    def _phase(self, life: Life, steps: list[tuple[str, float]], now: float) -> None:
        """Go through ``steps``, then be ready."""
        if life.state != STARTING:
            return
        if not steps:
            self._read.add(life.node)
            self._compiled.add(life.node)
            self._make_ready(life, now)
            return
        (name, seconds), *rest = steps
        self.log.append((life.pod.number, life.slot, name, now, now + seconds, life.node))
        self._clock.at(now + seconds, self._phase, life, rest, now + seconds)

    def _counters(self, slot: int) -> dict[str, Any]:
        rows = slice(slot * self.part.width, (slot + 1) * self.part.width)
        return {name: self.part.fleet.replica[name][rows].sum() for name in COUNTERS}

    def _make_ready(self, life: Life, now: float) -> None:
        life.state, life.ready_s = READY, now
        if not life.before:
            life.before = self._counters(life.slot)
        if now > 0:
            self.part.forget(life.slot)
        waited = now - life.wanted_s
        why = f"pod {life.pod.number}, {waited:,.0f} s after it was wanted" if now > 0 else "there from the start"
        self._news.note(now, "replica_ready", self.name, life.slot, why)
        self._news.opened(life.slot, True, now)
        self._changed(now)

    # ---- to its end ---------------------------------------------------------------------------------------

    def stop(self, life: Life, now: float, within_s: float = inf) -> None:
        """The pod takes no more requests and ends when it is empty, or after ``within_s`` [s]."""
        if life.state == PENDING and self.supply is not None:
            self.supply.withdraw(life.pod)
        if life.state != READY:
            self._end(life, now)
            return
        life.state = DRAINING
        self._news.opened(life.slot, False, now)
        self._news.note(now, "replica_draining", self.name, life.slot, f"pod {life.pod.number}")
        self._drained(life, now, now + min(self.config.drain_s, within_s))

    def _drained(self, life: Life, now: float, deadline: float) -> None:
        """End a draining pod that is empty, or at its deadline; look again soon otherwise."""
        if life.state != DRAINING:
            return
        left = int(self.part.outstanding()[life.slot])
        if left and now < deadline:
            later = min(now + POLL_S, deadline)
            self._clock.at(later, self._drained, life, later, deadline)
            return
        if left:
            self.part.kill(life.slot, now, int(State.FAILED))
            self._news.note(
                now, "requests_lost", self.name, life.slot, f"{left} requests when pod {life.pod.number} was stopped"
            )
            self._news.noticed(self.part, now)
        asleep = sum(p.state == SLEEPING for p in self.there)
        if asleep < self.config.sleeping and life.generation == self.generation and not life.reclaimed:
            life.state = SLEEPING
            self._news.note(now, "replica_asleep", self.name, life.slot, f"pod {life.pod.number}")
            return
        self._end(life, now)

    def _end(self, life: Life, now: float) -> None:
        life.state, life.end_s = GONE, now
        self._cut_log(life.pod.number, now)
        self.there.remove(life)
        life.after = self._counters(life.slot)
        self._news.note(now, "replica_stopped", self.name, life.slot, f"pod {life.pod.number}")
        if self.supply is not None and life.pod.number in self.supply.cluster.pods:
            self.supply.free(life.pod, now)
        self._changed(now)

    def _cut_log(self, number: int, now: float) -> None:
        """Phases of a pod that is gone end ``now`` at the latest; those planned for later did not take place."""
        for i in range(len(self.log) - 1, -1, -1):
            pod, slot, phase, start, end, node = self.log[i]
            if pod == number and end > now:
                if start < now:
                    self.log[i] = (pod, slot, phase, start, now, node)
                else:
                    del self.log[i]

    def evict(self, pod: Pod, now: float) -> None:
        """``pod`` of this deployment gives its GPUs up; another one is started and waits for room."""
        life = self.of_node(pod)
        if life.state == SLEEPING:
            self._end(life, now)
        else:
            self.stop(life, now)

    def take_back(self, life: Life, now: float, notice_s: float) -> None:
        """The machine of a pod ends ``notice_s`` from ``now`` [s] on; another pod is started at once."""
        if life.state == GONE:
            return
        life.reclaimed = True
        self._news.note(now, "reclaimed", self.name, life.slot, f"pod {life.pod.number} has {notice_s:g} s")
        if life.state == SLEEPING:
            self._end(life, now)
        elif life.state == DRAINING:
            end = now + notice_s
            self._clock.at(end, self._drained, life, end, end)
        else:
            self.stop(life, now, notice_s)
            self._changed(now)
