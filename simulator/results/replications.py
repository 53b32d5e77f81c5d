"""A mean over seeds with its Student-t confidence interval."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import pandas as pd

from simulator.errors import ServelabError


class Summarised(Protocol):
    def summary(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame: ...


def intervals(summaries: Iterable[pd.DataFrame], level: float = 0.95) -> pd.DataFrame:
    """Mean and t-interval of each row (metric, stat) of summaries of independent seeds.

    Columns: metric, stat, mean, low, high, n, unit. ``n`` counts the seeds where the value is finite; the
    interval is mean +- t(n-1) s / sqrt(n), NaN with fewer than two. Rows keep the first summary's order.

    Raises ServelabError without any summary, or with a level outside (0, 1).

    >>> row = {"metric": ["x"], "stat": ["mean"], "unit": ["s"]}
    >>> two = [pd.DataFrame({**row, "value": [value]}) for value in (1.0, 3.0)]
    >>> intervals(two).round(3).to_dict("records")[0]
    {'metric': 'x', 'stat': 'mean', 'mean': 2.0, 'low': -10.706, 'high': 14.706, 'n': 2, 'unit': 's'}
    """
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise ServelabError(f"level must lie between 0 and 1, got {level}")
    values: dict[tuple[str, str], list[float]] = {}
    units: dict[tuple[str, str], str] = {}
    for frame in summaries:
        for metric, stat, value, unit in frame[["metric", "stat", "value", "unit"]].itertuples(index=False):
            units[metric, stat] = unit
            values.setdefault((metric, stat), []).append(value)
    if not values:
        raise ServelabError("an interval over seeds needs at least one summary, got none")
    rows = []
    for (metric, stat), seen in values.items():
        x = np.array(seen)[np.isfinite(seen)]
        mean = float(x.mean()) if x.size else float("nan")
        half = (
            float(stdtrit(x.size - 1, 0.5 + level / 2) * x.std(ddof=1) / np.sqrt(x.size))
            if x.size > 1
            else float("nan")
        )
        rows.append((metric, stat, mean, mean - half, mean + half, int(x.size), units[metric, stat]))
    return pd.DataFrame(rows, columns=["metric", "stat", "mean", "low", "high", "n", "unit"])


def replicate(
    results: Iterable[Summarised], level: float = 0.95, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0
) -> pd.DataFrame:
    """:func:`intervals` over the results of several seeds; give a generator to hold one at a time."""
    return intervals((r.summary(trim_warmup_s, trim_drain_s) for r in results), level)
