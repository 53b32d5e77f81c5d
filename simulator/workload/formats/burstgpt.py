"""For BurstGPT (HPMLL/BurstGPT): CSV of Timestamp [s], Session ID, Elapsed time, Model, Request tokens, Response
tokens, Total tokens, Log Type.

Timestamps count from midnight of the first day and are read as they stand. A request that failed has no response
tokens: such rows are errors, left out up to ``max_bad_share``. What sessions share is not recorded, so the requests
share no prefixes.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from simulator.errors import nearest
from simulator.workload.rows import RowCheck, check_order, need_columns
from simulator.workload.table import RequestTable

REQUIRED = ("Timestamp", "Request tokens", "Response tokens")
COLUMNS = (
    *("Timestamp", "Session ID", "Elapsed time", "Model"),
    *("Request tokens", "Response tokens", "Total tokens", "Log Type"),
)


def read(path: Path, frame: pd.DataFrame, max_bad_share: float = 0.0) -> RequestTable:
    """The requests of ``frame``. Raises ServelabError as `trace.read_trace` says."""
    names = [str(c) for c in frame.columns]
    need_columns(path, names, REQUIRED, lambda name: nearest(name, set(names) - set(COLUMNS)))
    check = RowCheck(path, len(frame), max_bad_share)
    time_s = pd.to_numeric(frame["Timestamp"], errors="coerce").to_numpy(float)
    check.refuse(
        "Timestamp", frame["Timestamp"], ~(np.isfinite(time_s) & (time_s >= 0)), "a number of seconds, at least 0"
    )
    prompt = check.tokens("Request tokens", frame["Request tokens"])
    output = check.tokens("Response tokens", frame["Response tokens"], least=None)
    check.refuse("Response tokens", frame["Response tokens"], output < 1, "at least 1 token (0: the request failed)")
    keep = check.finish()
    check_order(path, time_s[keep], "Timestamp", frame["Timestamp"], keep)
    return RequestTable.from_columns(time_s[keep], prompt[keep], output[keep])
