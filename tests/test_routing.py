"""Routers and admission by hand on small views, and end to end."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter
from systems import scenario, table

from simulator.cluster.admission.config import ADMISSIONS, make_admission
from simulator.cluster.admission.config import AdmissionConfig as AnyAdmission
from simulator.cluster.router.config import ROUTERS, RouterConfig, make_router
from simulator.cluster.view import Signals
from simulator.scenario import Scenario
from simulator.simulation import simulate

TALK = {
    "name": "talk",
    "arrivals": {"kind": "poisson", "rate_rps": 8.0},
    "prompt_tokens": {"kind": "fixed", "tokens": 400},
    "output_tokens": {"kind": "uniform", "min": 5, "max": 60},
    "shared_prefix": {"groups": 100, "tokens": 320},
    "session": {"turns": {"kind": "fixed", "tokens": 3}, "wait_s": {"kind": "fixed", "tokens": 1}},
    "tenants": {"a": 3.0, "b": 1.0},
}


def view(outstanding, ready=None, waiting=None, running=None, queued=None, kv=None, cached=None, session=0, now=0.0):
    n = len(outstanding)
    ready = np.arange(n) if ready is None else np.array(ready)
    zeros = np.zeros(n)
    signals = Signals(*(np.array(x) if x is not None else zeros for x in (waiting, running, queued, kv)))
    tables = SimpleNamespace(
        session=np.full(99, session),
        prompt_tokens=np.full(99, 100),
        max_tokens=np.full(99, 20),
        tenant=np.arange(99) % 3,
        traffic_class=np.arange(99) % 2,
        classes=("fast", "batch"),
    )
    return SimpleNamespace(
        ready=ready,
        outstanding=np.array(outstanding),
        signals=signals,
        table=tables,
        now_s=now,
        cached_tokens=lambda row: np.array(cached)[ready],
        prefix=lambda row: row // 10,
    )


def router(pods, **config):
    return make_router(TypeAdapter(RouterConfig).validate_python(config), pods, np.random.default_rng(0))


def test_shortest_tokens():
    r = router(3, kind="shortest_tokens")
    assert r.choose(0, view([0, 1, 9], queued=[50, 20, 20])) == 1


def test_power_of_two_never_takes_the_worse_of_two():
    r = router(2, kind="power_of_two")
    assert {r.choose(i, view([5, 2])) for i in range(50)} == {1}
    r = router(3, kind="power_of_two")
    found = [r.choose(i, view([0, 5, 9])) for i in range(3000)]
    assert 2 not in found and np.mean(np.array(found) == 0) == pytest.approx(2 / 3, abs=0.04)


def test_session_sticky():
    r = router(3, kind="session_sticky")
    assert r.choose(0, view([4, 2, 3], session=7)) == 1
    assert r.choose(1, view([0, 9, 0], session=7)) == 1
    assert r.choose(2, view([5, 9, 0], ready=[0, 2], session=7)) == 2  # its pod is gone
    assert r.choose(3, view([0, 0, 9], session=7)) == 2
    assert r.choose(4, view([1, 0, 9], session=-1)) == 1


def test_prefix_affinity_moves_little_when_a_pod_goes():
    r = router(8, kind="prefix_affinity")
    rows = np.arange(0, 5000, 10)
    busy = [100] * 8  # far from the bound
    before = np.array([r.choose(int(i), view(busy)) for i in rows])
    after = np.array([r.choose(int(i), view(busy, ready=[0, 1, 2, 3, 4, 5, 6])) for i in rows])
    assert (before[before != 7] == after[before != 7]).all() and (after != 7).all()
    counts = np.bincount(before, minlength=8)
    assert counts.min() > 20 and counts.max() < 130  # of 500
    first = int(before[0])
    load = [1] * 8
    load[first] = 50
    assert r.choose(0, view(load)) != first  # over 1.25 times the mean


def test_precise_prefix():
    r = router(3, kind="precise_prefix", balance_abs_threshold=10)
    assert r.choose(0, view([3, 2, 1], cached=[64, 64, 0])) == 1
    assert r.choose(0, view([3, 20, 1], cached=[0, 64, 0])) == 2  # loads too far apart


def test_vllm_balancer():
    r = router(2, kind="vllm_balancer")
    shown = view([0, 0], waiting=[1, 0], running=[0, 5])
    assert [r.choose(i, shown) for i in range(3)] == [0, 1, 0]  # 4:5, then 8:5, then 8:9


def test_scorers():
    r = router(3, kind="scorers", scorers={"queue-scorer": 1.0, "prefix-cache-scorer": 3.0})
    assert r.choose(0, view([0, 0, 0], waiting=[0, 5, 10], cached=[0, 0, 40])) == 2  # 1, 0.5, 0 + 1.2
    assert r.choose(1, view([0, 0, 0], waiting=[0, 5, 10], cached=[0, 0, 30])) == 0  # 0.9
    r = router(2, kind="scorers", scorers={"load-aware-scorer": 1.0, "kv-cache-utilization-scorer": 1.0})
    assert r.choose(0, view([0, 0], waiting=[64, 0], kv=[0.2, 0.5])) == 0  # 0.25 + 0.8 against 0.5 + 0.5


def admission(**config):
    return make_admission(TypeAdapter(AnyAdmission).validate_python(config), view([0]).table, np.random.default_rng(1))


def test_token_bucket():
    p = admission(kind="token_bucket", rate=2.0, burst=2.0)
    taken = [p.admits(0, view([0], now=t), 0) for t in (0.0, 0.0, 0.0, 0.4, 0.5, 5.0, 5.0, 5.0)]
    assert taken == [True, True, False, False, True, True, True, False]
    p = admission(kind="token_bucket", rate=100.0, burst=240.0, unit="token", per="tenant")
    # a request is 120 tokens; tenants 0, 1 and 2 have a bucket each
    assert [p.admits(i, view([0], now=0.0), 0) for i in (0, 3, 6, 1)] == [True, True, False, True]
    assert p.admits(9, view([0], now=1.2), 0)


def test_queue_length_and_shed():
    p = admission(kind="queue_length", max_outstanding_per_pod=4)
    assert p.admits(0, view([3, 4]), 0) and not p.admits(0, view([3, 4]), 1)
    p = admission(kind="shed", from_outstanding=2, to_outstanding=6)
    assert all(p.admits(i, view([2]), 0) for i in range(200)) and not any(p.admits(i, view([6]), 0) for i in range(200))
    assert np.mean([p.admits(i, view([3]), 0) for i in range(4000)]) == pytest.approx(0.75, abs=0.03)


def test_slo_class():
    p = admission(kind="slo_class", sheddable=["batch"])
    full = view([0, 0], waiting=[6, 0], kv=[0.1, 0.9])
    assert not p.admits(1, full, 0) and p.admits(0, full, 0)
    assert p.admits(1, view([0, 0], waiting=[6, 5], kv=[0.1, 0.8]), 0)


def test_tenant_fairness():
    p = admission(kind="tenant_fairness", busy_outstanding=4)
    # tenants are 0, 1, 2 in turn: 0 fills the pod while it is alone, then each may have half
    assert [p.admits(0, view([0]), 0) for _ in range(5)] == [True] * 4 + [False]
    assert p.admits(1, view([0]), 0) and p.admits(1, view([0]), 0) and not p.admits(1, view([0]), 0)
    for _ in range(3):
        p.ended(0)
    assert p.admits(1, view([0]), 0)


def ran(router_config, **parts):
    raw = scenario(replicas=3).to_mapping()
    raw["workload"] = {
        "source": "synthetic",
        "duration_s": 60.0,
        "classes": [{k: v for k, v in TALK.items() if k != "session"}],
    }
    return simulate(Scenario.of(raw | {"router": router_config} | parts))


@pytest.mark.parametrize("kind", sorted(ROUTERS))
def test_every_router_serves_everything(kind):
    extra = {"weights": {"d": 1.0}} if kind == "weighted" else {}
    run = ran({"kind": kind} | extra)
    assert run.counts()["completed"] == run.counts()["arrived"] > 300
    assert set(run.requests["replica"]) == {0, 1, 2}


@pytest.mark.parametrize("kind", sorted(ADMISSIONS))
def test_every_admission_rejects_and_loses_nothing(kind):
    config = {
        "token_bucket": {"rate": 4.0, "burst": 2.0},
        "queue_length": {"max_outstanding_per_pod": 1},
        "slo_class": {"sheddable": ["talk"], "queue_depth_threshold": 0, "kv_use_threshold": 1e-6},
        "shed": {"from_outstanding": 0.0, "to_outstanding": 2.0},
        "tenant_fairness": {"busy_outstanding": 1},
    }[kind]
    run = ran({"kind": "least_outstanding"}, admission=[{"kind": kind} | config])
    c = run.counts()
    assert c["rejected"] > 0 < c["completed"] and c["arrived"] == c["rejected"] + c["completed"]
    rejected = run.requests[run.requests["state"] == 2]
    assert (rejected["replica"] == -1).all() and (rejected["end_s"] == rejected["arrival_s"]).all()


def test_routing_by_prefix_finds_more_in_the_cache():
    def hits(kind):
        q = ran({"kind": kind}).requests
        return q["cached_tokens"].sum() / q["prompt_tokens"].sum()

    assert hits("precise_prefix") > hits("round_robin") + 0.1
    assert hits("prefix_affinity") > hits("round_robin") + 0.05


def test_flow_control_holds_requests_at_the_gateway():
    requests = table([0.0] * 6, [10] * 6, [100] * 6)
    raw = scenario(router={"kind": "least_outstanding"}, step_time={"kind": "constant", "seconds": 0.01}).to_mapping()
    run = simulate(Scenario.of(raw | {"gateway": {"max_outstanding_per_pod": 2}}), requests=requests, steps="full")
    assert run.steps["running"].max() == 2
    starts = sorted(run.requests["llm_arrival_s"])
    assert starts[:2] == [0.0, 0.0] and starts[2] == pytest.approx(run.requests["end_s"].min())
    full = simulate(Scenario.of(raw | {"gateway": {"max_outstanding_per_pod": 2, "max_waiting": 1}}), requests=requests)
    assert full.counts()["rejected"] == 3


def test_priorities_and_fairness_act_where_requests_wait():
    raw = scenario(router={"kind": "least_outstanding"}, step_time={"kind": "constant", "seconds": 0.01}).to_mapping()
    requests = table([0.0] * 5, [10] * 5, [10] * 5)
    requests = replace(requests, priority=np.array([0, 5, 3, 1, 3], np.int32))
    order = simulate(
        Scenario.of(raw | {"gateway": {"max_outstanding_per_pod": 1, "order": "priority"}}), requests=requests
    )
    assert order.requests["llm_arrival_s"].argsort().tolist() == [0, 3, 2, 4, 1]
    requests = replace(requests, tenant=np.array([0, 0, 0, 0, 1], np.int32), tenants=("a", "b"))
    fair = simulate(Scenario.of(raw | {"gateway": {"max_outstanding_per_pod": 1, "order": "fair"}}), requests=requests)
    assert fair.requests["llm_arrival_s"].argsort().tolist() == [0, 1, 4, 2, 3]


def test_deployments_serve_their_classes():
    raw = scenario(router={"kind": "least_outstanding"}).to_mapping()
    d = raw["deployments"][0]
    raw["deployments"] = [{**d, "traffic_classes": ["a"]}, {**d, "name": "e", "traffic_classes": ["b"]}]
    each = {k: v for k, v in TALK.items() if k in ("arrivals", "prompt_tokens", "output_tokens")}
    raw["workload"] = {
        "source": "synthetic",
        "duration_s": 30.0,
        "classes": [{"name": "a", **each}, {"name": "b", **each}],
    }
    q = simulate(Scenario.of(raw)).requests
    assert (q["deployment"] == q["traffic_class"]).all() and set(q["deployment"]) == {0, 1}


def test_weighted_router_knows_the_gpus():
    raw = scenario().to_mapping() | {"router": {"kind": "weighted", "weights": {"d": 3.0, "slow": 1.0}}}
    d = raw["deployments"][0]
    raw["deployments"] = [d, {**d, "name": "slow", "gpu": "l40s"}]
    q = simulate(Scenario.of(raw)).requests
    assert (q["deployment"] == 0).mean() > 0.6
