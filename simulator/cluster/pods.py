"""The pods of one deployment: started, drained, put to sleep and replaced until as many are ready as are wanted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import ceil, inf
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.cold_start import PodConfig, chain
from simulator.cluster.nodes import Placement, Pod
from simulator.cluster.reclaim import ReclaimConfig
from simulator.cluster.replicas import Replicas
from simulator.cluster.supply import Supply
from simulator.records.tables import State

PENDING, STARTING, READY, DRAINING, SLEEPING, GONE = range(6)
COUNTERS = (
    "busy",
    "prefill_busy",
    "area",
    "prefill_tokens",
    "decode_tokens",
    "pairs",
    "decode_kv",
    "prefill_kv",
    "sampled",
    "steps",
)
POLL_S = 1.0  # how often a draining pod is looked at


class RolloutConfig(BaseModel):
    """A rolling update, as of a Kubernetes Deployment: all pods are replaced from ``at_s`` on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_s: float = Field(ge=0, description="[s]")
    max_surge: float = Field(default=0.25, ge=0, description="pods above those wanted: below 1 a share, else a number")
    max_unavailable: float = Field(default=0.25, ge=0, description="pods below those wanted, likewise")

    def surge(self, wanted: int) -> int:
        """A share is rounded up, as Kubernetes does; at least one pod may be above or below."""
        return ceil(self.max_surge * wanted) if self.max_surge < 1 else int(self.max_surge)

    def unavailable(self, wanted: int) -> int:
        """A share is rounded down; 1 where no surge is allowed either."""
        found = int(self.max_unavailable * wanted) if self.max_unavailable < 1 else int(self.max_unavailable)
        return max(found, 0 if self.surge(wanted) else 1)


@dataclass
class Life:
    """One pod from the wish for it to its end; ``held_s`` is when it got its GPUs."""

    pod: Pod
    slot: int
    generation: int
    state: int
    wanted_s: float
    held_s: float | None = None
    ready_s: float | None = None
    end_s: float | None = None
    node: int = -1
    reclaimed: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


class Pods:
    """Keeps ``wanted`` pods of ``part`` ready, in the places of its replicas.

    ``opened(slot, accepting, now)`` is called when a pod begins or ceases to take requests, ``log`` gets the phases of
    every cold start: pod number, slot, phase, start and end [s], node.
    """

    def __init__(
        self,
        name: str,
        part: Replicas,
        template: Pod,
        config: PodConfig,
        weights_bytes: float,
        clock: Any,
        supply: Supply | None,
        numbers: count,
        opened: Callable[[int, bool, float], None],
        noticed: Callable[[Replicas, float], None],
        note: Callable[..., None],
        give_way: Callable[[Pod, float], None],
        reclaim: ReclaimConfig | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.name, self._part, self._template, self._config = name, part, template, config
        self._weights, self._clock, self._supply, self._numbers = weights_bytes, clock, supply, numbers
        self._opened, self._noticed, self._note, self._give_way = opened, noticed, note, give_way
        self._reclaim_config, self._rng = reclaim, rng
        self._settling = self._again = False
        self.lives: list[Life] = []  # all there ever were
        self._there: list[Life] = []  # those that are not gone
        self.log: list[tuple[int, int, str, float, float, int]] = []
        self.wanted = 0
        self._generation = 0
        self._rollout: RolloutConfig | None = None
        self._compiled: set[int] = set()
        self._read: set[int] = set()

    # ---- what there is ------------------------------------------------------------------------------------

    def alive(self) -> list[Life]:
        return [p for p in self._there if p.state in (PENDING, STARTING, READY)]

    def ready(self) -> list[Life]:
        return [p for p in self._there if p.state == READY]

    def of_node(self, pod: Pod) -> Life:
        return next(p for p in self._there if p.pod.number == pod.number)

    # ---- what is wanted -----------------------------------------------------------------------------------

    def begin(self, replicas: int) -> None:
        """``replicas`` pods at time 0, ready or to be started."""
        self.wanted = replicas
        if not self._config.there_at_start:
            self.reconcile(0.0)
            return
        self._settling = True
        for slot in range(replicas):
            life = self._new(slot, 0.0)
            if self._supply is not None:
                self._supply.request(life.pod, 0.0, partial(self._put, life), self._give_way)
                if life.held_s is None:
                    continue  # it waits for a node like any other
            self._holds(life, 0.0)
            self._compiled.add(life.node)
            self._read.add(life.node)
            if self._supply is not None:
                self._supply.pulled_s[life.node, self._config.image] = 0.0
            self._make_ready(life, 0.0)
        self._settling = False

    def scale(self, wanted: int, now: float, why: str) -> None:
        """Want ``wanted`` pods from ``now`` [s] on."""
        if wanted != self.wanted:
            kind = "scale_up" if wanted > self.wanted else "scale_down"
            self._note(now, kind, self.name, -1, f"{self.wanted} -> {wanted}: {why}")
            self.wanted = wanted
        self.reconcile(now)

    def roll(self, rollout: RolloutConfig, now: float) -> None:
        """Replace all pods by new ones."""
        self._rollout = rollout
        self._generation += 1
        self._note(now, "rollout", self.name, -1, "a new version of every pod")
        self.reconcile(now)

    def reconcile(self, now: float) -> None:
        """Start or stop pods so that those wanted come about."""
        self._again = True
        if self._settling:
            return
        self._settling = True
        while self._again:
            self._again = False
            self._settle(now)
        self._settling = False

    def _settle(self, now: float) -> None:
        alive = self.alive()
        old = [p for p in alive if p.generation != self._generation]
        if old and self._rollout is not None:
            self._roll_on(alive, old, now)
            return
        for _ in range(self.wanted - len(alive)):
            if not self._start_one(now):
                break
        # unplaced ones go first, then those not ready, then the youngest, as a ReplicaSet chooses
        for life in sorted(alive, key=lambda p: (p.state, -p.wanted_s, -p.slot))[: max(len(alive) - self.wanted, 0)]:
            self._stop(life, now)

    def _roll_on(self, alive: list[Life], old: list[Life], now: float) -> None:
        assert self._rollout is not None
        most = self.wanted + self._rollout.surge(self.wanted)
        least = self.wanted - self._rollout.unavailable(self.wanted)
        new = len(alive) - len(old)
        total = len(alive)
        while new < self.wanted and total < most and self._start_one(now):
            new, total = new + 1, total + 1
        ready = len(self.ready())
        for life in sorted(old, key=lambda p: (p.state, p.wanted_s)):
            if life.state != READY:
                self._stop(life, now)
            elif ready > least:
                ready -= 1
                self._stop(life, now)

    def _start_one(self, now: float) -> bool:
        sleeper = next((p for p in self._there if p.state == SLEEPING), None)
        if sleeper is not None:
            sleeper.state = STARTING
            self._phase(sleeper, [("wake", self._config.figure("wake_s"))], now)
            return True
        taken = {p.slot for p in self._there}
        slot = next((s for s in range(len(self._part)) if s not in taken), None)
        if slot is None:
            return False  # a draining pod has to go first
        life = self._new(slot, now)
        after = now + self._config.figure("schedule_s")
        self.log.append((life.pod.number, slot, "schedule", now, after, -1))
        self._clock.at(after, self._get_gpus, life, after)
        return True

    def _new(self, slot: int, now: float) -> Life:
        number = next(self._numbers)
        t = self._template
        pod = Pod(number, t.deployment, slot, t.gpu, t.tensor_parallel, t.pipeline_parallel, t.priority, t.across_nodes)
        life = Life(pod, slot, self._generation, PENDING, now)
        self.lives.append(life)
        self._there.append(life)
        return life

    # ---- a pod's life -------------------------------------------------------------------------------------

    def _get_gpus(self, life: Life, now: float) -> None:
        if life.state != PENDING:
            return
        if self._supply is not None:
            self._supply.request(life.pod, now, partial(self._put, life), self._give_way)
            return
        life.state = STARTING
        steps = chain(
            self._config,
            self._weights,
            new_node=True,
            has_compiled=self._config.compile_cache == "shared" and bool(self._compiled),
        )
        held = now + steps[0][1]
        self._clock.at(held, self._holds, life, held)
        self._phase(life, steps, now)

    def _holds(self, life: Life, now: float) -> None:
        if life.state == GONE:
            return
        life.held_s = now
        spot = self._reclaim_config
        if spot is not None and self._rng is not None and life.slot >= spot.keep:
            at = now + self._rng.exponential(spot.mean_hours * 3600)
            self._clock.at(at, self._taken_back, life, at, spot.notice_s)

    def _taken_back(self, life: Life, now: float, notice_s: float) -> None:
        """The machine of a pod ends ``notice_s`` from ``now`` [s] on; another pod is started at once."""
        if life.state == GONE:
            return
        life.reclaimed = True
        self._note(now, "reclaimed", self.name, life.slot, f"pod {life.pod.number} has {notice_s:g} s")
        if life.state == SLEEPING:
            self._end(life, now)
        elif life.state == DRAINING:
            end = now + notice_s
            self._clock.at(end, self._drained, life, end, end)
        else:
            self._stop(life, now, notice_s)
            self.reconcile(now)

    def _put(self, life: Life, place: Placement, now: float) -> None:
        """The pod has its GPUs on ``place``."""
        life.node, life.held_s = place.parts[0][0], now
        if now == 0 and self._config.there_at_start:
            return
        pending_s = now - life.wanted_s
        if pending_s > self._config.figure("schedule_s"):
            self.log.append((life.pod.number, life.slot, "pending", life.wanted_s, now, life.node))
        life.state = STARTING
        assert self._supply is not None
        node = self._supply.cluster.nodes[life.node]
        shared = self._config.compile_cache == "shared" and bool(self._compiled)
        on_node = self._config.compile_cache == "node" and life.node in self._compiled
        image = self._config.image
        pulled_s = 0.0 if image in node.images else self._supply.pulled_s.get((life.node, image))
        steps = chain(
            self._config,
            self._weights,
            has_image=pulled_s is not None,
            has_weights=life.node in self._read,
            has_compiled=shared or on_node,
        )
        if pulled_s is None:
            pull = sum(seconds for phase, seconds in steps if phase.startswith("image"))
            self._supply.pulled_s[life.node, image] = now + pull
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
        rows = slice(slot * self._part.width, (slot + 1) * self._part.width)
        return {name: self._part.fleet.replica[name][rows].sum() for name in COUNTERS}

    def _make_ready(self, life: Life, now: float) -> None:
        life.state, life.ready_s = READY, now
        if not life.before:
            life.before = self._counters(life.slot)
        if now > 0:
            self._part.forget(life.slot)
        waited = now - life.wanted_s
        why = f"pod {life.pod.number}, {waited:,.0f} s after it was wanted" if now > 0 else "there from the start"
        self._note(now, "replica_ready", self.name, life.slot, why)
        self._opened(life.slot, True, now)
        self.reconcile(now)

    def _stop(self, life: Life, now: float, within_s: float = inf) -> None:
        if life.state == PENDING and self._supply is not None:
            self._supply.withdraw(life.pod)
        if life.state != READY:
            self._end(life, now)
            return
        life.state = DRAINING
        self._opened(life.slot, False, now)
        self._note(now, "replica_draining", self.name, life.slot, f"pod {life.pod.number}")
        self._drained(life, now, now + min(self._config.drain_s, within_s))

    def _drained(self, life: Life, now: float, deadline: float) -> None:
        """End a draining pod that is empty, or at its deadline; look again soon otherwise."""
        if life.state != DRAINING:
            return
        left = int(self._part.outstanding()[life.slot])
        if left and now < deadline:
            later = min(now + POLL_S, deadline)
            self._clock.at(later, self._drained, life, later, deadline)
            return
        if left:
            self._part.kill(life.slot, now, int(State.FAILED))
            self._note(
                now, "requests_lost", self.name, life.slot, f"{left} requests when pod {life.pod.number} was stopped"
            )
            self._noticed(self._part, now)
        asleep = sum(p.state == SLEEPING for p in self._there)
        if asleep < self._config.sleeping and life.generation == self._generation and not life.reclaimed:
            life.state = SLEEPING
            self._note(now, "replica_asleep", self.name, life.slot, f"pod {life.pod.number}")
            return
        self._end(life, now)

    def _end(self, life: Life, now: float) -> None:
        life.state, life.end_s = GONE, now
        self._cut_log(life.pod.number, now)
        self._there.remove(life)
        life.after = self._counters(life.slot)
        self._note(now, "replica_stopped", self.name, life.slot, f"pod {life.pod.number}")
        if self._supply is not None and life.pod.number in self._supply.cluster.pods:
            self._supply.free(life.pod, now)
        self.reconcile(now)

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
            self._stop(life, now)

    def take_back(self, pod: Pod, now: float, notice_s: float) -> None:
        """The node of ``pod`` ends ``notice_s`` from ``now`` [s] on."""
        self._taken_back(self.of_node(pod), now, notice_s)

    def close(self) -> None:
        """The run is over: the books of what is still there are closed."""
        for life in self._there:
            if life.state != GONE:
                life.after = self._counters(life.slot)

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
