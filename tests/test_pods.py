"""Pods that come and go: cold starts, drains, rollouts, sleep, eviction, sold-out pools, against hand-worked times."""

import numpy as np
import pytest
from systems import scenario, table

from simulator.cost.bill import bill
from simulator.cost.ledger import ledger
from simulator.scenario import Scenario
from simulator.simulation import simulate

# a pod whose cold start is 1 + 10 + 5 + 2 + 8 + 4 + 6 + 3 = 39 s on a node with its image, 100 + 50 s more without
POD = {
    "schedule_s": 1,
    "node_s": 10,
    "driver_s": 5,
    "container_s": 2,
    "weights_bytes": 8e9,
    "weights_bytes_per_s": 1e9,
    "page_cache_bytes_per_s": 4e9,
    "engine_init_s": 4,
    "compile_s": 6,
    "compile_cached_s": 1,
    "readiness_s": 3,
    "image_pull_bytes": 1e9,
    "pull_bytes_per_s": 1e7,
    "image_bytes": 2e9,
    "extract_bytes_per_s": 4e7,
    "drain_s": 30,
}
OWN = 1 + 10 + 5 + 100 + 50 + 2 + 8 + 4 + 6 + 3  # with an instance of its own


def system(deployment=None, **parts):
    raw = scenario(step_time={"kind": "constant", "seconds": 0.01}).to_mapping()
    raw["deployments"][0] |= {"pod": POD} | (deployment or {})
    raw["router"] = {"kind": "least_outstanding"}
    return Scenario.of(raw | parts)


def steady(rate, until, output=100):
    n = int(rate * until)
    return table(np.arange(n) / rate, [10] * n, [output] * n)


def scheduled(*entries, **more):
    return {
        "kind": "scheduled",
        "schedule": [{"from": float(t), "replicas": r} for t, r in entries],
        "max_replicas": 8,
        **more,
    }


def kinds(run):
    return [(round(e.time_s, 6), e.kind) for e in run.events.itertuples()]


def sums(run):
    c = run.counts()
    assert c["arrived"] == sum(c[k] for k in ("completed", "rejected", "timed_out", "failed", "cancelled"))
    return c


def test_cold_start_of_an_instance_of_its_own():
    run = simulate(system({"autoscaler": scheduled((0, 1), (60, 2))}), requests=steady(4, 400))
    phases = run.starts.set_index("phase")
    assert phases.loc["image_pull", "start_s"] == 60 + 16 and phases.loc["image_pull", "end_s"] == 60 + 116
    ready = run.events[run.events["kind"] == "replica_ready"]["time_s"].tolist()
    assert ready == pytest.approx([0.0, 60 + OWN])
    pods = run.instances
    assert pods["start_s"].tolist() == pytest.approx(
        [0.0, 60 + 11]
    )  # billed from the running instance, image pull included
    assert not run.requests[run.requests["replica"] == 1]["llm_arrival_s"].lt(60 + OWN).any()
    sums(run)


def test_a_cold_start_that_is_broken_off_lasts_until_then():
    """The pod that comes at 60 s is wanted no more at 105 s; another one takes its place from 120 s on."""
    schedule = scheduled((0, 1), (60, 2), (105, 1), (120, 2))
    prices = {"usd_per_gpu_hour": {"h100": 2.0}}
    run = simulate(system({"autoscaler": schedule}, prices=prices), requests=steady(4, 500))
    broken, next_one = (phases for _, phases in run.starts.groupby("pod"))
    assert broken["end_s"].max() == 105.0 and next_one["start_s"].min() == 120.0
    cold = ledger(run, window_s=0).set_index("item")["quantity"]["cold start"] * 3600
    assert cold == pytest.approx((105 - 71) + (OWN - 11))  # each from the moment that its machine runs


def test_choices_of_the_image_have_a_price():
    def ready(**pod):
        run = simulate(system({"autoscaler": scheduled((0, 1), (60, 2)), "pod": POD | pod}), requests=steady(4, 500))
        return run.events[run.events["kind"] == "replica_ready"]["time_s"].iloc[-1] - 60

    assert ready() == pytest.approx(OWN)
    assert ready(layers_cached=0.5) == pytest.approx(OWN - 75)
    # 8 GB of weights in the image: 800 s to pull, 200 s to unpack, then 2 s from the page cache in place of 8 s
    assert ready(pull_bytes_per_s=1e8, weights="image") == pytest.approx(OWN - 90 + 80 + 200 - 6)
    assert ready(compile_cache="shared") == pytest.approx(OWN - 5)


def test_scale_down_takes_the_youngest_and_drains_it():
    run = simulate(system({"replicas": 3, "autoscaler": scheduled((0, 3), (60, 1))}), requests=steady(8, 120))
    draining = run.events[run.events["kind"] == "replica_draining"]
    assert draining["replica"].tolist() == [2, 1] and set(draining["time_s"]) == {60.0}
    stopped = run.events[run.events["kind"] == "replica_stopped"]["time_s"]
    assert stopped.between(61, 63).all()  # requests of a second end, seen at the next look
    assert sums(run)["failed"] == 0
    assert run.instances["end_s"].tolist()[1:] == pytest.approx(sorted(stopped, reverse=True)) or stopped.nunique() == 1


def test_a_drain_that_takes_too_long_loses_requests():
    run = simulate(
        system({"replicas": 2, "autoscaler": scheduled((0, 2), (60, 1)), "pod": POD | {"drain_s": 5}}),
        requests=table([58.0, 58.0], [10, 10], [2000, 2000]),
    )
    assert sums(run)["failed"] == 1
    lost = run.requests[run.requests["state"] == 4]
    assert lost["end_s"].tolist() == [65.0]


def test_requests_wait_at_the_gateway_for_the_first_pod():
    run = simulate(system({"pod": POD | {"there_at_start": False}}), requests=table([0.0, 1.0], [10, 10], [10, 10]))
    assert run.requests["llm_arrival_s"].tolist() == pytest.approx([OWN, OWN])
    assert run.requests["arrival_s"].tolist() == [0.0, 1.0]
    late = simulate(
        system({"pod": POD | {"there_at_start": False}}, client={"timeout_s": 50.0}),
        requests=table([0.0, OWN - 1.0], [10, 10], [10, 10]),
    )
    assert late.requests["state"].tolist() == [3, 1] and late.requests["end_s"][0] == 50.0
    sums(late)


def test_rolling_update_keeps_enough_pods():
    rollout = {"at_s": 60.0, "max_surge": 0.25, "max_unavailable": 0.25}
    run = simulate(system({"replicas": 4, "rollout": rollout}), requests=steady(8, 1200))
    ready, level = [], 0
    for _, kind in kinds(run):
        level += {"replica_ready": 1, "replica_draining": -1}.get(kind, 0)
        ready.append(level)
    assert min(ready[4:]) == 3 and max(ready) <= 5 and ready[-1] == 4
    assert len(run.instances) == 8  # each place anew
    assert sums(run)["failed"] == 0


def test_a_sleeping_pod_wakes_fast():
    schedule = scheduled((0, 2), (60, 1), (120, 2))
    run = simulate(
        system({"replicas": 2, "autoscaler": schedule, "pod": POD | {"sleeping": 1, "wake_s": 4}}),
        requests=steady(4, 300),
    )
    assert (124.0, "replica_ready") in kinds(run)
    assert run.starts["phase"].tolist() == ["wake"]
    assert len(run.instances) == 2 and (run.instances["end_s"] > 250).all()  # it held its GPU all the time


def nodes(*pools, **more):
    return {"pools": list(pools), **more}


def test_two_pods_of_a_node_share_one_pull():
    pool = {"name": "a", "gpu": "h100", "gpus_per_node": 4, "nodes": 1}
    run = simulate(
        system({"autoscaler": scheduled((0, 1), (60, 3)), "pod": POD | {"image": "mine"}}, nodes=nodes(pool)),
        requests=steady(4, 300),
    )
    assert "image_pull" not in set(run.starts["phase"])  # the first pod brought the image
    cold = simulate(
        system({"pod": POD | {"there_at_start": False}, "replicas": 2}, nodes=nodes(pool)), requests=steady(4, 300)
    )
    ready = cold.events[cold.events["kind"] == "replica_ready"]["time_s"].tolist()
    # both wait for one pull; the second weights come over the network too: neither had read them
    assert ready == pytest.approx([1 + 150 + 2 + 8 + 4 + 6 + 3] * 2)
    assert cold.nodes["used_gpu_s"][0] == pytest.approx(sum(cold.instances["end_s"] - cold.instances["start_s"]))


def test_a_sold_out_pool_is_had_later():
    pool = {
        "name": "a",
        "gpu": "h100",
        "gpus_per_node": 1,
        "nodes": 1,
        "max_nodes": 2,
        "provision_s": 20,
        "driver_s": 10,
        "unavailable": [{"from_s": 0, "to_s": 200}],
    }
    run = simulate(
        system(
            {"autoscaler": scheduled((0, 1), (60, 2))}, nodes=nodes(pool, provisioner={"kind": "cluster_autoscaler"})
        ),
        requests=steady(4, 600),
    )
    events = {k: t for t, k in kinds(run)}
    assert events["node_requested"] == 70.0  # the scan after the pod could not be placed at 61 s
    assert events["node_ready"] == 230.0
    pending = run.starts[run.starts["phase"] == "pending"].iloc[0]
    assert pending["end_s"] == 230.0
    assert run.nodes["start_s"].tolist() == [0.0, 220.0] and run.nodes["ready_s"][1] == 230.0


def test_high_priority_evicts():
    raw = system(
        {"autoscaler": scheduled((0, 1), (60, 2)), "priority": 10, "name": "urgent", "traffic_classes": ["a"]},
        nodes=nodes({"name": "p", "gpu": "h100", "gpus_per_node": 2, "nodes": 1}),
    ).to_mapping()
    low = {
        **raw["deployments"][0],
        "name": "batch",
        "priority": 0,
        "autoscaler": {"kind": "none"},
        "traffic_classes": ["b"],
    }
    raw["deployments"].append(low)
    each = {
        "arrivals": {"kind": "poisson", "rate_rps": 2.0},
        "prompt_tokens": {"kind": "fixed", "tokens": 20},
        "output_tokens": {"kind": "fixed", "tokens": 50},
    }
    raw["workload"] = {
        "source": "synthetic",
        "duration_s": 200.0,
        "classes": [{"name": "a", **each}, {"name": "b", **each}],
    }
    run = simulate(Scenario.of(raw))
    evicted = run.events[run.events["kind"] == "evicted"]
    assert evicted["time_s"].tolist() == [61.0] and evicted["deployment"].tolist() == [1]
    c = sums(run)
    assert c["failed"] > 0  # the requests of class b that waited for a pod that never came again
    assert set(run.requests[run.requests["traffic_class"] == 0]["deployment"]) == {0}


def test_hpa_follows_the_load():
    scaler = {
        "kind": "hpa",
        "min_replicas": 1,
        "max_replicas": 4,
        "metrics": [{"metric": "concurrency", "target_average_value": 4}],
    }
    run = simulate(system({"autoscaler": scaler}), requests=steady(11, 900))
    # 11 requests/s of 1.01 s each: 11.1 in the system, three pods
    ups = run.events[run.events["kind"] == "scale_up"]
    assert ups["time_s"].iloc[0] == 15.0 and "concurrency" in ups["detail"].iloc[0]
    assert run.events["kind"].tolist().count("replica_ready") == 3
    last = run.requests[run.requests["arrival_s"] > 800]
    assert sorted(set(last["replica"])) == [0, 1, 2]


def test_keda_wakes_from_zero():
    scaler = {"kind": "keda", "min_replicas": 0, "max_replicas": 2, "metric": "queue_depth", "threshold": 50}
    run = simulate(system({"replicas": 0, "autoscaler": scaler}), requests=table([100.0], [10], [10]))
    # seen by the poll at 120 s
    assert run.requests["llm_arrival_s"][0] == pytest.approx(120 + OWN)
    assert sums(run)["completed"] == 1


def test_requests_that_nobody_ever_serves_fail():
    pool = {
        "name": "p",
        "gpu": "h100",
        "gpus_per_node": 1,
        "nodes": 0,
        "max_nodes": 1,
        "unavailable": [{"from_s": 0, "to_s": 1e9}],
    }
    run = simulate(
        system(nodes=nodes(pool, provisioner={"kind": "cluster_autoscaler"})), requests=table([0.0], [10], [10])
    )
    assert sums(run)["failed"] == 1


def test_the_records_do_not_depend_on_the_method():
    """Fixed replicas through the platform give what one compiled pass gives."""
    plain = scenario()
    assert simulate(plain).requests.equals(simulate(plain, method="simpy").requests)


def test_nodes_are_billed_whole():
    pool = {"name": "a", "gpu": "h100", "gpus_per_node": 8, "nodes": 1}
    run = simulate(system(nodes=nodes(pool), prices={"provider": "aws"}), requests=steady(1, 3599))
    line = bill(run).iloc[0]
    assert "p5.48xlarge" in line["item"] and line["unit_price_usd"] == 55.04
    assert line["usd"] == pytest.approx(55.04 * run.instances["end_s"][0] / 3600)
    own = simulate(system(nodes=nodes(pool), prices={"usd_per_gpu_hour": {"h100": 2.0}}), requests=steady(1, 3599))
    assert bill(own)["usd"][0] == pytest.approx(16.0 * own.instances["end_s"][0] / 3600)
