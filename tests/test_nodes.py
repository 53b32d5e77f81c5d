"""Nodes, placement, eviction and fragmentation against cases worked by hand; MIG slices."""

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from simulator.catalog import find_gpu, load_gpus, mig_slice
from simulator.catalog.mig import load_mig
from simulator.cluster.nodes import SETS_TRIED, Cluster, Placement, Pod, check_fits
from simulator.cluster.pools import NodesConfig, PoolConfig
from simulator.errors import ServelabError

# ---- MIG


def test_a_slice_is_sevenths_of_arithmetic_and_eighths_of_memory():
    whole, part = find_gpu("h100"), find_gpu("H100:1g.10gb")
    assert part.name == "h100_sxm:1g.10gb"
    assert part.memory_bytes == 10 * 2**30
    assert part.usable_memory_bytes == whole.usable_memory_bytes // 8
    assert part.memory_bandwidth_bytes_per_s == pytest.approx(3.35e12 / 8)
    assert part.bf16_flops == pytest.approx(989e12 / 7)
    assert part.fp8_flops == pytest.approx(1978e12 / 7)
    assert part.intra_node_bytes_per_s is None and part.link_bytes_per_s == whole.pcie_bytes_per_s
    assert part.gpus_per_node == 7 * 8
    assert mig_slice(whole, "1g.10gb") == part and find_gpu(part.name) == part


@pytest.mark.parametrize(
    ("name", "gib", "sevenths", "per_node"),
    [
        ("h100:1g.20gb", 20, 1, 32),
        ("h100:2g.20gb", 20, 2, 24),
        ("h100:3g.40gb", 40, 3, 16),
        ("h100:4g.40gb", 40, 4, 8),
        ("h100:7g.80gb", 80, 7, 8),
        ("a100_40gb:1g.5gb", 5, 1, 56),
        ("a100_40gb:3g.20gb", 20, 3, 16),
        ("h200:3g.71gb", 70.5, 3, 16),
    ],
)
def test_profiles(name, gib, sevenths, per_node):
    part, whole = find_gpu(name), find_gpu(name.split(":")[0])
    assert part.memory_bytes == pytest.approx(gib * 2**30)
    assert part.bf16_flops == pytest.approx(whole.bf16_flops * sevenths / 7)
    assert part.gpus_per_node == per_node


def test_every_profile_is_of_a_gpu_of_the_catalog_and_fits_it():
    for row in load_mig():
        assert row.gpu in load_gpus() and row.source and row.date
        assert row.most_per_gpu * row.compute_slices <= 7 and row.most_per_gpu * row.memory_slices <= 8
        named = int(row.profile.split(".")[1].removesuffix("gb"))
        assert find_gpu(f"{row.gpu}:{row.profile}").memory_bytes / 2**30 == pytest.approx(named, abs=0.7)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("h100:1g.10g", r"'1g.10g' is not a MIG profile of h100_sxm \(did you mean '1g.10gb'\?\)"),
        ("h100:5g.5gb", r"it has 1g.10gb, 1g.20gb"),
        ("l40s:1g.10gb", r"l40s:1g.10gb has no MIG profiles"),
        ("h100_sxn:1g.10gb", r"'h100_sxn' is not in the catalog \(did you mean 'h100_sxm'\?\)"),
    ],
)
def test_no_such_slice(name, said):
    with pytest.raises(ServelabError, match=said):
        find_gpu(name)


# ---- placement


def pod(number, tp=1, pp=1, priority=0, across_nodes=False, gpu="h100_sxm"):
    return Pod(number, "llm", number, gpu, tp, pp, priority, across_nodes)


def cluster(nodes, used=(), placement="first_fit", slots=8):
    """Nodes of H100s of which pods 100, 101, ... hold ``used`` GPUs, node by node; priority 0."""
    pool = PoolConfig(name="a", gpu="h100", nodes=nodes, gpus_per_node=slots)
    made = Cluster(NodesConfig(pools=(pool,), placement=placement))
    for number, gpus in enumerate(used):
        hold(made, pod(100 + number, tp=gpus), (number, gpus))
    return made


def hold(made, holder, *parts):
    """Puts a pod where the test wants it."""
    made.pods[holder.number] = (holder, Placement(parts))
    for number, gpus in parts:
        made.nodes[number].used += gpus
        made.nodes[number].empty_since_s = None


@pytest.mark.parametrize(("policy", "node"), [("first_fit", 0), ("best_fit", 1), ("spread", 2)])
def test_placement_policies(policy, node):
    """Free: 4, 2, 6. A pod of 2 fits on each."""
    made = cluster(3, (4, 6, 2), policy)
    assert made.place(pod(1, tp=2), 0.0) == Placement(((node, 2),))


@pytest.mark.parametrize("policy", ["first_fit", "best_fit", "spread"])
def test_a_tie_goes_to_the_oldest_node(policy):
    assert cluster(3, (8, 2, 2), policy).place(pod(1, tp=2), 0.0) == Placement(((1, 2),))


def test_all_or_nothing():
    """Free: 3 and 3. Two groups of 2 fit, one on each node; a third does not, and then nothing is taken."""
    made = cluster(2, (5, 5))
    assert made.place(pod(1, tp=2, pp=3), 0.0) is None
    assert [n.used for n in made.nodes.values()] == [5, 5] and 1 not in made.pods
    assert made.place(pod(1, tp=2, pp=2), 0.0) == Placement(((0, 2), (1, 2)))


def test_a_group_across_nodes_only_if_allowed_and_then_said():
    made = cluster(2, (5, 5))
    assert made.place(pod(1, tp=4), 0.0) is None
    assert made.place(pod(1, tp=4, across_nodes=True), 0.0) == Placement(((0, 3), (1, 1)), crosses_nodes=True)
    assert cluster(2).place(pod(1, tp=16, across_nodes=True), 0.0) == Placement(((0, 8), (1, 8)), True)


def test_a_group_that_may_cross_does_not_if_it_need_not():
    assert cluster(2, (5, 2)).place(pod(1, tp=4, across_nodes=True), 0.0) == Placement(((1, 4),))


def test_only_the_group_that_must_is_divided():
    """Free: 4, 2, 2. One group of 4 lies on node 0; the other is divided."""
    made = cluster(3, (4, 6, 6))
    assert made.place(pod(1, tp=4, pp=2, across_nodes=True), 0.0) == Placement(((0, 4), (1, 2), (2, 2)), True)


def test_stages_lie_on_as_few_nodes_as_possible():
    """Free: 2, 8, 4. Three stages of 4: two on node 1, one on node 2. One of 8: on node 1 alone."""
    made = cluster(3, (6, 0, 4))
    assert made.place(pod(1, tp=4, pp=3), 0.0) == Placement(((1, 8), (2, 4)))
    made = cluster(3, (6, 0, 4))
    assert made.place(pod(1, tp=2, pp=4), 0.0) == Placement(((1, 8),))


@pytest.mark.parametrize(("policy", "last"), [("first_fit", 1), ("best_fit", 2), ("spread", 1)])
def test_the_policy_chooses_the_node_of_the_last_stage(policy, last):
    """Free: 8, 4, 2. Five stages of 2: four fill node 0."""
    made = cluster(3, (0, 4, 6), policy)
    assert made.place(pod(1, tp=2, pp=5), 0.0) == Placement(((0, 8), (last, 2)))


def test_a_node_takes_pods_from_its_ready_time_on_and_only_of_its_gpu():
    pools = (
        PoolConfig(name="a", gpu="h100", max_nodes=1, provision_s=100, driver_s=20, images=("vllm",)),
        PoolConfig(name="b", gpu="l40s", nodes=1),
    )
    made = Cluster(NodesConfig(pools=pools))
    node = made.add_node("a", 10.0)
    assert (node.created_s, node.ready_s, node.empty_since_s, node.images) == (10, 130, 130, {"vllm"})
    assert made.place(pod(1), 129.9) is None
    assert made.place(pod(1), 130.0) == Placement(((1, 1),))
    assert made.place(pod(2, gpu="l40s"), 0.0) == Placement(((0, 1),))
    with pytest.raises(ServelabError, match="has a place already"):
        made.place(pod(1), 130.0)
    with pytest.raises(ServelabError, match="max_nodes=1"):
        made.add_node("a", 200.0)
    with pytest.raises(ServelabError, match="'c' is not a pool"):
        made.add_node("c", 200.0)


def test_a_node_that_goes_takes_whole_pods_along():
    made = cluster(2)
    made.place(pod(1, tp=8, pp=2), 0.0)
    assert [p.number for p in made.remove_node(0, 5.0)] == [1]
    assert list(made.nodes) == [1] and made.nodes[1].used == 0 and made.nodes[1].empty_since_s == 5.0
    with pytest.raises(ServelabError, match="no place to free"):
        made.free(pod(1), 6.0)


def test_slices_are_placed_like_gpus():
    made = Cluster(NodesConfig(pools=(PoolConfig(name="s", gpu="H100:3g.40gb", nodes=1),)))
    assert made.nodes[0].slots == 16 and made.nodes[0].gpu == "h100_sxm:3g.40gb"
    assert made.place(pod(1), 0.0) is None
    assert made.place(pod(1, gpu="h100_sxm:3g.40gb"), 0.0) == Placement(((0, 1),))


# ---- eviction and fragmentation


def numbers(pods):
    return [p.number for p in pods]


def test_victims_are_the_fewest():
    """Node 0: pods of 2 and 2 (and 4 that may not be evicted); node 1: one pod of 6. A pod of 4 needs one."""
    made = cluster(2)
    hold(made, pod(1, tp=2), (0, 2))
    hold(made, pod(2, tp=2), (0, 2))
    hold(made, pod(3, tp=4, priority=9), (0, 4))
    hold(made, pod(4, tp=6, priority=3), (1, 6))
    assert numbers(made.victims(pod(9, tp=4, priority=5), 0.0)) == [4]  # one, though of higher priority
    assert numbers(made.victims(pod(9, tp=4, priority=3), 0.0)) == [1, 2]  # 4 is not of lower priority
    assert made.victims(pod(9, tp=4, priority=0), 0.0) == []
    assert made.victims(pod(9, tp=2, priority=5), 0.0) == []  # fits without
    assert 4 in made.pods


def test_among_as_few_victims_the_lowest_priority_then_the_youngest():
    made = cluster(3)
    for number, priority in enumerate((2, 1, 1)):
        hold(made, pod(number, tp=8, priority=priority), (number, 8))
    assert numbers(made.victims(pod(9, tp=8, priority=5), 0.0)) == [2]


def test_victims_are_whole_pods():
    """Evicting the one pod over both nodes makes room on both."""
    made = cluster(2)
    hold(made, pod(1, tp=8, pp=2), (0, 8), (1, 8))
    assert numbers(made.victims(pod(9, tp=4, pp=4, priority=1), 0.0)) == [1]


def test_many_victims_are_found_without_trying_all_sets():
    """Seven nodes of 8 pods of one GPU. A pod of 8 needs eight of them, all on one node: 56 over 8 are 1.4e9."""
    assert SETS_TRIED < 1e6
    made = cluster(7)
    for number in range(56):
        hold(made, pod(number, priority=number // 8), (number // 8, 1))
    assert numbers(made.victims(pod(99, tp=8, priority=50), 0.0)) == list(range(8))


def test_fragmentation():
    """Two nodes of 8 with 5 used: a pod of 4 can use none of the 6 free GPUs, a pod of 3 all of them."""
    made = cluster(2, (5, 5))
    assert [made.fragmentation(gpus=n) for n in (1, 3, 4)] == [0.0, 0.0, 1.0]
    assert cluster(2, (5, 2)).fragmentation(gpus=4) == pytest.approx(3 / 9)
    assert cluster(1, (8,)).fragmentation(gpus=1) == 0.0
    assert made.fragmentation(gpus=4, gpu="l40s") == 0.0


# ---- what can never fit, and bad configs


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (pod(1, tp=8), r"'llm': tensor_parallel=8 needs 8 x h100_sxm in one node, the largest has 4; pools: a: 4 x"),
        (pod(1, tp=4, pp=4), r"tensor_parallel=4 x pipeline_parallel=4 needs 16 x h100_sxm, more than all nodes"),
        (pod(1, tp=16, across_nodes=True), r"needs 16 x h100_sxm, more than all nodes"),
        (pod(1, gpu="h100"), r"needs gpu 'h100', which no pool has \(did you mean 'h100_sxm'\?\); pools: a: 4 x"),
    ],
)
def test_what_fits_no_node(wanted, said):
    pools = [PoolConfig(name="a", gpu="h100", gpus_per_node=4, max_nodes=3)]
    with pytest.raises(ServelabError, match=said):
        check_fits(wanted, pools)


def test_what_fits():
    pools = [PoolConfig(name="a", gpu="h100", gpus_per_node=4, max_nodes=3)]
    for wanted in (pod(1, tp=4, pp=3), pod(1, tp=3, pp=3), pod(1, tp=12, across_nodes=True)):
        check_fits(wanted, pools)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpu": "h100_sxn"}, "did you mean 'h100_sxm'"),
        ({"nodes": 3, "max_nodes": 2}, "max_nodes=2 of pool 'a' is less than its nodes=3"),
        ({"unavailable": [{"from_s": 5, "to_s": 5}]}, "to_s=5 must be later than from_s=5"),
        ({"provision_seconds": 5}, "Extra inputs"),
    ],
)
def test_bad_pools(fields, said):
    with pytest.raises(ValidationError, match=said):
        PoolConfig.model_validate({"name": "a", "gpu": "h100"} | fields)


def test_bad_nodes():
    with pytest.raises(ValidationError, match="two pools are named 'a'"):
        NodesConfig.model_validate({"pools": [{"name": "a", "gpu": "h100"}] * 2})
    with pytest.raises(ValidationError, match="= 930 s is more than max_node_provision_time_s=900"):
        pool = {"name": "a", "gpu": "h100", "max_nodes": 1, "provision_s": 900}
        NodesConfig.model_validate({"pools": [pool], "provisioner": {"kind": "cluster_autoscaler"}})


# ---- whatever happens

PODS = st.builds(
    pod, st.just(0), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.just("h100_sxm")
)


def state(made):
    return {n.number: n.used for n in made.nodes.values()}, dict(made.pods)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), PODS, st.integers(0, 10**6)), max_size=30),
    st.sampled_from(["first_fit", "best_fit", "spread"]),
)
def test_no_node_is_over_committed_and_free_undoes_place(steps, policy):
    made = cluster(3, placement=policy)
    for number, (leaves, shape, pick) in enumerate(steps):
        if leaves and made.pods:
            made.free(sorted(made.pods.values(), key=lambda p: p[0].number)[pick % len(made.pods)][0], 1.0)
        else:
            new = Pod(**(shape.__dict__ | {"number": number}))
            before = deepcopy(state(made))
            victims = made.victims(new, 0.0)
            placed = made.place(new, 0.0)
            if placed is None:
                assert state(made) == before
                assert all(v.priority < new.priority for v in victims)
                if victims:  # they make room, and none of them could stay
                    for kept in [None, *victims]:
                        trial = deepcopy(made)
                        for victim in victims:
                            if victim is not kept:
                                trial.free(victim, 0.0)
                        assert (trial.place(new, 0.0) is not None) == (kept is None)
            else:
                assert victims == []
                assert sum(gpus for _, gpus in placed.parts) == new.gpus
                assert placed.crosses_nodes <= new.across_nodes
                assert placed.crosses_nodes or all(gpus % new.tensor_parallel == 0 for _, gpus in placed.parts)
                made.free(new, 0.0)
                assert state(made) == before
                made.place(new, 0.0)
        for node in made.nodes.values():
            held = sum(g for _, p in made.pods.values() for n, g in p.parts if n == node.number)
            assert node.used == held and 0 <= node.used <= node.slots
            assert (node.empty_since_s is None) == (node.used > 0)
