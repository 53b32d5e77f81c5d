"""Measured against simulated load tests: relative errors by metric, statistic and phase, against what repeats
differ."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from calibration.measure.measured import MeasuredRun
from simulator.results.result import Result

METRICS = ("ttft_s", "tpot_s", "itl_s", "e2el_s")
STATISTICS = {"mean": None, "p50": 50.0, "p90": 90.0, "p99": 99.0}
PHASES = ("all", "filling", "steady", "draining")
LEAST = 20  # requests below which a phase says nothing


def simulated_run(run: MeasuredRun, result: Result) -> MeasuredRun:
    """The simulation of ``run`` in the same form, its rows in the same order."""
    q = result.requests
    frame = pd.DataFrame(
        {
            "arrival_s": q["arrival_s"],
            "prompt_tokens": q["prompt_tokens"],
            "output_tokens": q["generated_tokens"],
            "ttft_s": q["first_token_s"] - q["arrival_s"],
            "e2el_s": q["end_s"] - q["arrival_s"],
            "cached_tokens": q["cached_tokens"],
        }
    )
    itl = result.itl
    gaps = np.repeat(itl["value_us"].to_numpy() * 1e-6, itl["count"].to_numpy())
    return MeasuredRun(run.name, frame, (gaps,), int(frame["ttft_s"].isna().sum()), run.level, run.engine, "simulated")


def phases(run: MeasuredRun) -> np.ndarray:
    """Phase of each request: draining if it ended after the last arrival; filling if it arrived before the number in
    the system first came to nine tenths of its median over time; else steady.
    """
    q = run.requests
    arrive, end = q["arrival_s"].to_numpy(), (q["arrival_s"] + q["e2el_s"]).to_numpy()
    times = np.sort(np.concatenate([arrive, end]))
    inside = np.searchsorted(np.sort(arrive), times, "right") - np.searchsorted(np.sort(end), times, "right")
    span = np.diff(times, append=times[-1])
    order = np.argsort(inside)
    median = inside[order][np.searchsorted(np.cumsum(span[order]), span.sum() / 2).clip(0, len(order) - 1)]
    full = times[np.argmax(inside >= 0.9 * median)]
    return np.where(end > arrive.max(), "draining", np.where(arrive < full, "filling", "steady"))


def values(run: MeasuredRun, metric: str, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
    """A latency [s] of each request, or of each token for ``itl_s``."""
    if metric == "itl_s":
        gaps = (
            run.itl_s
            if len(run.itl_s) != len(run.requests)
            else [g for g, c in zip(run.itl_s, _mask(run, chosen), strict=True) if c]
        )
        return np.concatenate(gaps) if len(gaps) else np.empty(0)
    q = run.requests
    if metric == "tpot_s":
        out = ((q["e2el_s"] - q["ttft_s"]) / (q["output_tokens"] - 1).where(q["output_tokens"] > 1)).to_numpy()
    else:
        out = q[metric].to_numpy()
    return out[chosen]


def _mask(run: MeasuredRun, chosen: np.ndarray | slice) -> np.ndarray:
    mask = np.zeros(len(run.requests), bool)
    mask[chosen] = True
    return mask


def makespan_s(run: MeasuredRun) -> float:
    """From the first arrival to the last token [s]."""
    q = run.requests
    return float((q["arrival_s"] + q["e2el_s"]).max() - q["arrival_s"].min())


def summary(run: MeasuredRun, phase_of: np.ndarray) -> dict[tuple[str, str, str], tuple[float, int]]:
    """(phase, metric, statistic) -> value and the number of requests or tokens behind it."""
    out: dict[tuple[str, str, str], tuple[float, int]] = {}
    for phase in PHASES:
        chosen = np.ones(len(run.requests), bool) if phase == "all" else phase_of == phase
        if chosen.sum() < LEAST:
            continue
        for metric in METRICS:
            if metric == "itl_s" and phase != "all":
                continue
            found = values(run, metric, chosen)
            found = found[~np.isnan(found)]
            if not len(found):
                continue
            for name, q in STATISTICS.items():
                value = found.mean() if q is None else np.percentile(found, q)
                out[phase, metric, name] = float(value), len(found)
    span, n = makespan_s(run), len(run.requests)
    out["all", "makespan_s", "value"] = span, n
    out["all", "requests_per_s", "value"] = n / span, n
    out["all", "output_tokens_per_s", "value"] = float(run.requests["output_tokens"].sum() / span), n
    return out


def group_of(name: str) -> str:
    """The load level of a run: its name without the number of the repeat."""
    return re.sub(r"-\d+$", "", name)


def error_table(pairs: Iterable[tuple[MeasuredRun, MeasuredRun]]) -> pd.DataFrame:
    """One row for each load level, phase, metric and statistic: ``measured``, ``simulated`` (means over repeats),
    ``error`` (simulated / measured - 1), ``noise_floor`` (half-width of the 95 % interval of the measured mean over
    repeats, relative; NaN where there are none), ``repeats``, ``count`` (requests or tokens of all repeats).

    Statistic ``matched`` is the median over requests of the absolute relative difference of the same request.
    """
    rows = []
    for measured, simulated in pairs:
        phase_of = phases(measured)
        a, b = summary(measured, phase_of), summary(simulated, phase_of)
        for key in a.keys() & b.keys():
            rows.append((group_of(measured.name), *key, a[key][0], b[key][0], a[key][1]))
        for metric in ("ttft_s", "tpot_s", "e2el_s"):
            x, y = values(measured, metric), values(simulated, metric)
            if len(x) == len(y):
                gap = float(np.nanmedian(np.abs(y / x - 1)))
                rows.append((group_of(measured.name), "all", metric, "matched", 1.0, 1.0 + gap, len(x)))
    frame = pd.DataFrame(rows, columns=["level", "phase", "metric", "statistic", "measured", "simulated", "count"])
    keys = ["level", "phase", "metric", "statistic"]
    grouped = frame.groupby(keys, sort=False)
    out = grouped[["measured", "simulated"]].mean()
    out["error"] = out["simulated"] / out["measured"] - 1
    out["noise_floor"] = grouped["measured"].agg(_half_width) / out["measured"]
    out["repeats"] = grouped.size()
    out["count"] = grouped["count"].sum()
    out.loc[out.index.get_level_values("statistic") == "matched", "noise_floor"] = np.nan
    order = {
        n: i
        for i, n in enumerate(
            (*PHASES, *METRICS, "requests_per_s", "output_tokens_per_s", "makespan_s", *STATISTICS, "matched", "value")
        )
    }
    return (
        out.reset_index()
        .sort_values(keys, key=lambda c: c if c.name == "level" else c.map(order), kind="stable")
        .reset_index(drop=True)
    )


def _half_width(values: pd.Series) -> float:
    """Of the 95 % interval of the mean (Student's t); NaN for one value."""
    n = len(values)
    return float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def within(row: pd.Series, limit: float) -> bool:
    """Whether an error is at most ``limit`` or the noise floor, whichever is larger."""
    floor = 0.0 if np.isnan(row["noise_floor"]) else row["noise_floor"]
    return abs(row["error"]) <= max(limit, floor)


def headline(table: pd.DataFrame, metrics: Sequence[str] = ("ttft_s", "tpot_s", "e2el_s")) -> pd.DataFrame:
    """The rows that one looks at first: means and p99 of latencies over all requests, and throughput."""
    rows = table[(table["phase"] == "all")]
    latency = rows["metric"].isin(metrics) & rows["statistic"].isin(["mean", "p99"])
    return rows[latency | (rows["metric"] == "requests_per_s")].reset_index(drop=True)
