"""GuideLLM's report JSON (0.3 to 0.8): one load test for each of its benchmarks, from the requests that it kept."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from calibration.measure.measured import MeasuredRun
from simulator.errors import ServelabError

NEEDED = ("request_start_time", "prompt_tokens", "output_tokens", "time_to_first_token_ms", "request_latency")


def knows(data: Any) -> bool:
    """Whether ``data`` is such a report."""
    return isinstance(data, dict) and isinstance(data.get("benchmarks"), list) and "metadata" in data


def read(path: Path) -> list[MeasuredRun]:
    """The benchmarks of a report. Raises ServelabError where it kept no requests, or they lack what is needed."""
    data = json.loads(path.read_text())
    out = [_run(path, i, benchmark) for i, benchmark in enumerate(data["benchmarks"])]
    if not out:
        raise ServelabError(f"{path.name}: the report holds no benchmark")
    return out


def _run(path: Path, number: int, benchmark: dict[str, Any]) -> MeasuredRun:
    requests = benchmark.get("requests") or {}
    good = requests.get("successful") or []
    failed = len(requests.get("errored") or []) + len(requests.get("incomplete") or [])
    if not good:
        raise ServelabError(
            f"{path.name}: benchmark {number} keeps no successful requests ({failed} failed or incomplete); "
            "GuideLLM leaves them out where --sample-requests 0 is set"
        )
    missing = [name for name in NEEDED if good[0].get(name) is None]
    if missing:
        raise ServelabError(
            f"{path.name}: requests of benchmark {number} lack {', '.join(missing)}: it was not streaming"
        )
    start = min(float(r["request_start_time"]) for r in good)
    frame = pd.DataFrame(
        {
            "arrival_s": [float(r["request_start_time"]) - start for r in good],
            "prompt_tokens": [int(r["prompt_tokens"]) for r in good],
            "output_tokens": [int(r["output_tokens"]) for r in good],
            "ttft_s": [float(r["time_to_first_token_ms"]) / 1e3 for r in good],
            "e2el_s": [float(r["request_latency"]) for r in good],
        }
    ).sort_values("arrival_s", kind="stable")
    return MeasuredRun(
        name=f"{path.stem}-{number}",
        requests=frame.reset_index(drop=True),
        failed=failed,
        source="GuideLLM",
        notes=("GuideLLM keeps no times of single tokens: inter-token latency is not compared",),
    )
