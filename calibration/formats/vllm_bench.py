"""``vllm bench serve --save-result --save-detailed``: a load test with its arrays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.measure.measured import MeasuredRun
from simulator.errors import ServelabError

NEEDED = ("input_lens", "output_lens", "ttfts", "itls")


def knows(data: Any) -> bool:
    """Whether ``data`` is such a result."""
    return isinstance(data, dict) and "request_throughput" in data and ("ttfts" in data or "mean_ttft_ms" in data)


def read(path: Path) -> MeasuredRun:
    """The load test in a file. Raises ServelabError where the arrays are missing or differ in length."""
    data = json.loads(path.read_text())
    missing = [name for name in NEEDED if name not in data]
    if missing:
        raise ServelabError(
            f"{path.name}: no {', '.join(missing)}: the file holds a summary only; write it with --save-result "
            "--save-detailed"
        )
    sizes = {name: len(data[name]) for name in NEEDED}
    if len(set(sizes.values())) > 1:
        raise ServelabError(f"{path.name}: arrays differ in length: {sizes}")
    if not data["ttfts"]:
        raise ServelabError(f"{path.name}: the benchmark holds no request")
    n = len(data["ttfts"])
    errors = data.get("errors") or [""] * n
    output = np.array(data["output_lens"], int)
    failed = np.array([bool(e) for e in errors]) | (output == 0)
    gaps = [np.asarray(g, float) for g in data["itls"]]
    ttft = np.array(data["ttfts"], float)
    notes = []
    start = data.get("start_times")
    if start is None:
        arrival = np.full(n, np.nan)
        notes.append(f"{path.name}: no start_times (vLLM before 0.10): distributions can be compared, not replayed")
    else:
        arrival = np.array(start, float) - min(start)
    frame = pd.DataFrame(
        {
            "arrival_s": arrival,
            "prompt_tokens": np.array(data["input_lens"], int),
            "output_tokens": output,
            "ttft_s": ttft,
            "e2el_s": ttft + [g.sum() for g in gaps],
        }
    )[~failed]
    if frame.empty:
        raise ServelabError(f"{path.name}: all {n} requests failed")
    order = np.argsort(frame["arrival_s"].to_numpy(), kind="stable")
    kept = [gaps[i] for i in np.flatnonzero(~failed)]
    return MeasuredRun(
        name=path.stem,
        requests=frame.iloc[order].reset_index(drop=True),
        itl_s=tuple(kept[i] for i in order),
        failed=int(failed.sum()),
        source=f"vllm bench serve, {data.get('date', 'no date')}",
        notes=tuple(notes),
    )
