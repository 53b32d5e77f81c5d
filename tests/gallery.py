"""One chart of every kind, from small runs and tables: for tests, and to look at."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from systems import scenario

from simulator import charts
from simulator.cost.bill import bill
from simulator.results.result import Result
from simulator.simulation import simulate

ABOUT = "one H100, Poisson traffic of 12 requests/s"


@cache
def run() -> Result:
    return simulate(scenario(replicas=2, slo={"ttft_s": 0.5, "tpot_s": 0.02}), seed=1, steps="full")


@cache
def sweep_table() -> pd.DataFrame:
    """As `planner.sweep.sweep` gives it: two seeds, one combination that cannot run."""
    rng = np.random.default_rng(2)
    rows = []
    for gpu, speed in (("l4", 1.0), ("a100_sxm", 5.0), ("h100", 9.0), ("h200", 11.0)):
        for replicas in (1, 2, 4, 8, 16):
            for seed in (0, 1):
                error = "llama-3.1-8b does not fit on one l4" if gpu == "l4" and replicas == 1 else ""
                p99 = 0.9 / speed / replicas**0.7 * rng.uniform(0.97, 1.03)
                figures = {
                    "meets": p99 < 0.1,
                    "tpot_s_p99": p99,
                    "usd_per_hour": (1 + speed / 3) * replicas,
                    "attainment": min(1.0, 0.05 / p99 + 0.5),
                }
                rows.append(
                    {"gpu": gpu, "replicas": replicas, "seed": seed, "error": error} | ({} if error else figures)
                )
    return pd.DataFrame(rows)


def _cdf() -> Any:
    q = run().requests
    return charts.latency_cdf({"TTFT": (q["first_token_s"] - q["arrival_s"]).to_numpy()}, "TTFT", 0.5, 0.99, ABOUT)


def _cdfs() -> Any:
    rng = np.random.default_rng(0)
    series = {name: rng.lognormal(m, 0.8, 2000) for name, m in (("chat", -1.0), ("search", 0.0), ("batch", 1.2))}
    return charts.latency_cdf(series, "E2EL", 5.0, 0.95, ABOUT)


def _timeline(**options: Any) -> Any:
    r = run()
    return charts.timeline(r.requests, r.timeline, r.good(), 0.99, (10.0, 10.0), ABOUT, **options)


def _scaled() -> Any:
    """A timeline of pods that come and go."""
    r = run()
    end = float(r.requests["end_s"].max())
    instances = pd.DataFrame(
        {"deployment": [0, 0, 0, 0], "start_s": [0.0, 0.0, 9.3, 12.1], "end_s": [end, 22.0, end, 27.5]}
    )
    return charts.timeline(r.requests, r.timeline, r.good(), 0.99, None, ABOUT, instances=instances, brush=True)


def curve() -> pd.DataFrame:
    rate = np.array([2.0, 5, 8, 10, 12, 13, 14, 15, 16])
    p99 = 0.018 + 0.004 * rate / 12 + 0.02 * np.maximum(0, rate - 11.5) ** 1.6
    return pd.DataFrame(
        {"rate_rps": rate, "tpot_s_p99": p99, "meets": p99 < 0.05, "throughput_tok_s": 180 * np.minimum(rate, 13.6)}
    )


def _capacity(over: str) -> Any:
    return charts.capacity_curve(curve(), 12.8, 11.6, "tpot_s_p99", 0.05, ABOUT, over)


def _ledger() -> Any:
    rng = np.random.default_rng(3)
    items = ("serving", "idle", "headroom", "cold start", "failed work", "storage")
    rows = [
        {"time_s": 3600.0 * h, "item": i, "usd": rng.uniform(0.2, 4) / (k + 1)}
        for h in range(24)
        for k, i in enumerate(items)
    ]
    return charts.ledger_bars(pd.DataFrame(rows), ABOUT)


def _pareto() -> Any:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "design": [f"{n} x h100" for n in range(2, 12)],
            "usd_per_hour": np.arange(2, 12) * 2.5,
            "tpot_s_p99": 0.2 / np.arange(2, 12) * rng.uniform(0.8, 1.5, 10),
            "status": ["misses"] * 4 + ["best"] + ["dearer"] * 5,
            "pareto": rng.random(10) > 0.4,
        }
    )
    return charts.pareto(frame, limit_s=0.05, about=ABOUT)


def _tornado() -> Any:
    table = pd.DataFrame(
        {
            "field": ["step_time_factor", "traffic", "max_num_batched_tokens", "max_num_seqs"],
            "low": [0.8, 1.0, 2048, 128],
            "high": [1.25, 1.3, 16384, 512],
            "at_low": [0.031, 0.0402, 0.036, 0.0402],
            "at_high": [0.062, 0.055, 0.049, 0.0402],
            "base": 0.0402,
            "unit": "s",
        }
    )
    return charts.tornado(table, "p99 TPOT", ABOUT)


def _volume() -> pd.DataFrame:
    at = np.linspace(0.2, 12, 100)
    return pd.concat(
        [
            pd.DataFrame({"tokens": at, "line": "own GPUs", "value": 2500.0 * np.ceil(at / 4)}),
            pd.DataFrame({"tokens": at, "line": "API", "value": 900.0 * at}),
        ]
    )


def _lines() -> Any:
    at = np.geomspace(0.5, 16, 30)
    both = [pd.DataFrame({"load": at, "line": n, "value": v}) for n, v in (("own GPUs", 6 / at), ("API", 0 * at + 0.9))]
    return charts.lines(
        pd.concat(both),
        "load",
        "load [request/s]",
        "cost [USD/1M token]",
        "What a million tokens costs",
        6.67,
        True,
        ABOUT,
    )


def _fan() -> Any:
    n = np.arange(2, 9)
    frame = pd.DataFrame({"replicas": n, "median": 200 / n, "low": 140 / n, "high": 330 / n})
    return charts.fan(frame, "replicas", "replicas", "TPOT p99 [ms]", "How sure: latency over fleet size", 50.0, ABOUT)


def _against() -> Any:
    rng = np.random.default_rng(5)
    rows = []
    for metric, unit, base in (
        ("TTFT", "ms", 80.0),
        ("TPOT", "ms", 12.0),
        ("E2EL", "s", 4.0),
        ("throughput", "request/s", 8.0),
    ):
        for level in range(10):
            measured = base * (1 + level / 4) * rng.uniform(0.9, 1.1)
            rows.append(
                {
                    "metric": metric,
                    "unit": unit,
                    "measured": measured,
                    "simulated": measured * rng.normal(1.02, 0.07),
                    "name": f"load {level}",
                }
            )
    return charts.measured_simulated(pd.DataFrame(rows), about=ABOUT)


def _pairs() -> Any:
    rng = np.random.default_rng(6)
    groups = {
        f"{rate} request/s": {
            "measured": [rng.lognormal(-2 + rate / 8, 0.6, 500) for _ in range(2)],
            "simulated": [rng.lognormal(-1.95 + rate / 8, 0.6, 500)],
        }
        for rate in (2, 8, 16)
    }
    return charts.paired_cdf(groups, "TTFT", ABOUT)


def _waterfall() -> Any:
    parts = (
        ("gateway", "queue", 0.0, 0.004),
        ("gateway", "service", 0.004, 0.01),
        ("llm", "queue", 0.014, 0.05),
        ("llm", "front end", 0.064, 0.01),
        ("llm", "prefill", 0.074, 0.09),
        ("llm", "decode", 0.164, 0.5),
        ("guardrail", "service", 0.664, 0.08),
        ("audit log", "service", 0.664, 0.16),
    )
    frame = pd.DataFrame(parts, columns=["stage", "part", "start_s", "seconds"])
    return charts.waterfall(frame.assign(share=frame["seconds"] / 0.744, critical=frame["stage"] != "audit log"), ABOUT)


def _loads() -> Any:
    load = np.array([0.5, 1, 2, 4, 8])
    names = (
        "one at a time",
        "static, 8",
        "TorchServe, 8",
        "Triton, 32",
        "TF Serving",
        "Ray Serve, defaults",
        "Ray Serve, 32",
        "Orca",
        "vLLM",
    )
    rows = [
        pd.DataFrame({"policy": n, "load": load, "e2el": (0.5 + load**1.5) * (10 - k)}) for k, n in enumerate(names)
    ]
    return charts.over_load(pd.concat(rows), "e2el", "p99 end-to-end latency [s]", 20.0, True, ABOUT)


def _arrivals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"poisson": np.cumsum(rng.exponential(0.1, 20_000)), "bursty": np.cumsum(rng.gamma(0.25, 0.4, 20_000))}


def _lengths() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    return {"chat": rng.lognormal(6, 1, 5000), "code": rng.lognormal(7.2, 0.8, 5000)}


class _Table:
    def __init__(self, arrival_s: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.arrival_s = arrival_s
        self.prompt_tokens = rng.lognormal(6, 1, len(arrival_s)) + 1
        self.output_tokens = rng.lognormal(5, 0.7, len(arrival_s)) + 1


GALLERY: dict[str, Callable[[], Any]] = {
    "latency_cdf": _cdf,
    "latency_cdf:several": _cdfs,
    "timeline": _timeline,
    "timeline:replicas": lambda: _timeline(instances=run().instances),
    "timeline:brush": _scaled,
    "gantt": lambda: charts.gantt(run().steps, about=ABOUT),
    "gantt:window": lambda: charts.gantt(run().steps, 0, 1, (5.0, 6.0), ABOUT),
    "gantt:limited": lambda: charts.gantt(run().steps, 0, 1, (0.0, 60.0), ABOUT),
    "heat_map": lambda: charts.heat_map(sweep_table(), "replicas", "gpu", "tpot_s_p99", ABOUT),
    "heat_map:share": lambda: charts.heat_map(sweep_table(), "gpu", "replicas", "attainment", ABOUT),
    "measured_simulated": _against,
    "paired_cdf": _pairs,
    "capacity_curve": lambda: _capacity("rate_rps"),
    "capacity_curve:throughput": lambda: _capacity("throughput_tok_s"),
    "pareto": _pareto,
    "ledger_bars": _ledger,
    "bill_bars": lambda: charts.bill_bars(bill(run()), 0.25, ABOUT),
    "tornado": _tornado,
    "break_even": lambda: charts.break_even(
        _volume(), "tokens", "tokens a month [billion]", "cost [USD/month]", about=ABOUT
    ),
    "lines": _lines,
    "fan": _fan,
    "group_bars": lambda: charts.group_bars(run().breakdown("window", 10.0), "ttft_s_p99", 0.5, ABOUT),
    "group_bars:share": lambda: charts.group_bars(run().breakdown("window", 10.0), "attainment", 0.99, ABOUT),
    "waterfall": _waterfall,
    "over_load": _loads,
    "rate_over_time": lambda: charts.rate_over_time(_arrivals(), ABOUT),
    "burstiness": lambda: charts.burstiness(_arrivals(), ABOUT),
    "length_cdf": lambda: charts.length_cdf(_lengths(), "prompt", ABOUT),
    "fit_sheet": lambda: charts.fit_sheet(*(_Table(a, k) for k, a in enumerate(_arrivals().values()))),
}
HELPERS = {"enable", "save", "signed", "to_svg", "interactive"}
