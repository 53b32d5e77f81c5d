"""A generator for a trace, and how well it fits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.workload.columns import OWN_STREAM
from simulator.workload.config import SyntheticWorkload
from simulator.workload.fit_arrivals import fit_arrivals, loosened
from simulator.workload.fit_lengths import fit_length
from simulator.workload.synthetic import synthetic_table
from simulator.workload.table import RequestTable

BLOCK_S = 60.0
WIDTHS_S = (1.0, 10.0, 60.0)
LEAST = 50  # requests


@dataclass(frozen=True)
class FittedWorkload:
    """``mapping`` is a ``workload:``; ``quality`` compares the trace with a sample of it; ``sample`` is that sample.

    quality: measure, unit, trace, generator, difference (relative; for Kolmogorov-Smirnov distances nothing)
    """

    mapping: dict[str, Any]
    quality: pd.DataFrame
    notes: tuple[str, ...]
    sample: RequestTable


def fit_workload(
    table: RequestTable, name: str = "fitted", seed: int = 0, observed_s: float | None = None
) -> FittedWorkload:
    """One class of traffic like ``table``: a profile of rates, lengths and their rank correlation, system prompts.

    Lengths are chosen on alternate minutes (of a short trace: alternate requests) and judged on the others.
    ``observed_s`` is the time the trace was watched [s]; None: to its last arrival.

    Raises ServelabError for fewer than `LEAST` requests, for requests that wait for answers, and where all arrive at
    once.
    """
    from scipy.stats import ks_2samp, spearmanr

    if table.reacts:
        raise ServelabError(
            "its requests wait for answers (sessions, closed loop); fit what was recorded, or state those classes"
        )
    if len(table) < LEAST:
        raise ServelabError(f"the trace has {len(table)} requests, a fit needs at least {LEAST}")
    last = float(table.arrival_s[-1])
    observed = last if observed_s is None else float(observed_s)
    if not observed >= last or observed <= 0:
        raise ServelabError(f"observed_s must reach the last arrival at {last:.3f} s and be above 0, got {observed_s}")
    arrival_s, step = loosened(table.arrival_s, np.random.default_rng(seed))
    observed = max(observed, float(arrival_s[-1]))
    arrivals, facts = fit_arrivals(arrival_s, observed)
    half = _half(table, observed)
    prompt, prompt_scores = fit_length(table.prompt_tokens[half], table.prompt_tokens[~half])
    output, output_scores = fit_length(table.output_tokens[half], table.output_tokens[~half])
    rank = float(np.nan_to_num(spearmanr(table.prompt_tokens, table.output_tokens).statistic))
    one: dict[str, Any] = {
        "name": name,
        "arrivals": arrivals,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "correlation": float(np.clip(rank, -0.99, 0.99)),
    }
    notes = [
        (
            f"arrivals: {facts['steps']:.0f} steps of rate from {facts['windows']:.0f} windows; intervals on the clock "
            f"of the rate vary by cv {facts['cv']:.2f}"
        ),
        f"prompt: {_shown(prompt)}, mean log-likelihood on the other half {_scores(prompt_scores)}",
        f"output: {_shown(output)}, mean log-likelihood on the other half {_scores(output_scores)}",
        (
            "intervals are independent on that clock: bursts beyond a step of the rate are averaged, "
            "see dispersion and autocorrelation"
        ),
        "lengths do not change over time: a mix of applications that shifts is averaged",
    ]
    if step:
        notes.append(
            f"many requests share their arrival time, which was written down in steps of {step:g} s: they are "
            "spread over the step"
        )
    notes += _prefixes(table, one)
    mapping = {"source": "synthetic", "duration_s": observed, "classes": [one]}
    sample = synthetic_table(SyntheticWorkload.model_validate(mapping), np.random.SeedSequence(seed))
    rows = [*_arrival_rows(arrival_s, sample.arrival_s, observed), *_length_rows(table, sample)]
    rows.append(
        (
            "rank correlation of prompt and output",
            "",
            rank,
            float(spearmanr(sample.prompt_tokens, sample.output_tokens).statistic),
        )
    )
    for label, a, b in (
        ("prompt", table.prompt_tokens, sample.prompt_tokens),
        ("output", table.output_tokens, sample.output_tokens),
        ("intervals", np.diff(arrival_s), np.diff(sample.arrival_s)),
    ):
        limit = 1.36 * np.sqrt((len(a) + len(b)) / (len(a) * len(b)))  # at 5 %
        rows.append(
            (
                f"Kolmogorov-Smirnov distance, {label}",
                f"of 1; chance up to {limit:.3f}",
                np.nan,
                float(ks_2samp(a, b).statistic),
            )
        )
    quality = pd.DataFrame(rows, columns=["measure", "unit", "trace", "generator"])
    with np.errstate(divide="ignore", invalid="ignore"):
        quality["difference"] = quality["generator"] / quality["trace"] - 1
    return FittedWorkload(mapping, quality, tuple(notes), sample)


def _half(table: RequestTable, observed_s: float) -> np.ndarray:
    """The rows to fit on: those of even minutes, or every second one of a trace of less than ten minutes."""
    if observed_s < 10 * BLOCK_S:
        return np.arange(len(table)) % 2 == 0
    even = (table.arrival_s / BLOCK_S).astype(np.int64) % 2 == 0
    return even if 0 < even.sum() < len(table) else np.arange(len(table)) % 2 == 0


def _shown(config: dict[str, Any]) -> str:
    size = {"mixture": "parts", "histogram": "counts"}.get(config["kind"])
    return f"{config['kind']} of {len(config[size])} {size.replace('counts', 'bins')}" if size else config["kind"]


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _counts(arrival_s: np.ndarray, width: float, observed_s: float) -> np.ndarray:
    whole = int(observed_s / width)
    return np.bincount((arrival_s / width).astype(np.int64), minlength=whole)[:whole]


def _arrival_rows(trace_s: np.ndarray, sample_s: np.ndarray, observed_s: float):
    pairs = (trace_s, sample_s)
    yield "rate", "request/s", *(len(a) / observed_s for a in pairs)
    yield "cv of intervals", "", *(float(np.diff(a).std() / np.diff(a).mean()) for a in pairs)
    for width in WIDTHS_S:
        found = [_counts(a, width, observed_s) for a in pairs]
        if len(found[0]) >= 20:
            yield (f"dispersion of counts in {width:g} s", "variance/mean", *(float(c.var() / c.mean()) for c in found))
            yield (
                f"autocorrelation of counts in {width:g} s",
                "",
                *(float(np.corrcoef(c[:-1], c[1:])[0, 1]) for c in found),
            )


def _length_rows(table: RequestTable, sample: RequestTable):
    for label, a, b in (
        ("prompt", table.prompt_tokens, sample.prompt_tokens),
        ("output", table.output_tokens, sample.output_tokens),
    ):
        yield f"{label}, mean", "token", float(a.mean()), float(b.mean())
        for p in (50, 90, 99):
            yield f"{label}, p{p}", "token", float(np.percentile(a, p)), float(np.percentile(b, p))


def _prefixes(table: RequestTable, one: dict[str, Any]) -> list[str]:
    """System prompts into class ``one`` where that is all the sharing there is; else a note on what is lost."""
    if not len(table.segment_stream):
        return []
    count = np.diff(table.segment_start)
    streams, tokens = table.segment_stream, table.segment_tokens
    if count.max() == 1 and len(np.unique(tokens)) == 1 and (streams < OWN_STREAM).all():
        groups = len(np.unique(streams))
        share = float((count > 0).mean())
        size = int(tokens[0])
        one["shared_prefix"] = {"groups": groups, "tokens": size, "share": share}
        own = table.prompt_tokens - np.where(count > 0, size, 0)
        one["prompt_tokens"] = fit_length(own[::2], own[1::2])[0]
        return [f"{groups} system prompts of {size} tokens before {share:.1%} of the prompts"]
    owner = np.repeat(np.arange(len(table)), count)
    key = pd.MultiIndex.from_arrays([streams, np.arange(len(streams)) - table.segment_start[owner]])
    seen = key.duplicated()
    again = int(tokens[seen].sum())
    repeated = f"{again / table.prompt_tokens.sum():.1%} of the trace's prompt tokens repeat an earlier segment"
    return [f"prefixes are not fitted: {repeated}, none of the generator's; replay the trace where the cache matters"]
