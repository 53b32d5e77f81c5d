"""Synthetic results: a single first-come-first-served server, without an engine."""

import numpy as np

from simulator.records.tables import State, empty
from simulator.results.result import Result

DEPLOYMENT = {
    "name": "chat",
    "model": "toy",
    "gpu": "h100_sxm",
    "gpus_per_replica": 1,
    "step_time": "constant",
    "trust": "roofline",
    "source": "made up",
    "peak_flops": 1e15,
    "peak_bytes_per_s": 3e12,
}


def meta(**changes):
    return {
        "scenario": {"schema_version": 1},
        "seed": 0,
        "version": "0",
        "deployments": [dict(DEPLOYMENT)],
        "notes": [],
        "partial": False,
        "method": "synthetic",
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
        "prices": {},
        **changes,
    }


def requests(n, rate=1.0, service_s=0.5, generated=11, frontend_s=0.001, seed=0, arrival_s=None):
    """Columns of ``n`` completed requests of one FIFO server with Poisson arrivals."""
    rng = np.random.default_rng(seed)
    out = empty("requests", n)
    arrival_s = np.cumsum(rng.exponential(1 / rate, n)) if arrival_s is None else np.asarray(arrival_s, float)
    work = np.cumsum(np.full(n, service_s))
    engine_s = arrival_s + frontend_s
    # Lindley: start = max over earlier arrivals of (arrival + work since), exactly
    start = np.maximum.accumulate(engine_s - (work - service_s)) + (work - service_s)
    out["request_id"] = np.arange(n)
    out["state"][:] = State.COMPLETED
    out["arrival_s"], out["engine_s"], out["scheduled_s"] = arrival_s, engine_s, start
    out["first_token_s"] = start + service_s / 10
    out["end_s"] = start + service_s
    out["llm_arrival_s"], out["llm_first_token_s"], out["llm_end_s"] = (
        arrival_s.copy(),
        start + service_s / 10,
        start + service_s,
    )
    out["prompt_tokens"][:] = 100
    out["generated_tokens"][:] = generated
    out["max_tokens"][:] = generated
    return out


def instances(spans, gpus=1, gpu="h100_sxm", **columns):
    out = empty("instances", len(spans))
    out["replica"] = np.arange(len(spans))
    out["gpu"][:] = gpu
    out["gpus"][:] = gpus
    out["start_s"], out["end_s"] = np.array(spans, dtype=float).reshape(-1, 2).T
    for name in ("busy_s", "prefill_busy_s", "flops", "bytes", "system_s"):
        out[name][:] = 0.0
    for name, values in columns.items():
        out[name][:] = values
    return out


def events(times):
    out = empty("events", len(times))
    out["time_s"] = np.asarray(times, float)
    out["kind"][:] = "scale_up"
    out["detail"][:] = "from 1 to 2 — ready"
    return out


def timeline(windows, steps, prefill, decode):
    out = empty("timeline", len(windows))
    out["window_s"] = np.asarray(windows, float)
    out["steps"][:], out["prefill_tokens"][:], out["decode_tokens"][:] = steps, prefill, decode
    for name in ("busy_s", "running_mean", "waiting_mean", "kv_mean"):
        out[name][:] = 0.5
    return out


def result(columns=None, spans=((0.0, 3600.0),), itl=((20_000, 10),), **changes):
    tables = {"requests": requests(100) if columns is None else columns, "instances": instances(spans)}
    value, count = zip(*itl, strict=True) if itl else ((), ())
    return Result.from_columns(meta(**changes), tables, value, count)


def value(summary, metric, stat="mean"):
    rows = summary[(summary["metric"] == metric) & (summary["stat"] == stat)]
    assert len(rows) == 1, (metric, stat, len(rows))
    return float(rows["value"].iloc[0])
