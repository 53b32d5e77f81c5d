import time

import numpy as np
import pandas as pd
import pytest
from builders import instances, meta, requests, result, timeline, value
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ServelabError
from simulator.records import metrics
from simulator.records.tables import State
from simulator.results.replications import intervals, replicate
from simulator.results.result import Result

LATENCY = ("ttft_s", "tpot_s", "e2el_s", "queue_s", "frontend_s")


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 40)), min_size=1, max_size=30, unique_by=lambda p: p[0]),
    st.floats(0, 100),
)
def test_histogram_percentile_is_numpys(pairs, percent):
    pairs.sort()
    values, counts = (np.array(x) for x in zip(*pairs, strict=True))
    found = metrics.histogram_percentile(values, counts, percent)
    if counts.sum() == 0:
        assert np.isnan(found)
    else:
        expanded = np.repeat(values, counts)
        assert found == pytest.approx(np.percentile(expanded, percent), rel=1e-12, abs=1e-9)
        for named in metrics.PERCENTILES.values():
            assert metrics.histogram_percentile(values, counts, named) == np.percentile(expanded, named)


def test_percentiles_are_numpys():
    columns = requests(997, rate=0.9, service_s=1.0)
    columns["generated_tokens"][::3] = 1
    columns["state"][::7] = State.FAILED
    run = result(columns)
    summary = run.summary()
    done = columns["state"] == State.COMPLETED
    ttft = (columns["first_token_s"] - columns["arrival_s"])[done]
    many = done & (columns["generated_tokens"] > 1)
    tpot = (columns["end_s"] - columns["first_token_s"])[many] / (columns["generated_tokens"][many] - 1)
    queue = (columns["scheduled_s"] - columns["engine_s"])[done]
    for name, expected in (("ttft_s", ttft), ("tpot_s", tpot), ("queue_s", queue)):
        assert value(summary, name) == expected.mean()
        assert value(summary, name, "max") == expected.max()
        for stat, percent in metrics.PERCENTILES.items():
            assert value(summary, name, stat) == np.percentile(expected, percent)


def test_worked_example():
    # one request: sent at 0, handed over at 0.1, scheduled at 0.3, first of 5 tokens at 0.5, ended at 0.9
    columns = requests(1)
    for name, when in (
        ("arrival_s", 0),
        ("llm_arrival_s", 0),
        ("engine_s", 0.1),
        ("scheduled_s", 0.3),
        ("first_token_s", 0.5),
        ("end_s", 0.9),
    ):
        columns[name][:] = when
    columns["generated_tokens"][:] = 5
    columns["cached_tokens"][:] = 25
    columns["preemptions"][:] = 2
    busy = instances([(0.0, 2.0)], gpus=2, busy_s=0.5, prefill_busy_s=0.1, flops=1e14, bytes=3e12, system_s=0.8)
    run = Result.from_columns(
        meta(), {"requests": columns, "instances": busy, "timeline": timeline([0.0], 4, 100, 16)}, [100_000], [4]
    )
    s = run.summary()
    expected = {
        "ttft_s": 0.5,
        "tpot_s": 0.1,
        "e2el_s": 0.9,
        "queue_s": 0.2,
        "frontend_s": 0.1,
        "itl_s": 0.1,
        "request_throughput": 1 / 0.9,
        "output_throughput": 5 / 0.9,
        "total_token_throughput": 105 / 0.9,
        "request_goodput": 0.0,  # TPOT 0.1 s is above 0.05 s
        "duty_cycle": 0.25,
        "prefill_share": 0.2,
        "decode_share": 0.8,
        "mfu": 1e14 / (2 * 2.0 * 1e15),
        "mbu": 3e12 / (2 * 2.0 * 3e12),
        "in_system": 0.8 / 0.9,
        "decode_seqs": 4.0,
        "tokens_per_step": 29.0,
        "prefix_hit_ratio": 0.25,
        "running": 0.5,
        "kv_use": 0.5,
    }
    for name, right in expected.items():
        assert value(s, name) == pytest.approx(right), name
    assert value(s, "mfu", "busy") == pytest.approx(1e14 / (2 * 0.5 * 1e15))
    assert value(s, "preemptions", "count") == 2
    assert value(s, "duration_s", "total") == 0.9


@given(st.lists(st.sampled_from(list(State)), max_size=50), st.floats(0, 20), st.floats(0, 20))
def test_arrived_is_the_sum_of_the_states(states, warmup, drain):
    columns = requests(len(states), rate=1.0)
    columns["state"][:] = states
    run = result(columns, partial=State.IN_FLIGHT in states)
    counts = run.counts()
    assert counts.pop("arrived") == len(states) == sum(counts.values())
    if warmup + drain < metrics.duration_s(run.requests):
        s = run.summary(warmup, drain)
        total = sum(value(s, k, "count") for k in counts)
        assert value(s, "arrived", "count") == total


def test_trimming():
    columns = requests(1000, rate=1.0, service_s=0.2)
    columns["end_s"][columns["arrival_s"] < 100] += 50.0
    whole, trimmed = result(columns).summary(), result(columns).summary(150.0, 50.0)
    assert value(whole, "e2el_s", "max") > 50 > value(trimmed, "e2el_s", "max")
    last = columns["end_s"].max()
    inside = (columns["end_s"] >= 150) & (columns["end_s"] <= last - 50)
    assert value(trimmed, "request_throughput") == pytest.approx(inside.sum() / (last - 200))


@pytest.mark.parametrize("trims", [(-1, 0), (float("nan"), 0), (0, 1e9)])
def test_bad_trim(trims):
    with pytest.raises(ServelabError, match="trim_"):
        result().summary(*trims)


def test_goodput_agrees_between_summary_and_slo():
    run = result(requests(500, rate=0.8, service_s=1.0), slo={"ttft_s": 1.0})
    assert value(run.summary(), "request_goodput") == run.slo().iloc[-1]["goodput"]
    assert value(run.summary(), "attainment", "worst_window") == run.slo().iloc[-1]["worst_window"]


def test_nothing_arrived():
    s = result(requests(0), spans=(), itl=()).summary()
    assert value(s, "arrived", "count") == 0
    assert np.isnan(value(s, "ttft_s", "p99"))
    assert np.isnan(value(s, "duty_cycle"))


def test_intervals_by_hand():
    frames = [pd.DataFrame({"metric": ["x"], "stat": ["mean"], "value": [v], "unit": ["s"]}) for v in (9.0, 10.0, 11.0)]
    row = intervals(frames).iloc[0]
    # t(2, 97.5 %) = 4.302653, s = 1
    assert row["mean"] == 10 and row["n"] == 3 and row["unit"] == "s"
    assert row["high"] - 10 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    one = intervals(frames[:1]).iloc[0]
    assert one["mean"] == 9 and np.isnan(one["low"])
    with pytest.raises(ServelabError, match="at least one"):
        intervals([])
    with pytest.raises(ServelabError, match="level"):
        intervals(frames, level=95)


def test_intervals_cover():
    # the mean of a normal: 95 % of 200 intervals, within three standard errors
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        frames = [
            pd.DataFrame({"metric": ["x"], "stat": ["mean"], "value": [v], "unit": [""]}) for v in rng.normal(5, 2, 5)
        ]
        row = intervals(frames).iloc[0]
        hits += row["low"] <= 5 <= row["high"]
    assert abs(hits / 200 - 0.95) < 3 * (0.95 * 0.05 / 200) ** 0.5


def test_replicate_keeps_every_row():
    runs = (result(requests(200, seed=s)) for s in range(3))
    frame = replicate(runs)
    assert len(frame) == len(result().summary())
    assert set(frame["n"]) <= {0, 3}


def test_a_million_requests_in_time():
    columns = requests(1_000_000, rate=0.9, service_s=1.0)
    run = result(columns, itl=[(i, 1000) for i in range(100_000)])
    start = time.perf_counter()
    run.summary()
    run.verdict()
    assert time.perf_counter() - start < 5.0
