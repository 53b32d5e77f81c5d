"""When nodes are asked for and given back: Cluster Autoscaler and Karpenter, by cases worked by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simulator.cluster.nodes import Cluster, Pod
from simulator.cluster.pools import (
    ClusterAutoscalerConfig,
    KarpenterConfig,
    NodesConfig,
    NoProvisionerConfig,
    PoolConfig,
    ProvisionerConfig,
)
from simulator.cluster.provisioner import batch_ready_s, give_up, next_scan_s, nodes_to_add, nodes_to_remove, underused

CA, KARPENTER = ClusterAutoscalerConfig(), KarpenterConfig()
SOLD_OUT = ({"from_s": 100, "to_s": 5000},)


def pool(name="a", gpu="h100", max_nodes=4, **more):
    return PoolConfig(name=name, gpu=gpu, max_nodes=max_nodes, provision_s=100, driver_s=20, **more)


def cluster(*pools, placement="first_fit"):
    return Cluster(NodesConfig(pools=pools or (pool(),), placement=placement))


def pods(*shapes, gpu="h100_sxm", priority=0):
    """Pods of (tensor_parallel, pipeline_parallel) or of so many GPUs."""
    pairs = [shape if isinstance(shape, tuple) else (shape, 1) for shape in shapes]
    return [Pod(number, "llm", number, gpu, tp, pp, priority) for number, (tp, pp) in enumerate(pairs)]


# ---- when


def test_defaults_are_the_documented_ones():
    """cluster-autoscaler FAQ and flags; karpenter.sh settings."""
    assert (CA.scan_interval_s, CA.unneeded_time_s, CA.utilization_threshold) == (10, 600, 0.5)
    assert (CA.max_node_provision_time_s, CA.scale_down_delay_after_add_s) == (900, 600)
    assert (CA.backoff_s, CA.backoff_max_s, CA.backoff_reset_s) == (300, 1800, 10_800)
    assert (KARPENTER.batch_idle_s, KARPENTER.batch_max_s, KARPENTER.consolidate_after_s) == (1, 10, 0)
    read = TypeAdapter(ProvisionerConfig).validate_python
    assert read({"kind": "karpenter"}) == KARPENTER and read({"kind": "cluster_autoscaler"}) == CA
    assert read({"kind": "none"}) == NoProvisionerConfig()


@pytest.mark.parametrize(("now", "scan"), [(0, 0), (0.1, 10), (10, 10), (19.9, 20)])
def test_scans(now, scan):
    assert next_scan_s(CA, now) == scan


@pytest.mark.parametrize(("first", "last", "ready"), [(5, 5, 6), (5, 5.9, 6.9), (5, 14, 15), (5, 14.5, 15)])
def test_a_batch_ends_1_s_after_its_last_pod_or_10_s_after_its_first(first, last, ready):
    assert batch_ready_s(KARPENTER, first, last) == pytest.approx(ready)


# ---- how many


@pytest.mark.parametrize("config", [CA, KARPENTER])
@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        (pods(), 0),
        (pods(8), 1),
        (pods(4, 4), 1),
        (pods(4, 4, 1), 2),
        (pods(1, 5, 3, 6, 1), 2),  # the largest first: 6 + 1 + 1 and 5 + 3
        (pods((8, 2)), 2),
        (pods((4, 3)), 2),
        (pods(*[8] * 9), 4),  # max_nodes
        (pods((8, 5)), 0),  # a gang that needs five: nothing
        (pods(8, gpu="l40s"), 0),  # no such pool
        (pods(16), 0),  # no such node
    ],
)
def test_pending_pods_are_packed(config, wanted, nodes):
    assert nodes_to_add(config, wanted, cluster(), 0.0) == ([("a", nodes)] if nodes else [])


def test_no_provisioner_adds_and_removes_nothing():
    none, made = NoProvisionerConfig(), cluster(pool(nodes=1))
    assert nodes_to_add(none, pods(8, 8), made, 0.0) == []
    assert nodes_to_remove(none, made, 1e9) == [] and give_up(none, made, 1e9) == []


def test_room_and_nodes_under_way_count():
    """Two pods of 6. One fits the node that is there, the other the one under way; then none is asked for."""
    made = cluster(pool(nodes=1))
    assert nodes_to_add(CA, pods(6, 6), made, 0.0) == [("a", 1)]
    made.add_node("a", 0.0)
    assert nodes_to_add(CA, pods(6, 6), made, 10.0) == []
    assert nodes_to_add(CA, pods(6, 6, 3, 3), made, 10.0) == [("a", 1)]
    assert nodes_to_add(CA, pods(*[8] * 9), made, 10.0) == [("a", 2)]  # to max_nodes, those under way included


def test_pods_of_high_priority_are_packed_first():
    """One node of 8 for a pod of 4 and one of 8: the smaller comes first, and the other waits."""
    low, high = pods(8)[0], Pod(7, "llm", 0, "h100_sxm", 4, priority=5)
    made = cluster(pool("wide", max_nodes=1), pool("narrow", max_nodes=1, gpus_per_node=4, priority=1))
    assert nodes_to_add(CA, [low, high], made, 0.0) == [("wide", 1), ("narrow", 1)]
    made = cluster(pool("wide", max_nodes=1))
    assert nodes_to_add(CA, [low, high], made, 0.0) == [("wide", 1)]
    made.add_node("wide", 0.0)
    assert nodes_to_add(CA, [low], made, 0.0) == [] and nodes_to_add(CA, [low, high], made, 0.0) == []


# ---- which pool


def test_the_pool_of_the_highest_priority_then_another():
    made = cluster(pool("a"), pool("b", priority=1, max_nodes=2))
    assert nodes_to_add(CA, pods(8), made, 0.0) == [("b", 1)]
    assert nodes_to_add(CA, pods(8, 8, 8), made, 0.0) == [("a", 1), ("b", 2)]


def test_least_waste_breaks_a_tie():
    """A pod of 4: on a node of 8 half is left over, on a node of 4 nothing."""
    made = cluster(pool("wide"), pool("narrow", gpus_per_node=4))
    assert nodes_to_add(CA, pods(4), made, 0.0) == [("narrow", 1)]
    assert nodes_to_add(CA, pods(8), made, 0.0) == [("wide", 1)]
    # by the pools alone: wide 2 nodes for both, 4 of 16 left over; narrow 1 node for the pod of 4, none left over
    assert nodes_to_add(CA, pods(4, 8), made, 0.0) == [("wide", 1), ("narrow", 1)]


def test_karpenter_takes_the_cheapest_and_cluster_autoscaler_does_not_ask():
    made = cluster(pool("a"), pool("b"), pool("c"))
    prices = {"a": 98.0, "b": 60.0}
    assert nodes_to_add(KARPENTER, pods(8), made, 0.0, prices) == [("b", 1)]
    assert nodes_to_add(CA, pods(8), made, 0.0, prices) == [("a", 1)]


def test_cheapest_is_per_gpu_that_pods_use():
    """One pod of 4: 12 USD on half a node of 8 are 3.00 a used GPU, 10 USD on a node of 4 are 2.50."""
    made = cluster(pool("wide"), pool("narrow", gpus_per_node=4))
    prices = {"wide": 12.0, "narrow": 10.0}
    assert nodes_to_add(KARPENTER, pods(4), made, 0.0, prices) == [("narrow", 1)]
    assert nodes_to_add(KARPENTER, pods(4, 4), made, 0.0, prices) == [("wide", 1)]  # 1.50 each


def test_a_gang_that_no_one_pool_holds_grows_two():
    made = cluster(pool("a", max_nodes=1), pool("b", max_nodes=2, priority=1))
    assert nodes_to_add(CA, pods((8, 3)), made, 0.0) == [("a", 1), ("b", 2)]
    assert nodes_to_add(CA, pods((8, 4)), made, 0.0) == []


def test_each_gpu_from_its_own_pool():
    made = cluster(pool("a"), pool("s", gpu="h100:3g.40gb"))
    slices = [Pod(50 + n, "small", n, "h100_sxm:3g.40gb") for n in range(17)]
    assert nodes_to_add(CA, [*pods(8), *slices], made, 0.0) == [("a", 1), ("s", 2)]


# ---- sold out


def test_karpenter_is_told_that_a_pool_is_sold_out_and_takes_another():
    made = cluster(pool("a", priority=1, unavailable=SOLD_OUT), pool("b"))
    for now, name in ((99.9, "a"), (100, "b"), (4999.9, "b"), (5000, "a")):
        assert nodes_to_add(KARPENTER, pods(8), made, now) == [(name, 1)]


def test_cluster_autoscaler_finds_out_after_900_s_and_backs_off():
    """Asked at 100 of a pool sold out until 5000: given up at 1000, backed off for 300 s, then for 600 s."""
    made = cluster(pool("a", priority=1, unavailable=SOLD_OUT), pool("b"))
    assert nodes_to_add(CA, pods(8), made, 100.0) == [("a", 1)]
    node = made.add_node("a", 100.0)
    assert node.ready_s == 5000 + 120
    assert nodes_to_add(CA, pods(8), made, 990.0) == []  # it is waited for
    assert give_up(CA, made, 999.9) == []
    assert give_up(CA, made, 1000.0) == [node] and made.count("a") == 0
    assert nodes_to_add(CA, pods(8), made, 1000.0) == [("b", 1)]
    assert nodes_to_add(CA, pods(8), made, 1299.9) == [("b", 1)]
    assert nodes_to_add(CA, pods(8), made, 1300.0) == [("a", 1)]
    made.add_node("a", 1300.0)
    give_up(CA, made, 2200.0)
    assert made.backoffs["a"].until_s == 2200 + 600


def test_backoff_doubles_to_its_limit_and_starts_again():
    made = cluster(pool("a", max_nodes=1, unavailable=({"from_s": 0, "to_s": 1e9},)))
    lengths, now = [], 0.0
    for _ in range(5):
        made.add_node("a", now)
        give_up(CA, made, now + 900)
        lengths.append(made.backoffs["a"].length_s)
        now = made.backoffs["a"].until_s
    assert lengths == [300, 600, 1200, 1800, 1800]
    made.add_node("a", now + 10_800)
    give_up(CA, made, now + 10_800 + 900)
    assert made.backoffs["a"].length_s == 300


def test_a_node_that_came_ends_the_doubling():
    made = cluster(pool("a", max_nodes=3, unavailable=SOLD_OUT))
    made.add_node("a", 100.0)
    give_up(CA, made, 1000.0)
    made.add_node("a", 1400.0, ready_s=1500.0)
    made.add_node("a", 1500.0)
    give_up(CA, made, 2400.0)
    assert made.backoffs["a"].length_s == 300 and made.count("a") == 1


def test_a_short_shortage_only_delays():
    """Sold out from 100 to 400: asked at 200, the node is ready at 400 + 120."""
    made = cluster(pool("a", unavailable=({"from_s": 100, "to_s": 300}, {"from_s": 250, "to_s": 400})))
    assert made.add_node("a", 200.0).ready_s == 520
    assert give_up(CA, made, 519.0) == []
    assert made.add_node("a", 99.0).ready_s == 219 and made.add_node("a", 400.0).ready_s == 520


# ---- scale-down


def test_cluster_autoscaler_removes_after_600_s_empty_and_600_s_after_an_addition():
    made = cluster(pool(nodes=1))
    node = made.add_node("a", 1000.0)  # ready, and empty, from 1120 on
    assert nodes_to_remove(CA, made, 999.9) == []
    assert nodes_to_remove(CA, made, 1599.9) == []  # node 0 is empty since 0, but one was added at 1000
    assert nodes_to_remove(CA, made, 1600.0) == [0]
    assert nodes_to_remove(CA, made, 1719.9) == [0]
    assert nodes_to_remove(CA, made, 1720.0) == [0, node.number]


def test_a_node_in_use_stays_and_its_time_starts_when_it_is_empty_again():
    made = cluster(pool(nodes=1))
    (one,) = pods(2)
    made.place(one, 0.0)
    assert nodes_to_remove(CA, made, 1e6) == [] and underused(CA, made) == [0]  # 2 of 8 are under 0.5
    made.free(one, 1000.0)
    assert nodes_to_remove(CA, made, 1599.9) == [] and nodes_to_remove(CA, made, 1600.0) == [0]
    assert underused(CA, made) == []
    made.place(pods(4)[0], 2000.0)
    assert underused(CA, made) == []  # 4 of 8 are not under 0.5


def test_never_below_min_nodes_and_the_longest_empty_goes_first():
    made = cluster(pool(min_nodes=1, nodes=3))
    held = pods(8, 8, 8)
    for one in held:
        made.place(one, 0.0)
    for one, now in zip(held, (30.0, 10.0, 20.0), strict=True):
        made.free(one, now)
    assert nodes_to_remove(CA, made, 1e4) == [1, 2]
    assert cluster(pool(min_nodes=2)).count("a") == 2


def test_karpenter_removes_at_once_or_after_its_wait():
    made = cluster(pool())
    made.add_node("a", 0.0)
    assert nodes_to_remove(KARPENTER, made, 119.9) == []  # under way
    assert nodes_to_remove(KARPENTER, made, 120.0) == [0]
    patient = KarpenterConfig(consolidate_after_s=30)
    assert nodes_to_remove(patient, made, 149.9) == [] and nodes_to_remove(patient, made, 150.0) == [0]


# ---- whatever is asked for

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(SHAPES, max_size=12), st.sampled_from([CA, KARPENTER]))
def test_what_is_asked_for_is_within_bounds_and_of_use(shapes, config):
    made = cluster(pool("a", nodes=1, max_nodes=3), pool("b", max_nodes=2, gpus_per_node=4, priority=1))
    waiting = [Pod(n, "llm", n, "h100_sxm", *shape) for n, shape in enumerate(shapes)]
    present = sum(made.place(one, 0.0) is not None for one in ordered(waiting))
    waiting = [one for one in waiting if one.number not in made.pods]
    asked = nodes_to_add(config, waiting, made, 0.0)
    for name, nodes in asked:
        assert nodes > 0
        for _ in range(nodes):
            made.add_node(name, 0.0)  # raises beyond max_nodes
    more = sum(made.place(one, math.inf) is not None for one in ordered(waiting))
    assert (more > 0) == bool(asked) and present + more <= len(shapes)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 8), max_size=20), st.integers(0, 2), st.integers(2, 20))
def test_one_look_is_enough(sizes, nodes, most):
    """One pool, pods within one node: once the nodes are asked for, no more are, and every pod has its place."""
    made = cluster(pool(nodes=nodes, max_nodes=most))
    waiting = pods(*sizes)
    for name, count in nodes_to_add(CA, waiting, made, 0.0):
        for _ in range(count):
            made.add_node(name, 0.0)
    assert nodes_to_add(CA, waiting, made, 0.0) == []
    placed = [made.place(one, math.inf) for one in ordered(waiting)]
    assert all(placed) or made.count("a") == most
    assert made.count("a") >= min(most, math.ceil(sum(sizes) / 8))
    assert all(node.used for node in made.nodes.values() if node.number >= nodes)


def ordered(waiting):
    return sorted(waiting, key=lambda one: (-one.priority, -one.gpus, one.number))
