"""Charts: what they show is exact, and small."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from systems import scenario

from simulator import charts
from simulator.charts.theme import spec
from simulator.charts.timeline import series
from simulator.charts.workload import dispersion
from simulator.errors import ServelabError
from simulator.simulation import simulate

BIG = 1_000_000


def rows(chart):
    """Rows of all tables that the chart carries."""
    return sum(len(v) for v in spec(chart).get("datasets", {}).values())


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).lognormal(0.0, 1.0, BIG)


@pytest.fixture(scope="module")
def big():
    """Records of a million requests."""
    rng = np.random.default_rng(1)
    arrival = np.cumsum(rng.exponential(0.0864, BIG))
    requests = pd.DataFrame({"arrival_s": arrival, "end_s": arrival + 2.0})
    windows = np.arange(86_400)
    table = pd.DataFrame(
        {
            "window_s": windows.astype(float),
            "deployment": 0,
            "replica": 0,
            "busy_s": 0.5,
            "steps": 50,
            "running_mean": 3.0,
            "waiting_mean": 0.0,
            "kv_mean": 0.25,
        }
    )
    return requests, table


def test_cdf_is_exact_and_has_the_limit(values):
    chart = charts.latency_cdf({"TTFT": values}, "TTFT", 2.0, 0.99)
    assert rows(chart) < 600
    found = next(t for t in spec(chart)["datasets"].values() if len(t) > 100)
    for k in (0, len(found) // 2, -1):
        assert found[k]["seconds"] == pytest.approx(np.quantile(values, found[k]["share"]))
    text = json.dumps(spec(chart)["datasets"])
    assert f"p99 {np.quantile(values, 0.99):.3g} s" in text and "SLO 2 s, 99% within" in text
    rule = next(t for t in spec(chart)["datasets"].values() if len(t) == 1)
    assert rule[0]["seconds"] == 2.0


def test_short_latencies_are_shown_in_ms():
    chart = charts.latency_cdf({"TPOT": np.array([0.01, 0.02])}, "TPOT", 0.05)
    assert "TPOT [ms]" in json.dumps(spec(chart)) and "SLO 50 ms" in json.dumps(spec(chart))


def test_timeline_of_a_million_requests_is_small_and_counts_all(big):
    requests, table = big
    found = series(requests, table, np.ones(BIG, bool), 86_400.0)
    assert len(found) < 7 * 241
    arriving = found[found["measure"] == "arriving"]
    width = arriving["start_s"].iloc[1]
    whole = (requests["arrival_s"] < arriving["start_s"].iloc[-1] + width).sum()
    assert arriving["value"].sum() * width == pytest.approx(whole)
    one = found[found["measure"] == "in the system"].iloc[40]
    t = one["start_s"] + width
    assert one["value"] == ((requests["arrival_s"] <= t) & (requests["end_s"] > t)).sum()
    assert set(found[found["measure"] == "KV cache in use"]["value"]) == {0.25}
    assert found[found["measure"] == "replicas at work"]["value"].to_numpy() == pytest.approx(0.5)
    assert rows(charts.timeline(requests, table, np.ones(BIG, bool))) < 7 * 241 + 10


def test_workload_charts_of_a_million_requests_are_small(big, values):
    arrival = big[0]["arrival_s"].to_numpy()
    assert rows(charts.rate_over_time({"a": arrival, "b": arrival})) < 500
    assert rows(charts.burstiness({"a": arrival})) < 50
    assert rows(charts.length_cdf({"a": values + 1})) < 300


def test_dispersion_of_counts_against_theory():
    rng = np.random.default_rng(2)
    poisson = np.cumsum(rng.exponential(0.1, 200_000))
    np.testing.assert_allclose(dispersion(poisson, np.array([0.5, 5.0, 50.0])), 1.0, atol=0.15)
    # renewal process: for long windows the index tends to the squared coefficient of variation of its intervals
    bursty = np.cumsum(rng.gamma(0.25, 0.4, 200_000))
    assert dispersion(bursty, np.array([20.0]))[0] == pytest.approx(4.0, rel=0.15)
    assert np.isnan(dispersion(poisson, np.array([1e9]))).all()


@pytest.mark.parametrize("ending", ["png", "svg", "html", "json"])
def test_files_load_nothing(tmp_path, values, ending):
    path = charts.save(charts.length_cdf({"a": values + 1}), tmp_path / f"c.{ending}")
    raw = path.read_bytes()
    assert len(raw) > 1000
    if ending == "html":
        assert b"cdn." not in raw and b"<script src" not in raw


def test_other_endings_are_refused(tmp_path, values):
    with pytest.raises(ServelabError, match="must end in .png, .svg, .html, .json, got '.gif'"):
        charts.save(charts.length_cdf({"a": values[:10] + 1}), tmp_path / "c.gif")


def test_dark_and_light_differ(values):
    chart = charts.length_cdf({"a": values[:100] + 1})
    assert spec(chart)["config"]["background"] != spec(chart, dark=True)["config"]["background"]


def test_charts_of_a_run():
    from simulator.cost.bill import bill

    run = simulate(scenario(), seed=1)
    svg = [
        charts.to_svg(charts.bill_bars(bill(run), 0.25)),
        charts.to_svg(charts.group_bars(run.breakdown("window", 10.0), "ttft_s_p99", 1.0)),
    ]
    assert "cost of the run [USD]" in svg[0] and "TTFT p99 [s]" in svg[1].replace("P99", "p99")
    parts = next(iter(spec(charts.bill_bars(bill(run), 0.25))["datasets"].values()))
    assert sum(p["usd"] for p in parts) == pytest.approx(bill(run)["usd"].sum())
    assert parts[0]["usd"] == pytest.approx(parts[1]["usd"] / 3)


def test_waterfall_and_load_charts():
    import pandas as pd

    fall = pd.DataFrame(
        {
            "stage": ["a", "llm", "audit"],
            "part": ["queue", "decode", "service"],
            "start_s": [0.0, 0.1, 0.5],
            "seconds": [0.1, 0.4, 0.2],
            "share": [0.2, 0.8, 0.4],
            "critical": [True, True, False],
        }
    )
    found = spec(charts.waterfall(fall))
    (values,) = found["datasets"].values()
    assert [v["end"] for v in values] == pytest.approx([100, 500, 700])  # ms
    assert values[2]["label"] == "audit (not waited for)"
    long = spec(charts.waterfall(fall.assign(seconds=fall["seconds"] * 100)))
    assert "[s]" in long["encoding"]["x"]["title"]
    load = pd.DataFrame({"policy": list("aabb"), "load": [1, 2, 1, 2], "y": [1.0, 2.0, 2.0, 4.0]})
    assert len(spec(charts.over_load(load, "y", "y [s]", limit=3.0))["layer"]) == 2


def test_ledger_bars_stand_and_stack():
    book = pd.DataFrame(
        {"time_s": [0.0, 0.0, 60.0, 60.0], "item": ["serving", "idle"] * 2, "usd": [3.0, 1.0, 2.0, 2.0]}
    )
    drawn = charts.to_svg(charts.ledger_bars(book))
    bars = re.findall(r'<path aria-label="[^"]*"[^>]* d="M([\d.]+),([\d.]+)h([\d.]+)v([\d.]+)h', drawn)
    height = {(float(x), float(y)): float(high) for x, y, _, high in bars}
    assert sorted(height.values()) == [60.0, 120.0, 120.0, 180.0]  # of 240 for 4 USD
    assert len({x for x, _ in height}) == 2 and len(height) == 4


def test_a_fan_over_replicas_has_ticks_at_whole_numbers():
    frame = pd.DataFrame(
        {"replicas": [2, 3, 4], "median": [30.0, 20.0, 12.0], "low": [20.0, 11.0, 9.0], "high": [90.0, 40.0, 20.0]}
    )
    drawn = charts.to_svg(charts.fan(frame, "replicas", "replicas", "p99", "how sure"))
    assert [drawn.count(f">{n}</text>") for n in (2, 3, 4)] == [1, 1, 1]
