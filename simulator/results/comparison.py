"""Two designs under the same traffic: what differs, with paired intervals.

With several seeds a side (the same ones), differences of each figure of the summary are paired by seed: a
Student-t interval over seeds. With one result a side, requests are paired by id and their differences in
latency averaged over batches of time [1]_: a Student-t interval over `BATCHES` batches of equal numbers of requests in
order of arrival, which allows for neighbours that are alike; it says nothing of other traffic.

.. [1] Law, "Simulation Modeling and Analysis", 5th ed., 9.5.3 (batch means) and 10.2.1 (paired-t interval).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.records.metrics import column, completed, latency
from simulator.results.result import Result

BATCHES = 20
COMPARED = ("ttft_s", "tpot_s", "e2el_s", "queue_s")


def paired_interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent differences and its Student-t interval; NaN bounds with fewer than two.

    >>> [round(x, 3) for x in paired_interval(np.array([1.0, 3.0]))]
    [2.0, -10.706, 14.706]
    """
    from scipy.special import stdtrit

    n, mean = len(differences), float(np.mean(differences)) if len(differences) else float("nan")
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, 0.5 + level / 2) * np.std(differences, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def compare(a: Result | Sequence[Result], b: Result | Sequence[Result], level: float = 0.95) -> pd.DataFrame:
    """How ``b`` differs from ``a``, both under the same traffic.

    Columns: metric, stat, a, b, difference (b - a), low, high (its interval at ``level``), relative (difference / a),
    pairs, unit, differs (whether the interval leaves out 0). Request-paired rows have stat ``mean``; those over seeds
    all rows of the summary.

    Raises ServelabError when the two did not have the same traffic, or not the same seeds.
    """
    if not 0 < level < 1:
        raise ServelabError(f"level must lie between 0 and 1, got {level}")
    left, right = ([x] if isinstance(x, Result) else list(x) for x in (a, b))
    seeds = [[r.meta["seed"] for r in side] for side in (left, right)]
    if not left or seeds[0] != seeds[1]:
        raise ServelabError(f"both sides must have the same seeds, got {seeds[0]} and {seeds[1]}")
    for one, other in zip(left, right, strict=True):
        _same_traffic(one, other)
    return _by_seed(left, right, level) if len(left) > 1 else _by_request(left[0], right[0], level)


def _same_traffic(a: Result, b: Result) -> None:
    columns = ("request_id", "prompt_tokens", "max_tokens", "traffic_class")
    if a.meta["scenario"].get("workload") != b.meta["scenario"].get("workload"):
        raise ServelabError(
            "the two runs have different workloads, so their requests cannot be paired; compare designs under one "
            "workload"
        )
    reacts = (column(a.requests, "session") >= 0).any() or len(a.requests) != len(b.requests)
    if not reacts and any((column(a.requests, c) != column(b.requests, c)).any() for c in columns):
        raise ServelabError(
            f"the two runs did not have the same requests ({len(a.requests):,} and {len(b.requests):,}), so they "
            "cannot be paired"
        )


def _by_request(a: Result, b: Result, level: float) -> pd.DataFrame:
    both, ia, ib = np.intersect1d(
        column(a.requests, "request_id"), column(b.requests, "request_id"), return_indices=True
    )
    left, right = a.requests.iloc[ia], b.requests.iloc[ib]
    order = np.argsort(column(left, "arrival_s"), kind="stable")
    done = completed(left) & completed(right)
    rows = [
        _paired(name, latency(left, name)[order], latency(right, name)[order], done[order], "s", level)
        for name in COMPARED
    ]
    good = [dict(zip(column(r.requests, "request_id").tolist(), r.good().tolist(), strict=True)) for r in (a, b)]
    shares = [np.array([g[i] for i in both.tolist()], float)[order] for g in good]
    rows.append(_paired("attainment", shares[0], shares[1], np.ones(len(both), bool), "ratio", level))
    return _frame(rows)


def _paired(name: str, a: np.ndarray, b: np.ndarray, use: np.ndarray, unit: str, level: float) -> tuple:
    use = use & ~np.isnan(a) & ~np.isnan(b)
    a, b = a[use], b[use]
    size = len(a) // BATCHES
    means = (b - a)[: size * BATCHES].reshape(BATCHES, size).mean(axis=1) if size else b - a
    _, low, high = paired_interval(means, level)
    mean = [float(x.mean()) if len(x) else float("nan") for x in (a, b)]
    shift = mean[1] - mean[0] - (low + high) / 2  # the interval is about all requests, the last few too
    return name, "mean", *mean, low + shift, high + shift, len(a), unit


def _by_seed(left: list[Result], right: list[Result], level: float) -> pd.DataFrame:
    sides = [[r.summary().set_index(["metric", "stat"]) for r in side] for side in (left, right)]
    rows = []
    for metric, stat in sides[0][0].index:
        a, b = (np.array([s["value"].get((metric, stat), np.nan) for s in side], float) for side in sides)
        use = np.isfinite(a) & np.isfinite(b)
        mean = [float(x[use].mean()) if use.any() else float("nan") for x in (a, b)]
        _, low, high = paired_interval((b - a)[use], level)
        rows.append((metric, stat, *mean, low, high, int(use.sum()), sides[0][0].loc[(metric, stat), "unit"]))
    return _frame(rows)


def _frame(rows: list[tuple]) -> pd.DataFrame:
    out = pd.DataFrame(rows, columns=["metric", "stat", "a", "b", "low", "high", "pairs", "unit"])
    out["difference"] = out["b"] - out["a"]
    with np.errstate(divide="ignore", invalid="ignore"):
        out["relative"] = out["difference"] / out["a"]
    out["differs"] = (out["low"] > 0) | (out["high"] < 0)
    return out[["metric", "stat", "a", "b", "difference", "low", "high", "relative", "differs", "pairs", "unit"]]
