"""Spot machines that are taken back: by hand-worked times, by their law, and on the bill."""

import numpy as np
import pytest
from systems import table
from test_pods import OWN, POD, kinds, steady, sums
from test_pods import system as plain_system

from simulator.cost.bill import bill
from simulator.errors import ServelabError
from simulator.planner.plan import plan
from simulator.planner.runs import Runs
from simulator.planner.worlds import Uncertainty
from simulator.records.tables import State
from simulator.scenario import Scenario
from simulator.simulation import simulate


def system(deployment=None, **parts):
    """On spot machines."""
    prices = {"purchase": "spot"} | parts.pop("prices", {})
    return plain_system(deployment, prices=prices, **parts)


SPOT = {"mean_hours": 0.1, "notice_s": 5.0}


def at(run, kind):
    return run.events.loc[run.events["kind"] == kind, ["time_s", "replica"]].to_numpy().tolist()


def test_a_reclaimed_pod_drains_within_the_notice_and_is_replaced():
    # an answer of 1,000 tokens takes 10 s: those that began less than 10 s before the end of the machine are lost
    run = simulate(system({"reclaim": SPOT, "replicas": 2}), requests=steady(1, 900, output=1000), seed=7)
    first, place = at(run, "reclaimed")[0]
    lost = run.requests[(run.requests["replica"] == place) & (run.requests["state"] == State.FAILED)]
    gone = next(t for t, r in at(run, "replica_stopped") if r == place)
    assert gone == pytest.approx(first + 5.0)
    early = lost[lost["end_s"] <= gone + 1e-6]
    assert len(early) and early["end_s"].to_numpy() == pytest.approx(gone)
    assert early["arrival_s"].max() < first  # nothing is sent to it once the notice is given
    # the next pod is started with the notice, in a place of its own, and takes requests after its cold start
    ready = [t for t, _ in at(run, "replica_ready") if t > 0]  # under this seed it is not reclaimed itself before
    assert ready[0] == pytest.approx(first + OWN)
    sums(run)


def test_a_short_answer_survives():
    run = simulate(system({"reclaim": SPOT, "replicas": 2}), requests=steady(1, 900, output=100), seed=3)
    assert len(at(run, "reclaimed")) > 2 and sums(run)["failed"] == 0


def test_kept_ones_stay_and_the_rest_go_at_their_rate():
    raw = {"mean_hours": 2.0, "notice_s": 0.0, "keep": 3}
    pod = {
        **POD,
        **{k: 0 for k in POD if k.endswith("_s") and "bytes" not in k},
        "image_pull_bytes": 0,
        "image_bytes": 0,
        "weights_bytes": 0,
    }
    run = simulate(
        system({"reclaim": raw, "replicas": 8, "pod": pod}),
        requests=table(np.arange(500) * 400.0, [10] * 500, [10] * 500),
    )
    hours = 499 * 400 / 3600
    times = [r for _, r in at(run, "reclaimed")]
    assert min(times) >= 3
    mean = 5 * hours / 2.0  # five pods, each reclaimed every two hours of its life
    assert abs(len(times) - mean) < 4 * mean**0.5
    sums(run)


def test_the_bill_ends_with_the_machine():
    run = simulate(
        system({"reclaim": SPOT, "replicas": 1}, prices={"usd_per_gpu_hour": {"h100": 2.0}}),
        requests=steady(1, 900),
        seed=3,
    )
    lives = run.instances["end_s"] - run.instances["start_s"]
    assert len(lives) > 1 and lives.sum() / 3600 * 2.0 == pytest.approx(bill(run)["usd"].sum())
    assert run.instances["end_s"].iloc[0] == pytest.approx(at(run, "reclaimed")[0][0] + 0.0, abs=5.0)


def nodes(**pool):
    return {
        "pools": [
            {
                "name": "spot",
                "gpu": "h100",
                "gpus_per_node": 2,
                "nodes": 2,
                "max_nodes": 4,
                "provision_s": 10,
                "driver_s": 5,
                **pool,
            }
        ],
        "provisioner": {"kind": "karpenter"},
    }


def test_a_reclaimed_node_takes_all_its_pods_along():
    run = simulate(system({"replicas": 4}, nodes=nodes(reclaim=SPOT)), requests=steady(4, 900, 1000), seed=1)
    events = kinds(run)
    first = next(t for t, k in events if k == "node_reclaimed")
    assert [k for t, k in events if t == first].count("reclaimed") == 2
    removed = next(t for t, k in events if k == "node_removed")
    assert removed == pytest.approx(first + 5.0, abs=1e-5)
    # nodes are billed to the end of the notice; new ones come and all four pods are ready again
    row = run.nodes.sort_values("end_s").iloc[0]
    assert (
        row["end_s"] == pytest.approx(removed, abs=1e-5)
        and row["used_gpu_s"] <= 2 * (row["end_s"] - row["start_s"]) + 1e-6
    )
    assert any(k == "node_requested" and first < t < first + 30 for t, k in events)
    sums(run)
    kept = simulate(system({"replicas": 4}, nodes=nodes(reclaim={**SPOT, "keep": 2})), requests=steady(4, 900), seed=1)
    assert "node_reclaimed" not in set(kept.events["kind"])


def test_the_same_seed_gives_the_same_reclaims_whatever_the_router():
    """Components draw by name: another router leaves the first reclaims where they were."""
    first = [
        at(
            simulate(system({"reclaim": SPOT, "replicas": 2}, router={"kind": kind}), requests=steady(1, 200), seed=5),
            "reclaimed",
        )
        for kind in ("least_outstanding", "round_robin")
    ]
    assert first[0] == first[1] and first[0]


def test_what_is_wrong_is_said():
    with pytest.raises(ServelabError, match="reclaim.mean_hours.*greater than 0"):
        system({"reclaim": {"mean_hours": 0, "notice_s": 1}})
    with pytest.raises(ServelabError, match="reclaim.notice_s: this field is required"):
        system({"reclaim": {"mean_hours": 1}})
    with pytest.raises(ServelabError, match="set nodes.pools"):
        system({"reclaim": SPOT}, nodes=nodes())


def test_a_plan_pays_for_reclaims():
    """Spot is cheaper by the hour; whether it is the plan depends on how often machines go."""
    mapping = {
        "workload": {
            "source": "poisson",
            "rate_rps": 6.0,
            "duration_s": 1200,
            "prompt_tokens": {"kind": "fixed", "tokens": 200},
            "output_tokens": {"kind": "fixed", "tokens": 100},
        },
        "deployments": [
            {
                "name": "d",
                "model": "llama-3.1-8b",
                "gpu": "h100",
                "replicas": 1,
                "engine": {"max_model_len": 1024},
                "pod": POD,
            }
        ],
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05, "attainment": 0.98},
        "prices": {"usd_per_gpu_hour": {"h100": 2.0}, "purchase": "spot"},
    }
    found = {}
    for hours in (0.05, 1e6):
        mapping["deployments"][0]["reclaim"] = {"mean_hours": hours, "notice_s": 0.0}
        answer = plan(Scenario.of(mapping), {"replicas": [1, 3]}, u=Uncertainty(step_time=False), runs=Runs("serial"))
        found[hours] = answer.best.fields["replicas"] if answer.best else None
    assert found[1e6] == 1 and found[0.05] != 1


def test_on_demand_machines_stay():
    """A plan may compare both ways of buying: reclaim is of the spot market."""
    run = simulate(plain_system({"reclaim": SPOT, "replicas": 2}), requests=steady(1, 900), seed=3)
    assert "reclaimed" not in set(run.events["kind"]) and any("reclaim has no effect" in n for n in run.meta["notes"])
    bare = simulate(plain_system({"replicas": 2}, prices={"purchase": "spot"}), requests=steady(1, 60))
    assert any("never taken back" in n for n in bare.meta["notes"])


def test_pods_on_a_leaving_node_make_no_room():
    """A pod of higher priority asks for room while a spot node is leaving: nobody there is evicted for it, and
    nothing breaks."""
    pool = {
        "name": "spot",
        "gpu": "h100",
        "gpus_per_node": 2,
        "nodes": 2,
        "max_nodes": 2,
        "provision_s": 10,
        "driver_s": 5,
        "reclaim": {"mean_hours": 0.03, "notice_s": 120},
    }
    mapping = system(
        {"replicas": 3, "pod": {**POD, "drain_s": 120}}, nodes={"pools": [pool], "provisioner": {"kind": "karpenter"}}
    ).to_mapping()
    entries = [
        {"from": 0.0, "replicas": 1},
        *({"from": float(t), "replicas": 1 + (t // 20) % 2} for t in range(20, 400, 20)),
    ]
    high = mapping["deployments"][0] | {"name": "high", "priority": 10, "replicas": 1}
    high["autoscaler"] = {"kind": "scheduled", "schedule": entries, "max_replicas": 2}
    mapping["deployments"].append(high)
    for seed in range(3):
        sums(simulate(Scenario.of(mapping), requests=steady(2, 400, 1000), seed=seed))
