"""Batches as a trace that Perfetto and chrome://tracing show: the Trace Event Format [1]_.

A process per replica. Its track ``GPU`` has a slice per batch, counters show requests and the KV cache, and
requests are asynchronous slices with their phases inside. Times are whole microseconds of simulated time: Perfetto
drops a slice that overlaps the one before it, be it by the rounding of a fraction.

.. [1] "Trace Event Format", Google, 2016 (phases X, C, M, b, e).
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.results.explain import PHASES
from simulator.results.result import Result


def write_trace_events(result: Result, path: Path, *, max_requests: int = 10_000, overwrite: bool = False) -> Path:
    """Write the batches of ``result`` to ``path`` (``.json`` or ``.json.gz``), and its first ``max_requests`` requests.

    Raises ServelabError when no batch was logged (it names the flag), for another ending and a file that exists.
    """
    path = Path(path)
    if not path.name.endswith((".json", ".json.gz")):
        raise ServelabError(f"{path}: the name must end in .json or .json.gz")
    if path.exists() and not overwrite:
        raise ServelabError(f"{path} exists; choose another name, or overwrite it")
    logged = result.meta.get("steps", "off")
    if logged == "off":
        raise ServelabError("no batch was logged; run with --steps full, or sampled for one batch in 64")
    packed = path.suffix == ".gz"
    with gzip.open(path, "wt", encoding="utf-8") if packed else open(path, "w", encoding="utf-8") as file:
        about = {
            "steps": logged,
            "seed": result.meta["seed"],
            "servelab": result.meta["version"],
            "requests_shown": min(max_requests, len(result.requests)),
            "requests": len(result.requests),
        }
        file.write(f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":[\n')
        for i, event in enumerate(_events(result, max_requests)):
            file.write((",\n" if i else "") + json.dumps(event, separators=(",", ":")))
        file.write("\n]}\n")
    return path


def _us(time_s: float) -> int:
    """A time [s] in whole microseconds."""
    return round(time_s * 1e6)


def _events(result: Result, max_requests: int) -> Iterator[dict[str, Any]]:
    names = [d["name"] for d in result.meta["deployments"]]
    pid: dict[tuple[int, int], int] = {
        (int(d), int(r)): i + 1
        for i, (d, r) in enumerate(result.instances[["deployment", "replica"]].itertuples(index=False))
    }
    for (d, r), p in pid.items():
        yield {"ph": "M", "pid": p, "tid": 0, "name": "process_name", "args": {"name": f"{names[d]} {r}"}}
        yield {"ph": "M", "pid": p, "tid": 1, "name": "thread_name", "args": {"name": "GPU"}}
    row: Any
    for row in result.steps.itertuples(index=False):
        p = pid[row.deployment, row.replica]
        yield {
            "ph": "X",
            "pid": p,
            "tid": 1,
            "cat": "batch",
            "ts": _us(row.start_s),
            "dur": _us(row.end_s) - _us(row.start_s),
            "name": f"{row.prefill_seqs} prefill + {row.decode_seqs} decode",
            "args": {
                "step": row.step,
                "prefill_tokens": row.prefill_tokens,
                "decode_kv_tokens": row.decode_kv,
                "preempted": row.preempted,
            },
        }
        at = _us(row.scheduled_s)
        yield {
            "ph": "C",
            "pid": p,
            "name": "requests",
            "ts": at,
            "args": {"running": row.running, "waiting": row.waiting},
        }
        yield {"ph": "C", "pid": p, "name": "KV blocks", "ts": at, "args": {"used": row.used_blocks}}
    for _, q in result.requests.head(max_requests).iterrows():
        yield from _request(q, pid.get((int(q["deployment"]), int(q["replica"])), 0))


def _request(q: pd.Series, pid: int) -> Iterator[dict[str, Any]]:
    if np.isnan(q["end_s"]):
        return
    one = {"cat": "request", "pid": pid, "tid": 2, "id": int(q["request_id"])}
    about = {k: int(q[k]) for k in ("prompt_tokens", "generated_tokens", "cached_tokens", "preemptions")}
    name = f"request {int(q['request_id'])}"
    yield {**one, "ph": "b", "name": name, "ts": _us(q["arrival_s"]), "args": about}
    for phase, (start, end) in PHASES.items():
        until = q[end] if not np.isnan(q[end]) else q["end_s"]
        if not np.isnan(q[start]) and until > q[start]:
            yield {**one, "ph": "b", "name": phase, "ts": _us(q[start])}
            yield {**one, "ph": "e", "name": phase, "ts": _us(until)}
    yield {**one, "ph": "e", "name": name, "ts": _us(q["end_s"])}
