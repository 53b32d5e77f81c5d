"""The JSON of ``vllm bench serve --save-result --save-detailed`` (vLLM 0.32), so that its readers read a simulation.

Keys, their order and their definitions are those of ``vllm/benchmarks/serve.py`` [1]_: the summary in ms, arrays in s,
one entry a request in the order of sending. What a simulation has not: texts (empty), a tokenizer (null).
A request that did not complete is a failed one: its state stands in ``errors``, its output length and latency are 0.

.. [1] vLLM 0.32, ``calculate_metrics``, ``benchmark`` and ``main_async``.
"""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import ServelabError
from simulator.export.tokens import token_times
from simulator.records.metrics import column, completed, duration_s
from simulator.records.tables import State
from simulator.results.result import Result

METRICS = ("ttft", "tpot", "itl", "e2el")


def bench_result(
    result: Result,
    *,
    percentiles: Sequence[float] = (99.0,),
    metrics: Sequence[str] = METRICS,
    date: datetime | None = None,
) -> dict[str, Any]:
    """The object that ``vllm bench serve`` would have saved for this run.

    Args:
        percentiles: as ``--metric-percentiles``.
        metrics: as ``--percentile-metrics``, out of `METRICS`.
        date: written as the time of the benchmark; None: now.

    Raises ServelabError when not every batch was logged (it names the flag), for a percentile outside 0 to 100, and
    for a run that took no time.
    """
    for p in percentiles:
        if not 0 <= p <= 100:
            raise ServelabError(f"percentiles must lie between 0 and 100, got {p}")
    for name in metrics:
        if name not in METRICS:
            raise ServelabError(f"metric {name!r}: expected one of {', '.join(METRICS)}")
    times = token_times(result)
    order = np.argsort(column(result.requests, "arrival_s"), kind="stable")
    q = result.requests.iloc[order]
    times = [times[i] for i in order.tolist()]
    done = completed(q)
    start = column(q, "arrival_s")
    first, end = column(q, "first_token_s"), column(q, "end_s")
    output = np.where(done, column(q, "generated_tokens"), 0)
    ttft = np.where(done, first - start, 0.0)
    latency = np.where(done, end - start, 0.0)
    itls = [np.diff(t) for t in times]
    whole_s = duration_s(q)
    if whole_s <= 0:
        raise ServelabError(f"a run of {len(q)} requests and {whole_s:g} s has no throughput; simulate at least one")
    prompt = int(column(q, "prompt_tokens")[done].sum())
    total = int(output.sum())
    rate, concurrency = _traffic(result)
    slo = result.slo_config.limits()
    peak_tokens, peak_requests = _peaks(start, end, done, times)
    head = {
        "date": (date or datetime.now()).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai",
        "backend": "openai",
        "label": None,
        "model_id": ", ".join(dict.fromkeys(d["model"] for d in result.meta["deployments"])),
        "tokenizer_id": None,
        "num_prompts": len(q),
        "request_rate": "inf" if math.isinf(rate) else rate,
        "burstiness": 1.0,
        "max_concurrency": concurrency,
    }
    body = {
        "duration": whole_s,
        "completed": int(done.sum()),
        "failed": int((~done).sum()),
        "total_input_tokens": prompt,
        "total_output_tokens": total,
        "request_throughput": done.sum() / whole_s,
        "request_goodput": float(result.good().sum() / whole_s) if slo else None,
        "output_throughput": total / whole_s,
        "total_token_throughput": (prompt + total) / whole_s,
        "input_lens": column(q, "prompt_tokens").tolist(),
        "output_lens": output.tolist(),
        "ttfts": ttft.tolist(),
        "itls": [i.tolist() for i in itls],
        "latencies": latency.tolist(),
        "start_times": start.tolist(),
        "queue_times": [0.0] * len(q),
        "generated_texts": [""] * len(q),
        "errors": ["" if ok else State(s).name.lower() for ok, s in zip(done, column(q, "state"), strict=True)],
        "max_output_tokens_per_s": peak_tokens,
        "max_concurrent_requests": peak_requests,
        "rtfx": 0.0,
    }
    body["request_throughput"] = float(body["request_throughput"])
    several = done & (output > 1)
    values = {
        "ttft": ttft[done],
        "tpot": (latency - ttft)[several] / (output[several] - 1),
        "itl": np.concatenate(itls) if itls else np.zeros(0),
        "e2el": latency[done],
    }
    summary: dict[str, float] = {}
    for name in metrics:
        summary |= _statistics(name, values[name], percentiles)
    return {**head, **body, **summary}


def write_bench(result: Result, path: Path, *, overwrite: bool = False, **options: Any) -> Path:
    """Write `bench_result` to ``path``. Raises ServelabError for a file that exists, too."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise ServelabError(f"{path} exists; choose another name, or overwrite it")
    found = bench_result(result, **options)
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def _statistics(name: str, values: np.ndarray, percentiles: Sequence[float]) -> dict[str, float]:
    """Mean, median, standard deviation and percentiles [ms]; 0 without values, as vLLM has it."""
    ms = (values if len(values) else np.zeros(1)) * 1000
    out = {
        f"mean_{name}_ms": float(ms.mean()),
        f"median_{name}_ms": float(np.median(ms)),
        f"std_{name}_ms": float(ms.std()),
    }
    for p in percentiles:
        out[f"p{int(p) if int(p) == p else p}_{name}_ms"] = float(np.percentile(ms, p))
    return out


def _traffic(result: Result) -> tuple[float, int | None]:
    """Request rate [request/s] and concurrency, where the workload is one stream that states them."""
    workload = result.meta["scenario"].get("workload") or {}
    classes = workload.get("classes") or []
    source = classes[0]["arrivals"] if len(classes) == 1 else workload
    return float(source.get("rate_rps") or math.inf), source.get("concurrency")


def _peaks(start: np.ndarray, end: np.ndarray, done: np.ndarray, times: list[np.ndarray]) -> tuple[float, int]:
    """Most tokens, and most requests present, in one of the seconds that follow the first request."""
    if not done.any():
        return 0.0, 0
    origin = float(start[done].min())
    tokens = np.bincount((np.concatenate(times) - origin).astype(np.int64))
    enters = (start[done] - origin).astype(np.int64)
    leaves = (end[done] - origin).astype(np.int64)
    change = np.bincount(enters, minlength=int(leaves.max()) + 2) - np.bincount(
        leaves + 1, minlength=int(leaves.max()) + 2
    )
    return float(tokens.max()), int(np.cumsum(change).max())
