"""One design under one day of traffic, as one row of figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simulator.core.slo import LIMITS
from simulator.cost.bill import cost_summary
from simulator.planner.traffic import requests_of, worst_hour
from simulator.records.metrics import column, completed, latency
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate

PERCENTILES = {"ttft_s": (50, 99), "tpot_s": (50, 99), "e2el_s": (50, 99)}
UNITS = {
    "attainment": "ratio",
    "worst_window": "ratio",
    "throughput_tok_s": "token/s",
    "throughput_rps": "request/s",
    "goodput_rps": "request/s",
    "duty_cycle": "ratio",
    "usd_per_hour": "USD/hour",
    "usd_per_1m_output_tokens": "USD/1M token",
    "usd_per_1m_output_tokens_within_slo": "USD/1M token",
    "usd_per_request": "USD/request",
    **{f"{name}_p{p}": "s" for name, ps in PERCENTILES.items() for p in ps},
    **{f"{name}_mean": "s" for name in PERCENTILES},
}


def row_of(result: Result, trim_warmup_s: float = 0.0) -> dict[str, Any]:
    """A result as one flat row: whether it meets its SLO, percentiles [s], throughput, use, cost, what binds, trust.

    ``margin`` is the least of attainment and worst window less the target; negative for a miss. Costs are NaN where a
    price is missing, and ``no_price`` says which.
    """
    judged = result.slo(trim_warmup_s=trim_warmup_s)
    total = judged.iloc[-1]
    q = result.requests
    inside = column(q, "arrival_s") >= trim_warmup_s
    done = completed(q) & inside
    ended = column(q, "end_s")
    span = float(np.nanmax(ended[done]) - trim_warmup_s) if done.any() else float("nan")
    state = result.state()
    out: dict[str, Any] = {
        "meets": bool(total["meets"]) and state.state != "overloaded",
        "attainment": float(total["attainment"]),
        "worst_window": float(total["worst_window"]),
        "state": state.state,
        "margin": float(min(total["attainment"], total["worst_window"]) - total["target"]),
        "arrived": int(inside.sum()),
        "completed": int(done.sum()),
        "throughput_rps": float(done.sum() / span) if span > 0 else float("nan"),
        "throughput_tok_s": float(column(q, "generated_tokens")[done].sum() / span) if span > 0 else float("nan"),
        "goodput_rps": float(result.good()[inside].sum() / span) if span > 0 else float("nan"),
    }
    for name, percents in PERCENTILES.items():
        values = latency(q, name)[done]
        values = values[~np.isnan(values)]
        found = np.percentile(values, percents) if len(values) else np.full(len(percents), np.nan)
        out |= {f"{name}_p{p}": float(v) for p, v in zip(percents, found, strict=True)}
        out[f"{name}_mean"] = float(values.mean()) if len(values) else float("nan")
    out |= _limits(judged)
    gpus = column(result.instances, "gpus").astype(float)
    life = column(result.instances, "end_s") - column(result.instances, "start_s")
    out["duty_cycle"] = float((gpus * column(result.instances, "busy_s")).sum() / max((gpus * life).sum(), 1e-9))
    out |= _costs(result)
    trusts = [d["trust"] for d in result.meta["deployments"]]
    out["trust"] = next((t for t in ("roofline", "extrapolated", "fitted", "measured") if t in trusts), "user")
    return out


def _limits(judged: Any) -> dict[str, Any]:
    """For each limit how near it is (latency that the target share met, over the limit), and which binds."""
    each = judged[judged["limit"] != "all"]
    near = {f"{r['limit']}_of_limit": float(r["at_target_s"] / r["limit_s"]) for _, r in each.iterrows()}
    worst = each.iloc[int(np.argmin(each["worst_window"]))] if len(each) else None
    if worst is not None and worst["worst_window"] == 1.0:
        worst = each.iloc[int(np.argmax(each["at_target_s"] / each["limit_s"]))]
    return {**near, "binds": "" if worst is None else LIMITS[worst["limit"]]}


def _costs(result: Result) -> dict[str, Any]:
    from simulator.errors import ServelabError

    names = ("usd_per_hour", "usd_per_1m_output_tokens", "usd_per_1m_output_tokens_within_slo", "usd_per_request")
    try:
        value = cost_summary(result).set_index("metric")["value"]
    except ServelabError as problem:
        return {**dict.fromkeys(names, float("nan")), "no_price": str(problem)}
    return {name: float(value[name]) for name in names}


def evaluate(mapping: Mapping[str, Any], folder: str, seed: int, hour: bool = False) -> dict[str, Any]:
    """`row_of` a scenario given as plain data with the folder of its files; what a worker process runs.

    ``hour``: only the heaviest hour of the traffic is simulated and judged, after what comes before it.
    """
    scenario = Scenario.of(mapping, Path(folder))
    if not hour:
        return row_of(simulate(scenario, seed))
    table, warmup_s = worst_hour(requests_of(scenario, seed))
    return row_of(simulate(scenario, seed, requests=table), warmup_s)


def job(scenario: Scenario, seed: int, hour: bool = False) -> tuple[dict[str, Any], str, int, bool]:
    """Arguments of `evaluate`."""
    return scenario.to_mapping(), str(scenario.base_dir), seed, hour


def key(mapping: Mapping[str, Any]) -> str:
    """Plain data as one text, the same for the same data."""
    return json.dumps(mapping, sort_keys=True, separators=(",", ":"))
