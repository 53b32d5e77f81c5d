"""How many pods of a deployment are wanted, and which are started, stopped and replaced for that."""

from simulator.cluster.nodes import Pod
from simulator.cluster.pod_life import PodLives
from simulator.cluster.pod_terms import READY, SLEEPING, Life, PodNews, PodTerms, PodWorld
from simulator.cluster.rollout import RolloutConfig


class Pods:
    """Keeps ``wanted`` pods ready, in the places of the deployment's replicas."""

    def __init__(self, terms: PodTerms, world: PodWorld, news: PodNews) -> None:
        self.lives = PodLives(terms, world, news, self.reconcile)
        self.name, self._note = terms.name, news.note
        self.wanted = 0
        self._settling = self._again = False
        self._rollout: RolloutConfig | None = None

    def alive(self) -> list[Life]:
        """Those that are to serve, ready or not."""
        return self.lives.alive()

    def ready(self) -> list[Life]:
        """Those that serve."""
        return self.lives.ready()

    # ---- what is wanted -----------------------------------------------------------------------------------

    def begin(self, replicas: int) -> None:
        """``replicas`` pods at time 0, ready or to be started."""
        self.wanted = replicas
        if not self.lives.config.there_at_start:
            self.reconcile(0.0)
            return
        self._settling = True
        for slot in range(replicas):
            self.lives.at_start(slot)
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
        self.lives.generation += 1
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
        old = [p for p in alive if p.generation != self.lives.generation]
        if old and self._rollout is not None:
            self._roll_on(alive, old, now)
            return
        for _ in range(self.wanted - len(alive)):
            if not self._start_one(now):
                break
        # unplaced ones go first, then those not ready, then the youngest, as a ReplicaSet chooses
        for life in sorted(alive, key=lambda p: (p.state, -p.wanted_s, -p.slot))[: max(len(alive) - self.wanted, 0)]:
            self.lives.stop(life, now)

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
                self.lives.stop(life, now)
            elif ready > least:
                ready -= 1
                self.lives.stop(life, now)

    def _start_one(self, now: float) -> bool:
        there = self.lives.there
        sleeper = next((p for p in there if p.state == SLEEPING), None)
        if sleeper is not None:
            self.lives.wake(sleeper, now)
            return True
        taken = {p.slot for p in there}
        slot = next((s for s in range(len(self.lives.part)) if s not in taken), None)
        if slot is None:
            return False  # a draining pod has to go first
        self.lives.start(slot, now)
        return True

    # ---- what others want ---------------------------------------------------------------------------------

    def evict(self, pod: Pod, now: float) -> None:
        """``pod`` of this deployment gives its GPUs up; another one is started and waits for room."""
        self.lives.evict(pod, now)

    def take_back(self, pod: Pod, now: float, notice_s: float) -> None:
        """The node of ``pod`` ends ``notice_s`` from ``now`` [s] on."""
        self.lives.take_back(self.lives.of_node(pod), now, notice_s)
