"""SLOs by class, the run by group, one request explained."""

import numpy as np
import pandas as pd
import pytest
from systems import scenario as one_replica
from test_sessions import BASE, LOOP, scenario

from simulator.errors import ServelabError
from simulator.records.tables import State
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate


@pytest.fixture(scope="module")
def mixed() -> Result:
    chat = {**BASE, "arrivals": {"kind": "poisson", "rate_rps": 3.0}, "tenants": {"acme": 3.0, "beta": 1.0}}
    jobs = {**BASE, "name": "jobs", "arrivals": {**LOOP, "requests": 400}, "slo": {"deadline_s": 40.0}}
    return simulate(scenario(chat, jobs, duration_s=200.0, replicas=1), seed=2)


def test_each_class_is_judged_by_its_own_slo(mixed):
    q, judged = mixed.requests, mixed.slo()
    jobs = q[q["traffic_class"] == 1]
    row = judged[(judged["traffic_class"] == "jobs") & (judged["limit"] == "deadline_s")].iloc[0]
    late = np.mean((jobs["end_s"] > 40.0) | (jobs["state"] != State.COMPLETED))
    assert 0 < late < 1 and row["attainment"] == pytest.approx(1 - late) and not row["meets"]
    total = judged.iloc[-1]
    assert total["limit"] == "all" and total["traffic_class"] == "" and not total["meets"]
    assert total["attainment"] == mixed.good().mean()
    assert (
        mixed.verdict().startswith("meets SLO: no, because of class jobs, ") and "deadline <= 40 s" in mixed.verdict()
    )


def test_a_run_meets_its_slo_when_every_class_does(mixed):
    raw = mixed.meta["scenario"]
    raw["workload"]["classes"][1]["slo"] = {"deadline_s": 1000.0, "attainment": 0.9}
    run = simulate(Scenario.of(raw), seed=2)
    assert run.verdict().startswith("meets SLO: yes, because every class meets its own SLO; of class ")
    assert set(run.slo()["traffic_class"]) == {"chat", "jobs", ""}


@pytest.mark.parametrize("by", ["traffic_class", "tenant", "deployment", "window"])
def test_breakdown_is_what_pandas_says(mixed, by):
    q = mixed.requests.assign(good=mixed.good(), ttft=mixed.requests["first_token_s"] - mixed.requests["arrival_s"])
    key = (q["arrival_s"] // 50).astype(int) if by == "window" else q[by]
    found = mixed.breakdown(by, window_s=50.0)
    groups = q.groupby(key)
    assert found["arrived"].tolist() == groups.size().tolist() and found["arrived"].sum() == len(q)
    np.testing.assert_allclose(found["attainment"], groups["good"].mean())
    np.testing.assert_allclose(found["ttft_s_p99"], groups["ttft"].quantile(0.99))
    names = {"traffic_class": ["chat", "jobs"], "tenant": ["", "acme", "beta"], "deployment": ["llm"]}
    assert found["group"].tolist() == names.get(by, [0.0, 50.0, 100.0, 150.0])


def test_tenants_come_in_their_shares(mixed):
    q = mixed.requests
    share = q["tenant"][q["traffic_class"] == 0].value_counts(normalize=True)
    assert share[1] == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 600))


def test_bad_breakdown_is_refused(mixed):
    with pytest.raises(ServelabError, match="breakdown by 'tenants'.*did you mean 'tenant'"):
        mixed.breakdown("tenants")
    with pytest.raises(ServelabError, match="window_s must be a positive number of seconds, got 0"):
        mixed.breakdown("window", 0)


@pytest.fixture(scope="module", params=[False, True], ids=["sync", "async"])
def crowded(request) -> Result:
    engine = {"num_gpu_blocks_override": 90, "async_scheduling": request.param}
    return simulate(one_replica(engine), seed=3, steps="full")


def test_phases_add_up_to_the_latency(crowded):
    for i in crowded.requests["request_id"][:40]:
        own = crowded.requests.iloc[i]
        e = crowded.explain(int(i))
        main = e.phases[e.phases["phase"] != "interrupted"]
        assert main["seconds"].sum() == pytest.approx(own["end_s"] - own["arrival_s"], abs=1e-9)
        assert main["share"].sum() == pytest.approx(1.0)
        assert str(e).startswith(f"Request {i} ")


def test_who_was_ahead_is_who_was_there(crowded):
    q = crowded.requests
    i = int((q["scheduled_s"] - q["engine_s"]).idxmax())
    own, ahead = q.iloc[i], crowded.explain(i).ahead
    there = q[(q["engine_s"] < own["engine_s"]) & (q["end_s"] > own["engine_s"])]
    assert sorted(ahead["request_id"][ahead["how"] != "overtook"]) == sorted(there["request_id"]) and len(there) > 3
    assert (ahead["how"] == "running").sum() == (there["scheduled_s"] < own["engine_s"]).sum()
    assert not (ahead["how"] == "overtook").any()  # first come, first served


def test_later_requests_of_higher_priority_overtake():
    first = one_replica({"scheduling_policy": "priority", "max_num_seqs": 4}).to_mapping()
    first["workload"]["priority_weights"] = {0: 1.0, 5: 1.0}
    run = simulate(Scenario.of(first), seed=1)
    q = run.requests
    i = int((q["scheduled_s"] - q["engine_s"])[q["priority"] == 5].idxmax())
    ahead = run.explain(i).ahead
    over = ahead[ahead["how"] == "overtook"]
    assert len(over) and (over["priority"] <= 5).all() and (over["arrival_s"] >= q["arrival_s"][i]).all()
    assert "came later were served first" in str(run.explain(i))


def test_tokens_stand_at_the_ends_of_batches_but_for_interruptions(crowded):
    """So many batches end between its first and last token, less those in its gaps, as a request has tokens."""
    q, gaps = crowded.requests, crowded.interruptions
    ends = np.sort(crowded.steps["end_s"].to_numpy())
    tokens = np.searchsorted(ends, q["end_s"], "right") - np.searchsorted(ends, q["first_token_s"])
    skipped = np.searchsorted(ends, gaps["to_s"]) - np.searchsorted(ends, gaps["from_s"], "right")
    lost = np.bincount(gaps["request_id"], skipped, minlength=len(q))
    assert len(gaps) > 10 and q["preemptions"].sum() > 10 and (skipped > 0).all()
    np.testing.assert_array_equal(tokens - lost, q["generated_tokens"])
    i = int(gaps["request_id"].iloc[0])
    mine = gaps[gaps["request_id"] == i]
    part = crowded.explain(i).phases.set_index("phase").loc["interrupted"]
    assert part["seconds"] == pytest.approx((mine["to_s"] - mine["from_s"]).sum())


def test_no_interruption_is_logged_without_all_batches():
    run = simulate(one_replica({"num_gpu_blocks_override": 90}), seed=3)
    assert run.requests["preemptions"].sum() > 0 and len(run.interruptions) == 0
    i = int(run.requests["preemptions"].idxmax())
    assert "steps=full" in str(run.explain(i)) and run.explain(i).batches.empty


def test_unknown_request_is_refused(mixed):
    with pytest.raises(ServelabError, match="request 10000000 is not in the records, which have"):
        mixed.explain(10_000_000)


def test_a_rejected_request_says_so():
    run = simulate(one_replica({"max_num_queued_reqs": 5}), seed=3)
    i = int(run.requests["request_id"][run.requests["state"] == State.REJECTED].iloc[0])
    assert f"Request {i}" in str(run.explain(i)) and "rejected" in str(run.explain(i))
    assert isinstance(run.explain(i).phases, pd.DataFrame)
