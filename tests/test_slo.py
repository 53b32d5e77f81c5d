import numpy as np
import pytest
from builders import requests, result
from pydantic import ValidationError

from simulator.core.slo import SloConfig, judge, worst_window
from simulator.records.tables import State
from simulator.results.verdict import run_state


def frame(columns):
    return result(columns).requests


def test_good_over_arrived_by_hand():
    # four requests, one late first token, one not completed, one slow in decode, one good
    slo = SloConfig(ttft_s=1.0, tpot_s=0.1, attainment=0.5, window_s=10)
    arrival = np.array([0.0, 1.0, 11.0, 35.0])
    done = np.array([True, True, False, True])
    latencies = {"ttft_s": np.array([0.5, 1.5, 0.1, 1.0]), "tpot_s": np.array([0.2, 0.1, 0.1, np.nan])}
    judged = judge(arrival, done, latencies, slo, duration_s=40.0).set_index("limit")
    assert judged.loc["ttft_s", "attainment"] == 0.5  # the first and, exactly at the limit, the last
    assert judged.loc["tpot_s", "attainment"] == 0.5  # the second and the one-token request
    assert judged.loc["all", "attainment"] == 0.25
    assert judged.loc["all", "goodput"] == 1 / 40
    assert judged.loc["all", "worst_window"] == 0.0
    assert judged.loc["all", "worst_window_start_s"] == 0.0
    assert not judged.loc["all", "meets"]
    assert judged.loc["ttft_s", "at_target_s"] == 1.0


def test_window_without_arrivals_does_not_count():
    share, start, arrived = worst_window(np.array([1.0, 900.0]), np.array([True, True]), 300.0)
    assert (share, start, arrived) == (1.0, 0.0, 1)


def test_worst_window_can_miss_what_the_run_meets():
    columns = requests(1000, rate=1.0, service_s=0.1)
    columns["end_s"][:5] += 100.0
    run = result(columns, slo={"e2el_s": 5.0, "attainment": 0.99, "window_s": 100})
    judged = run.slo().iloc[-1]
    assert judged["attainment"] == 0.995
    assert judged["worst_window"] < 0.99
    assert not judged["meets"]
    assert run.verdict().startswith("meets SLO: no, because in the worst window of 100 s, from 0 s, ")
    assert "E2EL <= 5 s binds" in run.verdict()


@pytest.mark.parametrize(
    "bad", [{"ttft_s": -1}, {"tpot_s": 0}, {"attainment": 1.5}, {"window_s": float("nan")}, {"tftf_s": 1}]
)
def test_bad_config(bad):
    with pytest.raises(ValidationError):
        SloConfig(**bad)


def test_verdict_names_binding_limit():
    run = result(requests(500, service_s=0.3), slo={"ttft_s": 1.0, "tpot_s": 0.01, "window_s": 1e6})
    line = run.verdict()
    assert line.startswith(
        "meets SLO: no, because 0 % of requests met TPOT <= 10 ms (target 99 %; 99 % took up to 27 ms)"
    )


def test_verdict_yes_names_closest_limit():
    run = result(requests(500, rate=0.1, service_s=0.3), slo={"ttft_s": 10.0, "tpot_s": 0.05})
    line = run.verdict()
    assert line.startswith("meets SLO: yes, because 100 % of requests met every limit (target 99 %)")
    assert "closest is TPOT <= 50 ms, where 99 % took 27 ms or less" in line
    assert "\n" not in line


def test_verdict_of_lost_requests():
    columns = requests(100, service_s=0.01)
    columns["state"][:30] = State.REJECTED
    assert "only 70 % of requests completed (30 rejected; target 99 %)" in result(columns).verdict()


def test_verdict_without_limits_or_requests():
    assert "completed and no limit is set" in result(requests(50, service_s=0.01), slo=None).verdict()
    assert result(requests(0), itl=()).verdict() == "meets SLO: no, because no request arrived"


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("n", [100, 2000, 100_000])
def test_stable(load, n):
    for seed in range(10):
        assert run_state(frame(requests(n, rate=load, service_s=1.0, seed=seed))).state != "overloaded"
    if load <= 0.7:
        assert run_state(frame(requests(n, rate=load, service_s=1.0))).state == "stable"


@pytest.mark.parametrize("n", [500, 2000, 100_000])
@pytest.mark.parametrize("load", [1.5, 3.0])
def test_overloaded(load, n):
    for seed in range(10):
        assert run_state(frame(requests(n, rate=load, service_s=1.0, seed=seed))).state == "overloaded"


def test_slight_overload_is_seen_in_a_long_run():
    assert run_state(frame(requests(100_000, rate=1.05, service_s=1.0))).state == "overloaded"


def test_burst_that_drains_is_backlogged():
    steady = np.arange(2000) * 2.0
    burst = np.sort(np.concatenate([steady, np.full(300, 1000.0)]))
    state = run_state(frame(requests(burst.size, service_s=1.0, arrival_s=burst)))
    assert state.state == "backlogged"
    at_once = requests(50, service_s=1.0, arrival_s=np.zeros(50))
    assert run_state(frame(at_once)).state == "backlogged"


def test_filling_pipeline_is_not_overload():
    # unlimited servers, each request stays 100 s, the run lasts 50 s: it fills and nothing waits
    columns = requests(500, rate=10.0, service_s=0.0)
    columns["end_s"] = columns["arrival_s"] + 100.0
    assert run_state(frame(columns)).state == "stable"


def test_shedding_load_is_overload():
    columns = requests(1000, rate=1.0, service_s=0.1)
    columns["state"][::5] = State.TIMED_OUT
    assert run_state(frame(columns)).state == "overloaded"
    columns = requests(1000, rate=1.0, service_s=0.1)
    columns["state"][100:150] = State.TIMED_OUT
    assert run_state(frame(columns)).state == "backlogged"
