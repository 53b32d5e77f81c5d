"""Nodes with GPUs, and which of them a pod gets. State only; time is given by the caller, in seconds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from simulator.cluster.pools import NodesConfig, PoolConfig
from simulator.errors import ServelabError, nearest

SETS_TRIED = 5000  # sets of victims that are tried one by one, before a search that only gives back


@dataclass
class Node:
    """A machine. ``gpu`` is the catalog's name; ``slots`` its GPUs (or slices), ``used`` those that pods hold."""

    number: int
    pool: str
    gpu: str
    slots: int
    used: int
    created_s: float
    ready_s: float
    empty_since_s: float | None
    images: set[str] = field(default_factory=set)
    leaving: bool = False  # reclaimed: takes no pod any more

    @property
    def free(self) -> int:
        return self.slots - self.used


@dataclass(frozen=True)
class Pod:
    """One replica that needs ``pipeline_parallel`` groups of ``tensor_parallel`` GPUs, all at once.

    ``gpu`` is a catalog name (`GpuSpec.name`, no alias). ``across_nodes``: a group may span nodes if need be.
    """

    number: int
    deployment: str
    replica: int
    gpu: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    priority: int = 0
    across_nodes: bool = False

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


@dataclass(frozen=True)
class Placement:
    """``parts``: (node number, GPUs of it). ``crosses_nodes``: a tensor-parallel group spans nodes, so that its
    collectives go over the network, not over NVLink. Pipeline stages on several nodes do not count as that.
    """

    parts: tuple[tuple[int, int], ...]
    crosses_nodes: bool = False


@dataclass(frozen=True)
class Backoff:
    """A pool that failed last at ``failed_s`` is not grown before ``until_s``; it lasted ``length_s`` [s]."""

    failed_s: float
    until_s: float
    length_s: float


def choose(pod: Pod, free: Mapping[int, int], policy: str = "first_fit") -> Placement | None:
    """GPUs for ``pod`` among the ``free`` ones by node number, all or none, on as few nodes as possible.

    Where several nodes can take what is left, ``policy`` decides; where none can, the one that takes most does.
    Only if whole groups do not fit and the pod allows it is a group divided.
    """
    taken: dict[int, int] = {}
    groups = _take(taken, free, pod.pipeline_parallel, pod.tensor_parallel, policy)
    if groups == 0:
        return Placement(tuple(sorted(taken.items())))
    if not pod.across_nodes or sum(free.values()) < pod.gpus:
        return None
    left = {number: n - taken.get(number, 0) for number, n in free.items()}
    _take(taken, left, groups * pod.tensor_parallel, 1, policy)
    return Placement(tuple(sorted(taken.items())), crosses_nodes=True)


def _take(taken: dict[int, int], free: Mapping[int, int], groups: int, size: int, policy: str) -> int:
    """Adds groups of ``size`` GPUs to ``taken``, most on one node first; returns the groups left over."""
    holds = {number: n // size for number, n in free.items() if n >= size}
    while groups and holds:
        fitting = [number for number, n in holds.items() if n >= groups]
        if not fitting:
            most = max(holds.values())
            fitting = [number for number, n in holds.items() if n == most]
        order = {"first_fit": 0, "best_fit": 1, "spread": -1}[policy]
        number = min(fitting, key=lambda n: (order * free[n], n))
        count = min(holds.pop(number), groups)
        taken[number] = taken.get(number, 0) + count * size
        groups -= count
    return groups


class Cluster:
    """Nodes and the pods on them. A node takes pods from its ``ready_s`` on; before, it is under way."""

    def __init__(self, config: NodesConfig) -> None:
        self.config = config
        self.pools = {pool.name: pool for pool in config.pools}
        self.nodes: dict[int, Node] = {}
        self.pods: dict[int, tuple[Pod, Placement]] = {}
        self.last_added_s = -math.inf  # of a request after the start
        self.backoffs: dict[str, Backoff] = {}
        self._next = 0
        for pool in config.pools:
            for _ in range(pool.start_nodes):
                self._add(pool, 0.0, 0.0)

    def _add(self, pool: PoolConfig, now_s: float, ready_s: float) -> Node:
        node = Node(self._next, pool.name, pool.spec.name, pool.slots, 0, now_s, ready_s, ready_s, set(pool.images))
        self.nodes[node.number] = node
        self._next += 1
        return node

    def add_node(self, pool: str, now_s: float, ready_s: float | None = None) -> Node:
        """Asks for a node at ``now_s``; it is ready at ``ready_s``, or when its pool's config says [s].

        Raises ServelabError for an unknown pool and above the pool's ``max_nodes``.
        """
        config = self.pools.get(pool)
        if config is None:
            raise ServelabError(f"pool: {pool!r} is not a pool{nearest(pool, self.pools)}; {', '.join(self.pools)} are")
        if self.count(pool) >= config.most_nodes:
            raise ServelabError(f"pool {pool!r}: no node beyond max_nodes={config.most_nodes}")
        self.last_added_s = now_s
        return self._add(config, now_s, config.ready_s(now_s) if ready_s is None else ready_s)

    def remove_node(self, number: int, now_s: float) -> list[Pod]:
        """Takes a node away. Returns the pods that lose it: each is gone as a whole, from its other nodes too."""
        lost = [pod for pod, placed in self.pods.values() if any(n == number for n, _ in placed.parts)]
        for pod in lost:
            self.free(pod, now_s)
        del self.nodes[number]
        return lost

    def count(self, pool: str) -> int:
        """Nodes of a pool, those under way too."""
        return sum(node.pool == pool for node in self.nodes.values())

    def free_slots(self, gpu: str, now_s: float = math.inf) -> dict[int, int]:
        """Free GPUs of that name by node number, on nodes ready at ``now_s`` [s]; by default on all."""
        return {n.number: n.free for n in self.nodes.values() if n.gpu == gpu and n.ready_s <= now_s and not n.leaving}

    def place(self, pod: Pod, now_s: float) -> Placement | None:
        """Puts ``pod`` on nodes that are ready, or returns None and changes nothing."""
        if pod.number in self.pods:
            raise ServelabError(f"pod {pod.number} of deployment {pod.deployment!r} has a place already")
        placed = choose(pod, self.free_slots(pod.gpu, now_s), self.config.placement)
        if placed is not None:
            self.pods[pod.number] = (pod, placed)
            for number, gpus in placed.parts:
                node = self.nodes[number]
                node.used += gpus
                node.empty_since_s = None
        return placed

    def free(self, pod: Pod, now_s: float) -> None:
        """Takes ``pod`` off its nodes."""
        if pod.number not in self.pods:
            raise ServelabError(f"pod {pod.number} of deployment {pod.deployment!r} has no place to free")
        for number, gpus in self.pods.pop(pod.number)[1].parts:
            node = self.nodes[number]
            node.used -= gpus
            if node.used == 0:
                node.empty_since_s = now_s

    def victims(self, pod: Pod, now_s: float) -> list[Pod]:
        """Pods of lower priority whose eviction makes room for ``pod``; empty if it fits, or cannot be made to.

        The fewest; among as few, those whose priorities are lowest; then the youngest. Beyond `SETS_TRIED`
        sets, none that can stay goes, but there may be a smaller set. Nothing is evicted here.
        """
        free = self.free_slots(pod.gpu, now_s)
        if choose(pod, free) is not None:
            return []
        parts: dict[int, dict[int, int]] = {}
        for other, placed in self.pods.values():
            if other.priority < pod.priority and other.gpu == pod.gpu:
                room = {node: n for node, n in placed.parts if node in free}  # not on nodes that are leaving
                if room:
                    parts[other.number] = room

        def fits(without: Iterable[int]) -> bool:
            room = dict(free)
            for number in without:
                for node, gpus in parts[number].items():
                    room[node] += gpus
            return choose(pod, room) is not None

        if not parts or not fits(parts):
            return []

        def priorities(chosen: Sequence[int]) -> tuple[list[int], list[int]]:
            found = sorted((self.pods[n][0].priority for n in chosen), reverse=True)
            return found, sorted((-n for n in chosen), reverse=True)

        tried = 0
        for size in range(1, len(parts) + 1):
            tried += math.comb(len(parts), size)
            if tried > SETS_TRIED:
                break
            chosen = min((c for c in combinations(parts, size) if fits(c)), key=priorities, default=None)
            if chosen is not None:
                return [self.pods[n][0] for n in chosen]
        out = set(parts)
        for number in sorted(parts, key=lambda n: (sum(parts[n].values()), -self.pods[n][0].priority, n)):
            if fits(out - {number}):
                out.remove(number)
        return [self.pods[n][0] for n in sorted(out)]

    def fragmentation(self, gpus: int, gpu: str | None = None, now_s: float = math.inf) -> float:
        """Share of free GPUs on nodes where a pod of ``gpus`` GPUs in one node does not fit; 0 if none is free.

        Of GPUs named ``gpu`` (default: of all), on nodes ready at ``now_s`` (default: and those under way).
        """
        left = [n.free for n in self.nodes.values() if gpu in (None, n.gpu) and n.ready_s <= now_s]
        return sum(n for n in left if n < gpus) / sum(left) if sum(left) else 0.0


def check_fits(pod: Pod, pools: Sequence[PoolConfig]) -> None:
    """Raises ServelabError if no node of ``pools`` could ever take ``pod``, even with all pools grown and empty."""
    has = "; ".join(f"{p.name}: {p.slots} x {p.spec.name} a node, at most {p.most_nodes} nodes" for p in pools)
    like = [pool for pool in pools if pool.spec.name == pod.gpu]
    who = f"deployment {pod.deployment!r}"
    if not like:
        hint = nearest(pod.gpu, {pool.spec.name for pool in pools})
        raise ServelabError(f"{who}: needs gpu {pod.gpu!r}, which no pool has{hint}; pools: {has}")
    tp, most = pod.tensor_parallel, max(pool.slots for pool in like)
    if tp > most and not pod.across_nodes:
        raise ServelabError(
            f"{who}: tensor_parallel={tp} needs {tp} x {pod.gpu} in one node, the largest has {most}; pools: {has}"
        )
    size = 1 if pod.across_nodes else tp
    if sum(pool.most_nodes * (pool.slots // size) for pool in like) * size < pod.gpus:
        raise ServelabError(
            f"{who}: tensor_parallel={tp} x pipeline_parallel={pod.pipeline_parallel} needs {pod.gpus} x "
            f"{pod.gpu}, more than all nodes at max_nodes hold; pools: {has}"
        )
