"""Which nodes to ask for and which to give back: the decisions of Cluster Autoscaler and of Karpenter.

The caller keeps the clock: it looks at `next_scan_s` (Cluster Autoscaler) or `batch_ready_s` (Karpenter), adds
what `nodes_to_add` says with `Cluster.add_node`, and calls `give_up` for requests that came to nothing.

Simplifications: all pools that are needed are grown in one decision (Cluster Autoscaler grows one a scan);
running pods are never moved, so only empty nodes are removed and Karpenter's replacement of nodes by cheaper
ones does not take place. `underused` lists the nodes that pods would be moved from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.cluster.nodes import Backoff, Cluster, Node, Pod, choose
from simulator.cluster.pools import ClusterAutoscalerConfig, KarpenterConfig, NoProvisionerConfig, PoolConfig

NEW = 10**9  # trial nodes are numbered from here: after all others, in the order they are added

Config = NoProvisionerConfig | ClusterAutoscalerConfig | KarpenterConfig


def next_scan_s(config: ClusterAutoscalerConfig, now_s: float) -> float:
    """The first scan at or after ``now_s`` [s]; scans are at multiples of the interval."""
    return math.ceil(now_s / config.scan_interval_s) * config.scan_interval_s


def batch_ready_s(config: KarpenterConfig, first_pending_s: float, last_pending_s: float) -> float:
    """When a batch of pods that came from ``first_pending_s`` to ``last_pending_s`` is decided on [s].

    A pod that comes later than this starts the next batch.
    """
    return min(last_pending_s + config.batch_idle_s, first_pending_s + config.batch_max_s)


def nodes_to_add(
    config: Config,
    pending: Sequence[Pod],
    cluster: Cluster,
    now_s: float,
    usd_per_node_hour: Mapping[str, float] | None = None,
) -> list[tuple[str, int]]:
    """(pool, nodes) to ask for at ``now_s`` so that ``pending`` pods find room, in the config's order.

    Pods that fit on present nodes or on those under way ask for none. The rest are packed first fit, the highest
    priority first and the largest of one priority, on new nodes of each pool that may grow: below max_nodes, not
    backed off, and not sold out where the provisioner is told that. The best such pool is taken and what remains
    is packed again. Best is: highest pool priority; for Karpenter then the cheapest per GPU that pods use, by
    ``usd_per_node_hour`` (pool name -> USD; a pool not in it comes last); then the least share of GPUs left
    over; then the first in the config. A pod that no one pool can hold grows several of its GPU, in that order.
    """
    waiting = sorted(pending, key=lambda pod: (-pod.priority, -pod.gpus, pod.number))
    grow = [pool for pool in cluster.config.pools if may_grow(config, cluster, pool, now_s)]
    left = {pool.name: pool.most_nodes - cluster.count(pool.name) for pool in grow}
    room = {gpu: cluster.free_slots(gpu) for gpu in {pod.gpu for pod in waiting}}
    waiting = [pod for pod in waiting if not _put(pod, room[pod.gpu])]
    prices = usd_per_node_hour if isinstance(config, KarpenterConfig) else None
    added: dict[str, int] = {}
    while waiting:
        here = [pool for pool in grow if pool.spec.name in room and left[pool.name] > 0]
        options = [o for pool in here if (o := _pack(waiting, room[pool.spec.name], [pool], left)).pods]
        if not options:
            alike = [[p for p in here if p.spec.name == gpu] for gpu in room]
            ranked = [sorted(pools, key=lambda p: -p.priority) for pools in alike if len(pools) > 1]
            options = [o for ps in ranked if (o := _pack(waiting, room[ps[0].spec.name], ps, left)).pods]
        if not options:
            break
        best = min(options, key=lambda option: option.rank(prices))
        for name, nodes in best.nodes.items():
            added[name] = added.get(name, 0) + nodes
            left[name] -= nodes
        room[best.pools[0].spec.name] = best.room
        placed = {pod.number for pod in best.pods}
        waiting = [pod for pod in waiting if pod.number not in placed]
    return [(pool.name, added[pool.name]) for pool in grow if added.get(pool.name)]


def may_grow(config: Config, cluster: Cluster, pool: PoolConfig, now_s: float) -> bool:
    """Whether the provisioner would ask this pool for a node at ``now_s``, as far as it knows."""
    if isinstance(config, NoProvisionerConfig):
        return False
    backoff = cluster.backoffs.get(pool.name)
    if backoff is not None and now_s < backoff.until_s:
        return False
    return not config.sold_out_known or pool.available_from_s(now_s) == now_s


def give_up(config: Config, cluster: Cluster, now_s: float) -> list[Node]:
    """Withdraws requests that did not become ready within max_node_provision_time_s, and backs their pools off.

    Returns the nodes that will not come. A pool's backoff doubles with each failure, up to backoff_max_s; it
    starts again after backoff_reset_s without one, or when a later node of the pool became ready.
    """
    if isinstance(config, NoProvisionerConfig):
        return []
    limit = config.max_node_provision_time_s
    late = [n for n in cluster.nodes.values() if n.ready_s > now_s and now_s - n.created_s >= limit]
    for node in late:
        cluster.remove_node(node.number, now_s)
    for pool in dict.fromkeys(node.pool for node in late):
        last = cluster.backoffs.get(pool)
        length = config.backoff_s
        if last is not None and now_s - last.failed_s < config.backoff_reset_s:
            since = [n for n in cluster.nodes.values() if n.pool == pool and n.created_s >= last.failed_s]
            if not any(n.ready_s <= now_s for n in since):
                length = min(2 * last.length_s, config.backoff_max_s)
        cluster.backoffs[pool] = Backoff(now_s, now_s + length, length)
    return late


def nodes_to_remove(config: Config, cluster: Cluster, now_s: float) -> list[int]:
    """Numbers of the nodes to remove at ``now_s``: empty for long enough, the longest empty first.

    Never below a pool's min_nodes; Cluster Autoscaler removes none until scale_down_delay_after_add_s have
    passed since the last request for a node. Time empty starts when a node is ready.
    """
    if isinstance(config, NoProvisionerConfig):
        return []
    if isinstance(config, KarpenterConfig):
        wait_s, delay_s = config.consolidate_after_s, 0.0
    else:
        wait_s, delay_s = config.unneeded_time_s, config.scale_down_delay_after_add_s
    if now_s - cluster.last_added_s < delay_s:
        return []
    empty = [
        (node.empty_since_s, node.number)
        for node in cluster.nodes.values()
        if node.empty_since_s is not None and node.ready_s <= now_s and now_s - node.empty_since_s >= wait_s
    ]
    spare = {name: cluster.count(name) - pool.min_nodes for name, pool in cluster.pools.items()}
    out = []
    for _, number in sorted(empty):
        pool = cluster.nodes[number].pool
        if spare[pool] > 0:
            spare[pool] -= 1
            out.append(number)
    return out


def underused(config: ClusterAutoscalerConfig, cluster: Cluster) -> list[int]:
    """Nodes with pods whose share of used GPUs is under ``utilization_threshold``. They are not removed here:
    Cluster Autoscaler would, if their pods fitted elsewhere, which moves pods."""
    limit = config.utilization_threshold
    return [n.number for n in cluster.nodes.values() if 0 < n.used < limit * n.slots]


@dataclass
class _Option:
    """Growth by ``nodes`` (pool name -> count): the ``pods`` it places, and its GPU's free slots after that."""

    pools: list[PoolConfig]
    room: dict[int, int]
    nodes: dict[str, int] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    fresh: dict[int, int] = field(default_factory=dict)  # slots of the new nodes

    def rank(self, prices: Mapping[str, float] | None) -> tuple[float, float, float]:
        """Lower is better: pool priority, USD per hour and used GPU, share of new GPUs left over."""
        slots = sum(self.fresh.values())
        used = slots - sum(self.room[number] for number in self.fresh)
        usd = 0.0
        if prices is not None:
            usd = sum(prices.get(name, math.inf) * n for name, n in self.nodes.items()) / max(used, 1)
        return -max(p.priority for p in self.pools), usd, (slots - used) / max(slots, 1)


def _pack(waiting: Sequence[Pod], room: Mapping[int, int], pools: list[PoolConfig], left: Mapping[str, int]) -> _Option:
    """``waiting`` on new nodes of ``pools``, beside what is free; the first pool that has nodes left is grown."""
    option = _Option(pools, dict(room))
    for pod in waiting:
        if pod.gpu != pools[0].spec.name:
            continue
        trial, fresh, nodes = dict(option.room), dict(option.fresh), dict(option.nodes)
        placed = _put(pod, trial)
        for _ in range(pod.gpus):
            pool = next((p for p in pools if nodes.get(p.name, 0) < left[p.name]), None)
            if placed or pool is None:
                break
            nodes[pool.name] = nodes.get(pool.name, 0) + 1
            number = max(max(trial, default=0) + 1, NEW)
            trial[number] = fresh[number] = pool.slots
            placed = _put(pod, trial)
        if placed:
            option.room, option.fresh, option.nodes = trial, fresh, nodes
            option.pods.append(pod)
    return option


def _put(pod: Pod, room: dict[int, int]) -> bool:
    """Takes the pod's GPUs out of ``room``, if they are there."""
    placed = choose(pod, room)
    if placed is None:
        return False
    for number, gpus in placed.parts:
        room[number] -= gpus
    return True
