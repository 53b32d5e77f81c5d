"""The source ``synthetic``: each arrival process, length and mixture against theory; every refusal's message.

Seeds are fixed; tolerances are four standard errors of the estimate unless said otherwise.
"""

import time

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from scipy.special import gamma

from simulator.errors import ServelabError
from simulator.workload import LengthConfig, RequestTable, SyntheticWorkload, generate
from simulator.workload.processes import ArrivalConfig, draw_arrivals

ARRIVALS: TypeAdapter = TypeAdapter(ArrivalConfig)
LENGTH: TypeAdapter = TypeAdapter(LengthConfig)
FIXED = {"kind": "fixed", "tokens": 10}
N = 40_000


def process(**config):
    return ARRIVALS.validate_python(config)


def arrivals(horizon_s, seed=0, **config):
    return draw_arrivals(process(**config), np.random.default_rng(seed), horizon_s)


def weibull_cv(shape):
    return np.sqrt(gamma(1 + 2 / shape) / gamma(1 + 1 / shape) ** 2 - 1)


def synthetic(seed=0, **changes):
    one = {"arrivals": {"kind": "poisson", "rate_rps": 5.0}, "prompt_tokens": FIXED, "output_tokens": FIXED}
    config = {"requests": 2000, "classes": [one]} | changes
    config["classes"] = [one | c for c in config["classes"]]
    return generate(SyntheticWorkload.model_validate(config), np.random.SeedSequence(seed))


RENEWAL = [
    ({"kind": "poisson"}, 1.0, stats.expon()),
    ({"kind": "gamma", "cv": 0.5}, 0.5, stats.gamma(4, scale=1 / 4)),
    ({"kind": "gamma", "cv": 2.5}, 2.5, stats.gamma(1 / 6.25, scale=6.25)),
    ({"kind": "weibull", "shape": 0.7}, weibull_cv(0.7), stats.weibull_min(0.7, scale=1 / gamma(1 + 1 / 0.7))),
    ({"kind": "weibull", "shape": 2.0}, weibull_cv(2.0), stats.weibull_min(2.0, scale=1 / gamma(1.5))),
]


@pytest.mark.parametrize(("config", "cv", "law"), RENEWAL, ids=[str(c) for c, _, _ in RENEWAL])
def test_renewal_process(config, cv, law):
    rate = 4.0
    arrival_s = arrivals(N / rate, seed=1, rate_rps=rate, **config)
    interval = np.diff(arrival_s) * rate
    n = len(interval)
    assert process(rate_rps=rate, **config).variation() == pytest.approx(cv, rel=1e-9)
    assert len(arrival_s) == pytest.approx(N, abs=4 * cv * np.sqrt(N) + 1)
    assert interval.mean() == pytest.approx(1, abs=4 * cv / np.sqrt(n))
    draws = law.rvs(size=(50, n), random_state=2)  # the spread of the estimate has no simple form for all laws
    spread = (draws.std(axis=1) / draws.mean(axis=1)).std()
    assert interval.std() / interval.mean() == pytest.approx(cv, abs=4 * spread)
    for lag in (1, 2, 10):
        assert abs(np.corrcoef(interval[:-lag], interval[lag:])[0, 1]) < 4 / np.sqrt(n)
    least = 1e-8  # float64 cannot hold shorter intervals at 10,000 s; gamma with cv 2.5 has 4 % of them
    below = law.cdf(least)
    seen = interval[interval > least]
    assert len(seen) / n == pytest.approx(1 - below, abs=4 * 0.5 / np.sqrt(n))
    assert stats.kstest(seen, lambda x: (law.cdf(x) - below) / (1 - below)).pvalue > 0.001


def test_weibull_of_shape_1_is_poisson_and_gamma_of_cv_1_too():
    for config in ({"kind": "weibull", "shape": 1.0}, {"kind": "gamma", "cv": 1.0}):
        interval = np.diff(arrivals(5000.0, rate_rps=4.0, **config))
        assert stats.kstest(interval, "expon", args=(0, 0.25)).pvalue > 0.001


def test_constant():
    assert arrivals(2.0, kind="constant", rate_rps=4.0) == pytest.approx(np.arange(8) / 4)


def test_users_become_a_rate():
    users = {"active_users": 600.0, "requests_per_user_per_minute": 0.5, "peak_factor": 2.0}
    assert process(kind="poisson", users=users).mean_rps == 10.0
    assert np.array_equal(arrivals(100.0, kind="poisson", users=users), arrivals(100.0, kind="poisson", rate_rps=10.0))


def expected(function, horizon_s):
    grid = np.linspace(0, horizon_s, 200_001)
    return np.concatenate(([0], np.cumsum(function(grid[:-1] + np.diff(grid) / 2) * np.diff(grid)))), grid


def follows(arrival_s, function, horizon_s):
    """Kolmogorov-Smirnov: on the clock of the rate, Poisson arrivals are uniform; the count is Poisson."""
    area, grid = expected(function, horizon_s)
    assert len(arrival_s) == pytest.approx(area[-1], abs=4 * np.sqrt(area[-1]))
    unit = np.interp(arrival_s, grid, area)
    assert stats.kstest(unit / area[-1], "uniform").pvalue > 0.001
    assert stats.kstest(np.diff(unit), "expon").pvalue > 0.001


def test_ramp_holds_behind_its_last_point():
    config = {"kind": "profile", "points": [[0.0, 0.0], [1000.0, 20.0]]}
    follows(arrivals(2000.0, **config), lambda t: np.minimum(t / 50, 20), 2000.0)


def test_steps_repeat():
    config = {"kind": "profile", "points": [[0.0, 2.0], [60.0, 0.0], [90.0, 30.0]], "interpolation": "step"}
    arrival_s = arrivals(1000.0, **config, period_s=100.0)
    follows(arrival_s, lambda t: np.select([t % 100 < 60, t % 100 < 90], [2.0, 0.0], 30.0), 1000.0)
    assert not np.any((arrival_s % 100 > 60) & (arrival_s % 100 < 90))


def test_two_points_at_one_time_make_a_step():
    config = {"kind": "profile", "points": [[0.0, 5.0], [100.0, 5.0], [100.0, 50.0], [200.0, 50.0]]}
    follows(arrivals(300.0, **config), lambda t: np.where(t < 100, 5.0, 50.0), 300.0)


def test_spikes_multiply():
    spikes = [
        {"start_s": 100.0, "duration_s": 50.0, "factor": 10.0},
        {"start_s": 140.0, "duration_s": 20.0, "factor": 0.5},
    ]
    config = {"kind": "profile", "points": [[0.0, 4.0]], "spikes": spikes}

    def rate(t):
        return 4 * np.where((t >= 100) & (t < 150), 10, 1) * np.where((t >= 140) & (t < 160), 0.5, 1)

    follows(arrivals(500.0, **config), rate, 500.0)


@pytest.mark.parametrize("start_s", [0.0, 86_400.0 * 4, 86_400.0 * 5 + 40_000.0])
def test_days_and_weeks(start_s):
    days = (1.0, 1.0, 1.0, 1.0, 1.0, 0.4, 0.2)

    def rate(t):
        clock = (t + start_s) % 604_800
        day = np.array(days)[(clock // 86_400).astype(int)] / np.mean(days)
        return 0.05 * day * (1 + 0.8 * np.cos(2 * np.pi * (clock % 86_400 - 50_000) / 86_400))

    config = {"kind": "diurnal", "rate_rps": 0.05, "peak_to_mean": 1.8, "peak_s": 50_000.0}
    arrival_s = arrivals(2 * 604_800.0, **config, day_factors=days, start_s=start_s)
    assert len(arrival_s) == pytest.approx(0.05 * 2 * 604_800, abs=4 * np.sqrt(60_480))
    follows(arrival_s, rate, 2 * 604_800.0)


def test_cv_on_the_clock_of_a_profile():
    config = {"kind": "profile", "points": [[0.0, 1.0], [500.0, 40.0]], "cv": 2.0}
    arrival_s = arrivals(2000.0, **config)
    area, grid = expected(lambda t: np.minimum(1 + 39 * t / 500, 40), 2000.0)
    unit = np.diff(np.interp(arrival_s, grid, area))
    assert unit.std() / unit.mean() == pytest.approx(2.0, rel=0.06)


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "gamma", "rate_rps": 3.0, "cv": 3.0},
        {"kind": "profile", "points": [[0.0, 1.0], [50.0, 9.0]], "period_s": 60.0},
        {"kind": "diurnal", "rate_rps": 3.0, "peak_to_mean": 1.5, "start_s": 5000.0},
    ],
)
def test_longer_run_begins_with_the_shorter_one(config):
    short, long = arrivals(700.0, **config), arrivals(5000.0, **config)
    assert np.allclose(short, long[: len(short)], rtol=1e-12)
    assert short[-1] < 700 <= long[len(short)]


def test_superposition_of_poisson_classes_is_poisson():
    rates = (1.0, 3.0, 6.0)
    table = synthetic(
        requests=N,
        classes=[
            {"name": f"c{i}", "priority": i, "arrivals": {"kind": "poisson", "rate_rps": r}}
            for i, r in enumerate(rates)
        ],
    )
    assert len(table) == N
    interval = np.diff(table.arrival_s)
    assert stats.kstest(interval, "expon", args=(0, 0.1)).pvalue > 0.001
    share = np.bincount(table.priority) / N
    assert share == pytest.approx(np.array(rates) / 10, abs=4 * 0.5 / np.sqrt(N))


def test_requests_are_the_first_of_the_merged_stream():
    classes = [{"name": "a"}, {"name": "b", "priority": 1, "arrivals": {"kind": "gamma", "cv": 4.0, "rate_rps": 2.0}}]
    for wanted in (1, 10, 1000):
        few, many = synthetic(requests=wanted, classes=classes), synthetic(requests=3000, classes=classes)
        assert np.array_equal(few.arrival_s, many.arrival_s[:wanted])
        assert np.array_equal(few.priority, many.priority[:wanted])


def test_a_class_keeps_its_draws_when_another_changes():
    lengths = {"prompt_tokens": {"kind": "uniform", "min": 1, "max": 999}}
    base = {"name": "a", "priority": 1, **lengths}
    alone = synthetic(requests=None, duration_s=300.0, classes=[base])
    both = synthetic(
        requests=None,
        duration_s=300.0,
        classes=[{"name": "b", "arrivals": {"kind": "constant", "rate_rps": 9.0}}, base],
    )
    mine = both.priority == 1
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(alone, name), getattr(both, name)[mine]), name


def test_classes_have_prefixes_of_their_own():
    prefix = {"groups": 2, "tokens": 64, "share": 0.5}
    table = synthetic(
        classes=[
            {"name": "a", "shared_prefix": prefix},
            {"name": "b", "priority": 7, "shared_prefix": {"groups": 3, "tokens": 32}},
            {"name": "c", "priority": 9, "max_tokens": 4},
        ]
    )
    count = np.diff(table.segment_start)
    owner = table.priority[np.repeat(np.arange(len(table)), count)]
    assert set(table.segment_stream[owner == 0]) == {0, 1}
    assert set(table.segment_stream[owner == 7]) == {2, 3, 4}
    assert set(count[table.priority == 7]) == {1} and set(count[table.priority == 9]) == {0}
    assert set(table.prompt_tokens[table.priority == 7]) == {42}
    assert set(table.prompt_tokens[table.priority == 0]) == {10, 74}
    assert set(table.max_tokens[table.priority == 9]) == set(table.output_tokens[table.priority == 9]) == {4}
    table.check()


CLASSES_OF_2M = [
    [{"arrivals": {"kind": "poisson", "rate_rps": 50.0}}],
    [{"arrivals": {"kind": "gamma", "rate_rps": 50.0, "cv": 3.0}}],
    [{"arrivals": {"kind": "weibull", "rate_rps": 50.0, "shape": 0.6}}],
    [{"arrivals": {"kind": "constant", "rate_rps": 50.0}}],
    [{"arrivals": {"kind": "diurnal", "rate_rps": 50.0, "peak_to_mean": 1.9}}],
    [
        {
            "name": name,
            "arrivals": {"kind": "profile", "points": [[0.0, 5.0], [3600.0, 60.0]], "period_s": 7200.0},
            "prompt_tokens": {"kind": "mixture", "parts": [{"weight": 1.0, "median": 900.0, "sigma": 1.0}]},
            "output_tokens": {"kind": "histogram", "edges": [1, 100, 1000], "counts": [3.0, 1.0]},
            "correlation": 0.4,
            "shared_prefix": {"groups": 9, "tokens": 100},
        }
        for name in "abc"
    ],
]


@pytest.mark.parametrize("classes", CLASSES_OF_2M, ids=["poisson", "gamma", "weibull", "constant", "diurnal", "three"])
def test_two_million_requests_in_under_five_seconds(classes):
    began = time.perf_counter()
    table = synthetic(requests=2_000_000, classes=classes)
    took = time.perf_counter() - began
    assert len(table) == 2_000_000 and took < 5


def test_same_seed_same_table():
    classes = CLASSES_OF_2M[-1]
    a, b = synthetic(requests=500, classes=classes), synthetic(requests=500, classes=classes)
    assert all(np.array_equal(getattr(a, n), getattr(b, n)) for n in RequestTable.__dataclass_fields__)
    assert not np.array_equal(a.arrival_s, synthetic(seed=1, requests=500, classes=classes).arrival_s)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"kind": "poison", "rate_rps": 1.0}, "'poisson', 'gamma', 'weibull', 'constant', 'profile', 'diurnal'"),
        ({"kind": "poisson"}, "exactly one of rate_rps and users, got rate_rps=None, users=None"),
        ({"kind": "poisson", "rate_rps": -1.0}, "greater than 0"),
        ({"kind": "gamma", "rate_rps": 1.0, "cv": 0.0}, "greater than 0"),
        ({"kind": "gamma", "rate_rps": 1.0}, "Field required"),
        ({"kind": "weibull", "rate_rps": 1.0, "shape": 0.1}, "greater than or equal to 0.2"),
        ({"kind": "profile", "points": []}, "at least 1 item"),
        ({"kind": "profile", "points": [[1.0, 5.0]]}, "first point must lie at 0 s, got 1.0"),
        ({"kind": "profile", "points": [[0.0, 5.0], [9.0, 1.0], [8.0, 1.0]]}, "must not fall, got 8.0 after 9.0"),
        ({"kind": "profile", "points": [[0.0, -5.0]]}, "greater than or equal to 0"),
        ({"kind": "profile", "points": [[0.0, 0.0]]}, "at least one rate must be greater than 0"),
        (
            {"kind": "profile", "points": [[0.0, 1.0], [9.0, 1.0]], "period_s": 9.0},
            r"behind the last point \(9.0 s\), got 9.0",
        ),
        ({"kind": "diurnal", "rate_rps": 1.0, "peak_to_mean": 2.5}, "less than or equal to 2"),
        ({"kind": "diurnal", "rate_rps": 1.0, "peak_to_mean": 1.0, "day_factors": [1.0] * 6}, "at least 7 items"),
        ({"kind": "diurnal", "rate_rps": 1.0, "peak_to_mean": 1.0, "day_factors": [0.0] * 7}, "add up to more than 0"),
    ],
)
def test_bad_arrivals_are_refused(config, says):
    with pytest.raises(ValidationError, match=says):
        process(**config)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"classes": []}, ValidationError, "at least 1 item"),
        ({"classes": [{}, {}]}, ValidationError, "two classes are named 'traffic'"),
        (
            {"duration_s": 5.0},
            ValidationError,
            "exactly one of duration_s and requests, got duration_s=5.0, requests=2000",
        ),
        ({"classes": [{"correlation": 1.0}]}, ValidationError, "less than 1"),
        ({"requests": None, "duration_s": 1e-6}, ServelabError, "no request arrives within duration_s 1e-06"),
        (
            {"classes": [{"arrivals": {"kind": "profile", "points": [[0.0, 1.0], [10.0, 0.0]]}}]},
            ServelabError,
            "do not reach 2000 requests",
        ),
        (
            {
                "requests": None,
                "duration_s": 1e9,
                "classes": [{"arrivals": {"kind": "profile", "points": [[0.0, 1e-9]], "period_s": 1e-3}}],
            },
            ServelabError,
            r"period_s 0.001 repeats 1000000000000 times .* at most 5000000 times",
        ),
    ],
)
def test_bad_synthetic_is_refused(changes, error, says):
    with pytest.raises(error, match=says):
        synthetic(**changes)
