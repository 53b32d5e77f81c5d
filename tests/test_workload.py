"""Arrivals, lengths and configs against theory; every refusal against its message."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from simulator.core.seeds import named_rng
from simulator.errors import ServelabError
from simulator.workload import (
    AzureConversation,
    EmpiricalLength,
    FixedLength,
    LengthConfig,
    LognormalLength,
    PoissonWorkload,
    RequestTable,
    UniformLength,
    WorkloadConfig,
    generate,
)
from simulator.workload.arrivals import RateProfile, poisson_arrivals, renewal_arrivals
from simulator.workload.lengths import draw_lengths

WORKLOAD: TypeAdapter = TypeAdapter(WorkloadConfig)
LENGTH: TypeAdapter = TypeAdapter(LengthConfig)
FIXED = {"kind": "fixed", "tokens": 10}
POISSON = {"source": "poisson", "rate_rps": 5.0, "requests": 2000, "prompt_tokens": FIXED, "output_tokens": FIXED}


def poisson(seed=0, **changes):
    return generate(WORKLOAD.validate_python(POISSON | changes), np.random.SeedSequence(seed))


def test_poisson_intervals_are_exponential_and_independent():
    interval = np.diff(poisson_arrivals(4.0, np.random.default_rng(1), requests=20_000))
    assert stats.kstest(interval, "expon", args=(0, 1 / 4.0)).pvalue > 0.01
    assert abs(np.corrcoef(interval[:-1], interval[1:])[0, 1]) < 0.03


def test_poisson_counts_have_variance_equal_to_mean():
    counts = [len(poisson_arrivals(5.0, np.random.default_rng(s), duration_s=20.0)) for s in range(400)]
    assert np.mean(counts) == pytest.approx(100, rel=0.02)
    assert np.var(counts) == pytest.approx(100, rel=0.25)


def test_longer_run_begins_with_the_shorter_one():
    short, long = poisson(requests=100), poisson(requests=1000)
    assert np.array_equal(short.arrival_s, long.arrival_s[:100])
    a = poisson(requests=None, duration_s=50.0)
    b = poisson(requests=None, duration_s=500.0)
    assert np.array_equal(a.arrival_s, b.arrival_s[: len(a)])
    assert a.arrival_s[-1] < 50.0 <= b.arrival_s[len(a)]


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_renewal_cv_on_a_flat_profile(cv):
    arrival_s = renewal_arrivals(RateProfile(np.full(3, 2.0), 10.0), np.random.default_rng(3), cv=cv, requests=40_000)
    interval = np.diff(arrival_s)
    assert interval.mean() == pytest.approx(0.5, rel=0.03)
    assert interval.std() / interval.mean() == pytest.approx(cv, rel=0.05)


@given(
    rate=st.lists(st.floats(0.1, 50), min_size=1, max_size=6),
    count=st.lists(st.floats(0, 5000), min_size=1, max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_profile_inverse_undoes_its_integral(rate, count):
    profile = RateProfile(np.array(rate), 7.0)
    want = np.sort(count)
    got = [profile.integral(t) for t in profile.invert(want)]
    assert np.allclose(got, want, rtol=1e-6, atol=1e-6)


def test_profile_is_followed():
    profile = RateProfile(np.array([1.0, 9.0, 1.0, 1.0]), 100.0)
    arrival_s = renewal_arrivals(profile, np.random.default_rng(0), duration_s=400_000.0)
    count = np.bincount((arrival_s % 400 // 100).astype(int)) / 100_000
    expected = [(profile.integral(100.0 * (k + 1)) - profile.integral(100.0 * k)) / 100 for k in range(4)]
    assert count == pytest.approx(expected, rel=0.02)


def test_lengths_against_theory():
    rng = np.random.default_rng(5)
    assert set(draw_lengths(FixedLength(tokens=7), 9, rng)) == {7}
    uniform = draw_lengths(UniformLength(min=3, max=5), 30_000, rng)
    assert np.bincount(uniform)[3:] / 30_000 == pytest.approx([1 / 3] * 3, abs=0.02)
    lognormal = draw_lengths(LognormalLength(median=500.0, sigma=0.8), 50_000, rng)
    assert np.quantile(lognormal, [0.16, 0.5, 0.84]) == pytest.approx(
        500 * np.exp(0.8 * np.array([-0.994, 0, 0.994])), rel=0.03
    )
    bound = draw_lengths(LognormalLength(median=500.0, sigma=3.0, min=10, max=900), 1000, rng)
    assert (bound.min(), bound.max()) == (10, 900)
    weighted = draw_lengths(EmpiricalLength(values=(1, 2, 9), weights=(1.0, 3.0, 0.0)), 40_000, rng)
    assert set(weighted) == {1, 2} and np.mean(weighted == 2) == pytest.approx(0.75, abs=0.02)
    table = draw_lengths(EmpiricalLength(values=(10, 20, 100), levels=(0.0, 0.5, 1.0)), 40_000, rng)
    assert np.quantile(table, [0.25, 0.5, 0.75]) == pytest.approx([15, 20, 60], rel=0.05)


def test_each_part_draws_from_its_own_seed():
    base = poisson()
    other = poisson(prompt_tokens={"kind": "uniform", "min": 1, "max": 99}, priority_weights={0: 1.0, 5: 1.0})
    for column in ("arrival_s", "output_tokens", "max_tokens"):
        assert np.array_equal(getattr(base, column), getattr(other, column)), column
    assert set(other.priority) == {0, 5}
    assert not np.array_equal(base.arrival_s, poisson(seed=1).arrival_s)
    root = np.random.SeedSequence(3)
    first = named_rng(root, "a").random()
    assert first == named_rng(root, "a").random() != named_rng(root, "b").random()


def test_max_tokens_ends_long_answers():
    table = poisson(output_tokens={"kind": "uniform", "min": 1, "max": 100}, max_tokens=50)
    assert set(table.max_tokens) == {50} and table.output_tokens.max() == 50
    free = poisson(output_tokens={"kind": "uniform", "min": 1, "max": 100})
    assert np.array_equal(free.max_tokens, free.output_tokens)
    assert np.array_equal(table.output_tokens, np.minimum(free.output_tokens, 50))


def test_shared_prefix_adds_a_group_prompt():
    table = poisson(shared_prefix={"groups": 3, "tokens": 64, "share": 0.5})
    shares = np.diff(table.segment_start)
    assert set(shares) == {0, 1} and shares.mean() == pytest.approx(0.5, abs=0.05)
    assert set(table.segment_stream) == {0, 1, 2} and set(table.segment_tokens) == {64}
    assert np.array_equal(table.prompt_tokens, 10 + 64 * shares)
    part = table.slice(100, 200)
    part.check()
    assert len(part) == 100 and part.segment_start[0] == 0
    assert np.array_equal(np.diff(part.segment_start), shares[100:200])


def test_frame_round_trip_keeps_every_column():
    table = poisson(shared_prefix={"groups": 3, "tokens": 64, "share": 0.5}, priority_weights={1: 1.0, 2: 1.0})
    back = RequestTable.from_frame(table.to_frame())
    for name in RequestTable.__dataclass_fields__:
        assert np.array_equal(getattr(table, name), getattr(back, name)), name


def test_default_keeps_its_mean_rate_whatever_the_length_of_the_run():
    for changes in (
        {"duration_s": 600.0},
        {"duration_s": 20_000.0},
        {"requests": 20_000},
        {"duration_s": 4000.0, "profile": "flat"},
    ):
        table = generate(AzureConversation(rate_rps=20.0, **changes), np.random.SeedSequence(2))
        expected = changes.get("duration_s", 1000.0) * 20
        assert len(table) == pytest.approx(expected, rel=0.03)
        if "requests" in changes:
            assert len(table) == 20_000 and table.arrival_s[-1] == pytest.approx(1000.0, rel=0.03)


def test_two_million_requests_in_under_five_seconds():
    for config in (
        AzureConversation(rate_rps=20.0, requests=2_000_000),
        WORKLOAD.validate_python(POISSON | {"requests": 2_000_000}),
    ):
        began = time.perf_counter()
        assert len(generate(config, np.random.SeedSequence(0))) == 2_000_000
        assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"rate_rps": -1.0}, "rate_rps", "greater than 0"),
        ({"rate_rps": 0}, "rate_rps", "greater than 0"),
        ({"rate_rps": float("nan")}, "rate_rps", "finite"),
        ({"rate_rps": "5"}, "rate_rps", "valid number"),
        ({"rate_rps": True}, "rate_rps", "valid number"),
        ({"rate": 5.0}, "rate", "not permitted"),
        ({"requests": 0}, "requests", "greater than or equal to 1"),
        ({"requests": None}, "", "exactly one of duration_s and requests, got duration_s=None, requests=None"),
        ({"duration_s": 3.0}, "", "exactly one of duration_s and requests"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"prompt_tokens": {"kind": "fixed", "tokens": 0}}, "prompt_tokens.fixed.tokens", "greater than or equal to 1"),
        (
            {"prompt_tokens": {"kind": "fixt"}},
            "prompt_tokens",
            "'fixed', 'uniform', 'normal', 'lognormal', 'empirical'",
        ),
        ({"priority_weights": {0: 0.0}}, "", "add up to more than 0"),
        ({"shared_prefix": {"groups": 1, "tokens": 9, "share": 1.5}}, "shared_prefix.share", "less than or equal to 1"),
        ({"source": "poison"}, "", "'poisson', 'trace', 'azure_conversation'"),
    ],
)
def test_bad_poisson_is_refused(changes, field, says):
    with pytest.raises(ValidationError) as caught:
        WORKLOAD.validate_python(POISSON | changes)
    error = caught.value.errors()[0]
    assert ".".join(map(str, error["loc"])).endswith(field)
    assert says in error["msg"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"kind": "uniform", "min": 9, "max": 5}, "max must be at least min (9), got 5"),
        ({"kind": "lognormal", "median": 5.0, "sigma": 1.0, "min": 9, "max": 5}, "max must be at least min (9), got 5"),
        ({"kind": "lognormal", "median": float("inf"), "sigma": 1.0}, "finite"),
        ({"kind": "lognormal", "median": 5.0, "sigma": -1.0}, "greater than or equal to 0"),
        ({"kind": "empirical", "values": []}, "at least 1 item"),
        ({"kind": "empirical", "values": [1, 2], "weights": [1.0]}, "one entry per value (2), got 1"),
        ({"kind": "empirical", "values": [1, 2], "weights": [0.0, 0.0]}, "more than 0"),
        ({"kind": "empirical", "values": [1, 2], "levels": [0.0, 0.9]}, "rise from 0 to 1"),
        ({"kind": "empirical", "values": [2, 1], "levels": [0.0, 1.0]}, "must not fall"),
        ({"kind": "empirical", "values": [1], "weights": [1.0], "levels": [0.0]}, "not both"),
    ],
)
def test_bad_length_is_refused(config, says):
    with pytest.raises(ValidationError, match="(?s)" + says.replace("(", r"\(").replace(")", r"\)")):
        LENGTH.validate_python(config)


def test_flat_profile_with_a_profile_length_is_refused():
    with pytest.raises(ValidationError, match="profile_s"):
        AzureConversation(rate_rps=1.0, requests=5, profile="flat", profile_s=60.0)


def test_no_request_is_an_error():
    with pytest.raises(ServelabError, match=r"duration_s 0.001 at rate_rps 0.001"):
        poisson(rate_rps=0.001, duration_s=0.001, requests=None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_tokens": [5, 0]}, "request 1: prompt_tokens must be at least 1 token, got 0"),
        ({"output_tokens": [-2, 5]}, "request 0: output_tokens must be at least 1 token, got -2"),
        ({"arrival_s": [0.0, np.nan]}, "request 1: arrival_s must be a finite number of seconds, got nan"),
        ({"arrival_s": [-1.0, 0.0]}, "request 0: arrival_s must be at least 0 s, got -1.0"),
        ({"arrival_s": [2.0, 1.5]}, "request 1: out of order, arrival_s 1.500000 s comes before the 2.000000 s"),
        ({"max_tokens": [5, 3]}, r"request 1: max_tokens must be at least output_tokens \(5\), got 3"),
        ({"prompt_tokens": [5, 2.5]}, "request 1: prompt_tokens must be a whole number of 32 bits, got 2.5"),
        ({"priority": [1]}, r"priority has shape \(1,\), expected \(2,\)"),
        (
            {"segment_start": [0, 0, 1], "segment_stream": [0], "segment_tokens": [9]},
            r"request 1: segment_tokens add up to 9, more than prompt_tokens \(5\)",
        ),
        (
            {"segment_start": [0, 1, 1], "segment_stream": [-1], "segment_tokens": [2]},
            "request 0: segment_stream must be at least 0, got -1",
        ),
    ],
)
def test_table_refuses_and_says_where(changes, says):
    columns = {"arrival_s": [0.0, 1.0], "prompt_tokens": [5, 5], "output_tokens": [5, 5]} | changes
    with pytest.raises(ServelabError, match=says):
        RequestTable.from_columns(**{k: np.array(v) for k, v in columns.items()})


def test_configs_are_frozen():
    config = PoissonWorkload.model_validate(POISSON)
    with pytest.raises(ValidationError, match="frozen"):
        config.rate_rps = 3.0  # type: ignore[misc]
