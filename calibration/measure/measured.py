"""What was measured on a real engine, whatever wrote it down: requests of a load test, batches of an engine."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

REQUEST_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2el_s")
STEP_COLUMNS = ("prefill_tokens", "prefill_seqs", "prefill_pairs", "prefill_kv", "decode_seqs", "decode_kv", "sampled")


@dataclass(frozen=True)
class MeasuredRun:
    """One load test.

    requests: one row for each request that completed, in order of arrival: ``arrival_s`` (when the client sent it,
        from the start of the test), ``prompt_tokens``, ``output_tokens``, ``ttft_s``, ``e2el_s`` (both from
        ``arrival_s``), and where known ``cached_tokens``, ``after``, ``wait_s``.
    itl_s: for each row the intervals between its tokens [s]; empty where the source has none.
    failed: requests that did not complete; they are counted, never averaged in.
    level: the offered load as a share of saturation where known, else nan.
    notes: what reading gave to say, such as figures that the source does not hold.
    """

    name: str
    requests: pd.DataFrame
    itl_s: tuple[np.ndarray, ...] = ()
    failed: int = 0
    level: float = float("nan")
    engine: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()
