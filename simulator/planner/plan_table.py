"""The table of a plan: a row each for what was looked at."""

from typing import Any

import numpy as np
import pandas as pd

from simulator.planner.designs import Design, cost, pareto
from simulator.planner.search import Search
from simulator.planner.sweep import label

KEPT = ("attainment", "worst_window", "margin", "ttft_s_p99", "tpot_s_p99", "throughput_tok_s", "binds")


def design_table(search: Search, best: Design | None) -> pd.DataFrame:
    """Fields, usd_per_hour, status, `KEPT`, error and pareto of each design, by cost."""
    rows: list[dict[str, Any]] = []
    for d in search.designs:
        row = {k: label(v) for k, v in d.fields.items()} | {"usd_per_hour": cost(d)}
        status = "screened out" if not d.search and id(d) in search.screened_out else None
        if d is best:
            status = "best"
        elif d.proof:
            status = f"holds in {d.held} of {len(d.proof)} worlds"
        elif d.search:
            status = "holds in the search world" if d.search["meets"] else "misses"
        elif best is not None and d.usd_per_hour >= cost(best):
            status = status or "dearer"
        found = d.search or {}
        rows.append({**row, "status": status or "not tried", **{k: found.get(k) for k in KEPT}, "error": ""})
    for fields, why in search.refused:
        rows.append(
            {**{k: label(v) for k, v in fields.items()}, "usd_per_hour": np.nan, "status": "cannot run", "error": why}
        )
    frame = pd.DataFrame(rows)
    frame["pareto"] = pareto(frame)
    return frame.sort_values("usd_per_hour", ignore_index=True, kind="stable")
