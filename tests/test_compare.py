"""Two designs under one traffic: paired differences and their intervals."""

import numpy as np
import pytest
from scipy import stats
from systems import scenario
from test_sessions import BASE, TALK
from test_sessions import scenario as talk_scenario

from simulator.errors import ServelabError
from simulator.results.comparison import compare
from simulator.scenario import Scenario
from simulator.simulation import simulate


def runs(replicas, seeds, **parts):
    return [simulate(scenario(replicas=replicas, **parts), seed) for seed in seeds]


def test_intervals_over_seeds_are_paired_t():
    seeds = range(5)
    one, two = runs(1, seeds), runs(2, seeds)
    found = compare(one, two).set_index(["metric", "stat"]).loc[("ttft_s", "p90")]
    a, b = (
        np.array([r.summary().set_index(["metric", "stat"])["value"]["ttft_s", "p90"] for r in side])
        for side in (one, two)
    )
    low, high = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["difference"] == pytest.approx((b - a).mean()) and found["pairs"] == 5
    assert found["differs"] and found["difference"] < 0


def test_pairing_narrows_the_interval():
    seeds = range(6)
    a = runs(1, seeds)
    b = [simulate(scenario(engine={"max_num_batched_tokens": 448}), seed) for seed in seeds]
    found = compare(a, b).set_index(["metric", "stat"]).loc[("e2el_s", "mean")]
    x, y = (np.array([(r.requests["end_s"] - r.requests["arrival_s"]).mean() for r in side]) for side in (a, b))
    low, high = stats.ttest_ind(y, x).confidence_interval(0.95)
    assert found["high"] - found["low"] < 0.5 * (high - low)


def test_requests_of_one_run_are_paired():
    a, b = runs(1, [3])[0], runs(2, [3])[0]
    found = compare(a, b).set_index("metric").loc["e2el_s"]
    gap = (b.requests["end_s"] - b.requests["arrival_s"]) - (a.requests["end_s"] - a.requests["arrival_s"])
    assert found["difference"] == pytest.approx(gap.mean()) and found["pairs"] == len(gap)
    assert found["low"] < gap.mean() < found["high"] < 0
    same = compare(a, a)
    assert (same["difference"] == 0).all() and not same["differs"].any()


def test_batch_means_cover_the_truth():
    """Two systems of equal law under paired but different traffic halves: the interval holds 0 about as often as it
    says."""
    held = 0
    for seed in range(40):
        a = simulate(scenario(replicas=2), seed)
        b = simulate(scenario(replicas=2, router={"kind": "random"}), seed)
        c = simulate(scenario(replicas=2, router={"kind": "random"}, workload=a.meta["scenario"]["workload"]), seed)
        assert compare(b, c)["difference"].abs().max() == 0
        row = compare(a, b).set_index("metric").loc["e2el_s"]
        held += bool(row["high"] > 0)  # random is never better than taking turns
    assert held >= 38


def test_sessions_are_paired_by_id_where_both_sent_them():
    parts = ({**BASE, "session": TALK},)
    a, b = (simulate(talk_scenario(*parts, duration_s=100.0, replicas=n)) for n in (1, 2))
    found = compare(a, b)
    both = np.intersect1d(a.requests["request_id"], b.requests["request_id"])
    assert found["pairs"].max() == len(both)


def test_different_traffic_is_refused():
    a = simulate(scenario(), 1)
    other = scenario().to_mapping()
    other["workload"]["rate_rps"] = 3.0
    with pytest.raises(ServelabError, match="different workloads"):
        compare(a, simulate(Scenario.of(other), 1))
    with pytest.raises(ServelabError, match=r"same seeds, got \[1\] and \[2\]"):
        compare(a, simulate(scenario(), 2))
    with pytest.raises(ServelabError, match="level must lie between 0 and 1, got 95"):
        compare(a, a, level=95)
