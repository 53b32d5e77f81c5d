"""Records -> latency, throughput, utilisation: pure functions of the tables of :mod:`simulator.records.tables`.

Definitions are those of ``vllm bench serve`` [1]_: latencies are of completed requests, seen by the client.

- ``ttft_s``: first token - arrival. ``e2el_s``: end - arrival.
- ``tpot_s``: (e2el - ttft) / (generated - 1), for requests of more than one token.
- ``itl_s``: gap between two tokens of a request, over all tokens of the run.
- ``queue_s``: first scheduled - handed to the engine. ``frontend_s``: handed to the engine - arrival at
  the replica.
- Throughput counts completed requests and their tokens over the duration, from 0 to the last end.

Percentiles are exact, with numpy's linear interpolation.

.. [1] vLLM 0.32, vllm/benchmarks/serve.py, ``calculate_metrics``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.records.tables import State

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
LATENCIES = ("ttft_s", "tpot_s", "e2el_s", "queue_s", "frontend_s")
_SPANS = {
    "ttft_s": ("arrival_s", "first_token_s"),
    "e2el_s": ("arrival_s", "end_s"),
    "queue_s": ("engine_s", "scheduled_s"),
    "frontend_s": ("llm_arrival_s", "engine_s"),
}

Row = tuple[str, str, float, str]  # metric, stat, value, unit


@dataclass(frozen=True)
class Window:
    """The measured part of a run [s]: by arrival for latencies, by end for throughput."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def holds(self, time_s: np.ndarray) -> np.ndarray:
        return (time_s >= self.start_s) & (time_s <= self.end_s)


def column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """One column as an array, without a copy."""
    return frame[name].to_numpy()


def latency(requests: pd.DataFrame, name: str) -> np.ndarray:
    """A latency [s] per request, by its name in ``LATENCIES``; NaN where it is not defined.

    ``deadline_s`` is no latency but the moment of the end [s], to be held against a deadline.

    >>> latency(pd.DataFrame({"arrival_s": [0.0], "first_token_s": [0.5], "end_s": [2.5],
    ...                       "generated_tokens": [5]}), "tpot_s")
    array([0.5])
    """
    if name == "tpot_s":
        gaps = column(requests, "generated_tokens").astype(float) - 1.0
        gaps[gaps < 1.0] = np.nan
        return (column(requests, "end_s") - column(requests, "first_token_s")) / gaps
    if name == "deadline_s":
        return column(requests, "end_s")
    start, end = _SPANS[name]
    return column(requests, end) - column(requests, start)


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame, with columns as attributes."""
    yield from frame.itertuples(index=False)


def completed(requests: pd.DataFrame) -> np.ndarray:
    """Which requests ended with their whole answer."""
    return column(requests, "state") == State.COMPLETED


def duration_s(requests: pd.DataFrame) -> float:
    """Time [s] from the start of the workload to the last end or arrival; 0 without requests."""
    if len(requests) == 0:
        return 0.0
    last = float(np.max(column(requests, "arrival_s")))
    return max(last, float(np.nan_to_num(np.max(np.nan_to_num(column(requests, "end_s"), nan=0.0)))))


def measured(requests: pd.DataFrame, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> Window:
    """The run without its first ``trim_warmup_s`` and its last ``trim_drain_s`` [s].

    Raises ServelabError when a trim is negative or NaN, or nothing would be left.
    """
    for field, value in (("trim_warmup_s", trim_warmup_s), ("trim_drain_s", trim_drain_s)):
        if not 0 <= value < np.inf:
            raise ServelabError(f"{field} must be finite and at least 0 s, got {value}")
    whole_s = duration_s(requests)
    if trim_warmup_s + trim_drain_s >= whole_s > 0:
        raise ServelabError(
            f"trim_warmup_s={trim_warmup_s:g} and trim_drain_s={trim_drain_s:g} leave nothing of a run of {whole_s:g} s"
        )
    return Window(trim_warmup_s, whole_s - trim_drain_s)


def latency_rows(requests: pd.DataFrame, window: Window) -> Iterator[Row]:
    """Mean, extremes and percentiles of each latency of the completed requests that arrived in ``window``."""
    chosen = completed(requests) & window.holds(column(requests, "arrival_s"))
    everything = bool(chosen.all())
    for name in LATENCIES:
        values = latency(requests, name)
        if not everything:
            values = values[chosen]
        undefined = np.isnan(values)
        yield from _spread(name, values[~undefined] if undefined.any() else values)


def _spread(name: str, values: np.ndarray) -> Iterator[Row]:
    if values.size == 0:
        stats = dict.fromkeys(("mean", "min", *PERCENTILES, "max"), float("nan"))
    else:
        found = np.percentile(values, list(PERCENTILES.values()))
        stats = {
            "mean": values.mean(),
            "min": values.min(),
            **dict(zip(PERCENTILES, found, strict=True)),
            "max": values.max(),
        }
    for stat, value in stats.items():
        yield name, stat, float(value), "s"


def histogram_percentile(value: np.ndarray, count: np.ndarray, percent: float) -> float:
    """Percentile of a histogram, equal to ``np.percentile(np.repeat(value, count), percent)``.

    ``value`` ascends; ``count`` is how often it occurs. NaN when all counts are 0.

    >>> histogram_percentile(np.array([1, 10]), np.array([3, 1]), 50.0)
    1.0
    """
    upto = np.cumsum(count)
    total = int(upto[-1]) if upto.size else 0
    if total == 0:
        return float("nan")
    place = percent / 100.0 * (total - 1)
    below = int(np.floor(place))
    part = place - below
    low, high = (float(value[np.searchsorted(upto, i, side="right")]) for i in (below, min(below + 1, total - 1)))
    # numpy's own interpolation, which is exact at both ends
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1.0 - part)


def itl_rows(itl: pd.DataFrame) -> Iterator[Row]:
    """Statistics of the gaps between tokens, over the whole run, from their histogram (exact to 1 us)."""
    count = column(itl, "count")
    some = count > 0
    value, count = column(itl, "value_us")[some], count[some]
    names = ("mean", "min", *PERCENTILES, "max")
    if value.size == 0:
        stats = dict.fromkeys(names, float("nan"))
    else:
        quantiles = [histogram_percentile(value, count, p) for p in PERCENTILES.values()]
        mean = float(np.dot(value.astype(float), count) / count.sum())
        stats = dict(zip(names, [mean, float(value[0]), *quantiles, float(value[-1])], strict=True))
    for stat, value_us in stats.items():
        yield "itl_s", stat, value_us / 1e6, "s"


def count_rows(requests: pd.DataFrame, window: Window, partial: bool) -> Iterator[Row]:
    """How many requests arrived in ``window``, and in which state each of them ended."""
    inside = window.holds(column(requests, "arrival_s"))
    states = np.bincount(column(requests, "state")[inside], minlength=len(State))
    yield "arrived", "count", float(inside.sum()), "request"
    for state in State:
        if state is not State.IN_FLIGHT or partial or states[state]:
            yield state.name.lower(), "count", float(states[state]), "request"


def throughput_rows(requests: pd.DataFrame, window: Window) -> Iterator[Row]:
    """Requests and tokens completed in ``window`` per second of it."""
    done = completed(requests) & window.holds(column(requests, "end_s"))
    prompt, output = (int(column(requests, name)[done].sum()) for name in ("prompt_tokens", "generated_tokens"))
    yield "duration_s", "total", window.length_s, "s"
    yield "prompt_tokens", "total", float(prompt), "token"
    yield "output_tokens", "total", float(output), "token"
    per_s = 1.0 / window.length_s if window.length_s > 0 else float("nan")
    yield "request_throughput", "mean", int(done.sum()) * per_s, "request/s"
    yield "output_throughput", "mean", output * per_s, "token/s"
    yield "total_token_throughput", "mean", (prompt + output) * per_s, "token/s"


def cache_rows(requests: pd.DataFrame, window: Window) -> Iterator[Row]:
    """Preemptions, and the share of scheduled prompt tokens found in the prefix cache."""
    inside = window.holds(column(requests, "arrival_s"))
    yield "preemptions", "count", float(column(requests, "preemptions")[inside].sum()), ""
    admitted = inside & ~np.isnan(column(requests, "scheduled_s"))
    prompt, cached = (int(column(requests, name)[admitted].sum()) for name in ("prompt_tokens", "cached_tokens"))
    yield "prefix_hit_ratio", "mean", _ratio(cached, prompt), "ratio"


def batch_rows(timeline: pd.DataFrame, window: Window) -> Iterator[Row]:
    """Mean batch, per step, over the timeline's windows that begin in ``window``."""
    inside = window.holds(column(timeline, "window_s"))
    steps = column(timeline, "steps")[inside]
    total = int(steps.sum())
    prefill, decode = (int(column(timeline, name)[inside].sum()) for name in ("prefill_tokens", "decode_tokens"))
    yield "steps", "count", float(total), "step"
    yield "decode_seqs", "mean", _ratio(decode, total), "sequence/step"
    yield "tokens_per_step", "mean", _ratio(prefill + decode, total), "token/step"
    for name, metric, unit in (
        ("running_mean", "running", "request"),
        ("waiting_mean", "waiting", "request"),
        ("kv_mean", "kv_use", "ratio"),
    ):
        weighted = np.where(steps > 0, column(timeline, name)[inside] * steps, 0.0)
        yield metric, "mean", _ratio(float(weighted.sum()), total), unit
    kv = column(timeline, "kv_mean")[inside & (column(timeline, "steps") > 0)]
    yield "kv_use", "max_window", float(kv.max()) if kv.size else float("nan"), "ratio"


def utilisation_rows(instances: pd.DataFrame, deployments: list[dict], whole_s: float) -> Iterator[Row]:
    """Use of the GPUs over the whole run, weighted by GPUs: four figures that are not the same thing.

    ``duty_cycle``: time busy over time billed. ``prefill_share`` and ``decode_share``: of the busy time.
    ``mfu`` and ``mbu``: arithmetic done, and bytes moved, over what the GPUs' peaks allow in the time
    billed (``mean``) or busy (``busy``); peaks per GPU from ``deployments`` [FLOP/s, B/s].
    ``in_system``: mean requests in the engines, the L of Little's law over a run of ``whole_s`` [s].
    """
    gpus = column(instances, "gpus").astype(float)
    end_s = np.where(np.isnan(column(instances, "end_s")), whole_s, column(instances, "end_s"))
    billed = gpus * (end_s - column(instances, "start_s"))
    busy = gpus * np.nan_to_num(column(instances, "busy_s"))
    prefill = float((gpus * np.nan_to_num(column(instances, "prefill_busy_s"))).sum())
    yield "duty_cycle", "mean", _ratio(float(busy.sum()), float(billed.sum())), "ratio"
    yield "prefill_share", "mean", _ratio(prefill, float(busy.sum())), "ratio"
    yield "decode_share", "mean", _ratio(float(busy.sum()) - prefill, float(busy.sum())), "ratio"
    index = column(instances, "deployment").astype(int)
    for metric, done, field in (("mfu", "flops", "peak_flops"), ("mbu", "bytes", "peak_bytes_per_s")):
        peaks = np.array([float(d.get(field) or np.nan) for d in deployments])
        peak = peaks[index] if peaks.size else np.full(len(instances), np.nan)
        total = float(np.nan_to_num(column(instances, done)).sum())
        yield metric, "mean", _ratio(total, float((peak * billed).sum())), "ratio"
        yield metric, "busy", _ratio(total, float((peak * busy).sum())), "ratio"
    yield ("in_system", "mean", _ratio(float(np.nan_to_num(column(instances, "system_s")).sum()), whole_s), "request")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


def to_frame(rows: Iterator[Row] | list[Row]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["metric", "stat", "value", "unit"])
