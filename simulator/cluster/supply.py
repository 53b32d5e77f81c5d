"""Where pods get their GPUs: nodes of the scenario with their provisioner, in simulated time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from simulator.cluster.nodes import Cluster, Node, Placement, Pod, check_fits
from simulator.cluster.pools import ClusterAutoscalerConfig, KarpenterConfig, NodesConfig
from simulator.cluster.provisioner import batch_ready_s, give_up, next_scan_s, nodes_to_add, nodes_to_remove


class Clock(Protocol):
    now: float

    def at(self, t: float, call: Callable[..., None], *args: Any) -> None:
        """Have ``call(*args)`` called at ``t`` [s]."""

    def busy(self) -> bool:
        """Whether requests are to come, wait or are being served."""


@dataclass
class NodeRecord:
    node: Node
    requested_s: float
    end_s: float | None = None
    used_s: float = 0.0  # GPU-seconds held by pods


@dataclass
class _Pending:
    pod: Pod
    since_s: float
    placed: Callable[[Placement, float], None]
    evict: Callable[[Pod, float], None] = field(repr=False)


class Supply:
    """Places pods on the nodes of ``config``, evicts for higher priorities, asks for nodes and gives them back.

    ``take_back`` is called with a pod, the time and how long its node still runs [s], when a spot node is reclaimed.
    """

    def __init__(
        self,
        config: NodesConfig,
        clock: Clock,
        note: Callable[..., None],
        take_back: Callable[[Pod, float, float], None],
        rng: np.random.Generator,
        spot: bool = True,
    ) -> None:
        self._take_back, self._rng, self._spot = take_back, rng, spot
        self.cluster, self._config, self._clock, self._note = Cluster(config), config.provisioner, clock, note
        self.records = {n.number: NodeRecord(n, 0.0) for n in self.cluster.nodes.values()}
        self.pending: dict[int, _Pending] = {}
        self.pulled_s: dict[tuple[int, str], float] = {}  # by node and image: when the image is there
        self._last_pending_s = 0.0
        self._planned = False
        self._since: dict[int, float] = {}
        self._fragments: list[tuple[float, float]] = []

    def check(self, pod: Pod) -> None:
        """Raises ServelabError for a pod that no node could ever take."""
        check_fits(pod, self.cluster.config.pools)

    def request(
        self, pod: Pod, now: float, placed: Callable[[Placement, float], None], evict: Callable[[Pod, float], None]
    ) -> None:
        """``pod`` wants GPUs; ``placed`` is called when it has them, ``evict`` with pods that must give way."""
        self.pending[pod.number] = _Pending(pod, now, placed, evict)
        self._last_pending_s = now
        self.retry(now)
        if pod.number in self.pending:
            for victim in self.cluster.victims(pod, now):
                self._note(
                    now, "evicted", victim.deployment, victim.replica, f"for pod {pod.number} of {pod.deployment}"
                )
                evict(victim, now)
            self._plan(now)

    def withdraw(self, pod: Pod) -> None:
        """``pod``, which waits for GPUs, is not wanted any more."""
        self.pending.pop(pod.number, None)

    def free(self, pod: Pod, now: float) -> None:
        """``pod`` gives its GPUs back."""
        for number, gpus in self.cluster.pods[pod.number][1].parts:
            self.records[number].used_s += gpus * (now - self._since[pod.number])
        self.cluster.free(pod, now)
        self.retry(now)
        self._plan(now)

    def retry(self, now: float) -> None:
        """Place what waits, the highest priority first, then the oldest."""
        for waiting in sorted(self.pending.values(), key=lambda w: (-w.pod.priority, w.since_s, w.pod.number)):
            place = self.cluster.place(waiting.pod, now)
            if place is not None:
                del self.pending[waiting.pod.number]
                self._since[waiting.pod.number] = now
                waiting.placed(place, now)
        if self.pending:
            self._fragments.append((now, max(self.cluster.fragmentation(w.pod.gpus) for w in self.pending.values())))

    def runs_from_s(self, record: NodeRecord) -> float:
        """When the machine of a node ran, its GPU driver not yet installed [s]."""
        if record.requested_s == 0 and record.node.ready_s == 0:
            return 0.0
        return max(record.node.ready_s - self.cluster.pools[record.node.pool].driver_s, record.requested_s)

    def fragmentation(self) -> float:
        """The largest share of free GPUs that a waiting pod could not use, over the run."""
        return max((share for _, share in self._fragments), default=0.0)

    def settle(self, end_s: float) -> None:
        """The run ended at ``end_s`` [s]: add what pods held until then to the nodes' records."""
        for pod, place in self.cluster.pods.values():
            for number, gpus in place.parts:
                self.records[number].used_s += gpus * max(end_s - self._since[pod.number], 0.0)

    # ---- the provisioner --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for nodes to give back; spot nodes of the start begin to live."""
        for node in list(self.cluster.nodes.values()):
            self._live(node, 0.0)
        if self._config.kind != "none":
            self._look(0.0)

    def _look(self, now: float) -> None:
        for node in give_up(self._config, self.cluster, now):
            self._note(now, "node_failed", "", -1, f"{node.pool}: no node after {now - node.created_s:,.0f} s")
            self.records[node.number].end_s = now
        for number in nodes_to_remove(self._config, self.cluster, now):
            node = self.cluster.nodes[number]
            self.cluster.remove_node(number, now)
            self.records[number].end_s = now
            self._note(now, "node_removed", "", -1, f"{node.pool}: node {number}")
        if self.pending:
            self._plan(now)
        if self._clock.busy():
            every = getattr(self._config, "scan_interval_s", 10.0)
            self._clock.at(now + every, self._look, now + every)

    def _plan(self, now: float) -> None:
        if self._planned or not self.pending or self._config.kind == "none" or not self._clock.busy():
            return
        if isinstance(self._config, ClusterAutoscalerConfig):
            at = next_scan_s(self._config, now)
            if at <= now:
                at += self._config.scan_interval_s
        else:
            assert isinstance(self._config, KarpenterConfig)
            first = min(w.since_s for w in self.pending.values())
            at = max(batch_ready_s(self._config, first, self._last_pending_s), now)
            if at <= now:  # it was asked for before and not to be had
                at = now + self._config.batch_max_s
        self._planned = True
        self._clock.at(at, self._add, at)

    def _add(self, now: float) -> None:
        self._planned = False
        for pool, count in nodes_to_add(self._config, [w.pod for w in self.pending.values()], self.cluster, now):
            for _ in range(count):
                node = self.cluster.add_node(pool, now)
                self.records[node.number] = NodeRecord(node, now)
                self._note(now, "node_requested", "", -1, f"{pool}: node {node.number}")
                self._clock.at(node.ready_s, self._ready, node.number, node.ready_s)
        if self.pending and self._config.kind == "cluster_autoscaler":
            self._plan(now)

    def _ready(self, number: int, now: float) -> None:
        if number in self.cluster.nodes:
            self._note(now, "node_ready", "", -1, f"{self.cluster.nodes[number].pool}: node {number}")
            self._live(self.cluster.nodes[number], now)
            self.retry(now)

    # ---- spot nodes -------------------------------------------------------------------------------------

    def _live(self, node: Node, now: float) -> None:
        """Draw how long a spot node lives, from its machine's start on."""
        pool = self.cluster.pools[node.pool]
        if pool.reclaim is None or not self._spot or self._in_pool(node) < pool.reclaim.keep:
            return
        began = self.runs_from_s(self.records[node.number])
        at = began + self._rng.exponential(pool.reclaim.mean_hours * 3600)
        self._clock.at(max(at, now), self._reclaim, node.number, max(at, now), pool.reclaim.notice_s)

    def _in_pool(self, node: Node) -> int:
        """Place of a node among the present ones of its pool, by age."""
        return sum(n.pool == node.pool and n.number < node.number for n in self.cluster.nodes.values())

    def _reclaim(self, number: int, now: float, notice_s: float) -> None:
        node = self.cluster.nodes.get(number)
        if node is None:
            return
        node.leaving = True
        self._note(now, "node_reclaimed", "", -1, f"{node.pool}: node {number} ends in {notice_s:g} s")
        for pod in self._on(number):
            self._take_back(pod, now, notice_s)
        self._clock.at(now + notice_s, self._lost, number, now + notice_s)

    def _on(self, number: int) -> list[Pod]:
        placed = list(self.cluster.pods.values())
        return [pod for pod, place in placed if any(n == number for n, _ in place.parts)]

    def _lost(self, number: int, now: float) -> None:
        node = self.cluster.nodes.get(number)
        if node is None:
            return
        for pod in self._on(number):
            self.free(pod, now)
        self.cluster.remove_node(number, now)
        self.records[number].end_s = now
        self._note(now, "node_removed", "", -1, f"{node.pool}: node {number}, reclaimed")
        self.retry(now)
        self._plan(now)
