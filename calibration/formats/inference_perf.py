"""inference-perf's ``per_request_lifecycle_metrics.json`` (kubernetes-sigs): a list, one object for each request."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.measure.measured import MeasuredRun
from simulator.errors import ServelabError


def knows(data: Any) -> bool:
    """Whether ``data`` is such a list."""
    return (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], dict)
        and {"start_time", "end_time", "info"} <= data[0].keys()
    )


def read(path: Path) -> MeasuredRun:
    """The load test in a file. Raises ServelabError where no request completed or the tokens' times are missing."""
    data = json.loads(path.read_text())
    good = [r for r in data if not r.get("error")]
    if not good:
        raise ServelabError(f"{path.name}: all {len(data)} requests failed")
    rows, gaps = [], []
    for i, r in enumerate(sorted(good, key=lambda r: r["start_time"])):
        times = np.asarray(r["info"].get("output_token_times") or [], float)
        if not len(times):
            raise ServelabError(
                f"{path.name}: request {i} has no output_token_times; set api.streaming: true in inference-perf's "
                "configuration"
            )
        rows.append(
            (
                r["start_time"],
                r["info"]["input_tokens"],
                r["info"]["output_tokens"],
                times[0] - r["start_time"],
                r["end_time"] - r["start_time"],
            )
        )
        gaps.append(np.diff(times))
    frame = pd.DataFrame(rows, columns=["arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2el_s"])
    frame["arrival_s"] -= frame["arrival_s"].min()
    return MeasuredRun(
        name=path.stem, requests=frame, itl_s=tuple(gaps), failed=len(data) - len(good), source="inference-perf"
    )
