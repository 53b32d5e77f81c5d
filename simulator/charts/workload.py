"""What traffic looks like: its rate, its lengths, its bursts."""

from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.latency import LEVELS, quantiles
from simulator.charts.theme import title
from simulator.charts.timeline import POINTS, _clock
from simulator.charts.words import ticks


def rate_over_time(arrivals: Mapping[str, np.ndarray], about: str = "") -> Any:
    """Arrivals per second [request/s], of one trace or several; ``arrivals`` are times [s] by name."""
    horizon_s = max((float(a[-1]) for a in arrivals.values() if len(a)), default=1.0) or 1.0
    width, (unit, name) = max(1.0, np.ceil(horizon_s / POINTS)), _clock(horizon_s)
    edges = np.arange(max(1, int(horizon_s / width)) + 1) * width  # whole windows only
    rows = [
        pd.DataFrame({"time": edges[:-1] / unit, "rate": np.histogram(a, edges)[0] / width, "series": label})
        for label, a in arrivals.items()
    ]
    return (
        alt.Chart(pd.concat(rows))
        .mark_line(strokeWidth=1.5, interpolate="step-after")
        .encode(
            x=alt.X("time:Q", title=f"time [{name}]", scale=alt.Scale(nice=False)),
            y=alt.Y("rate:Q", title="arrivals [request/s]"),
            color=alt.Color("series:N", sort=list(arrivals), legend=alt.Legend() if len(arrivals) > 1 else None),
        )
        .properties(title=title(f"Arrivals, means of {width:g} s", about), height=200)
    )


def _ticks(parts: Iterable[Any]) -> Any:
    """Round numbers over all positive values of ``parts``."""
    found = np.concatenate([np.asarray(p, float) for p in parts])
    found = found[np.isfinite(found) & (found > 0)]
    return ticks(found.min(), found.max()) if len(found) else alt.Undefined


def length_cdf(lengths: Mapping[str, np.ndarray], name: str = "prompt", about: str = "") -> Any:
    """Share of requests up to a length [token], by series; the axis is logarithmic."""
    rows = [
        pd.DataFrame({"tokens": quantiles(v.astype(float)), "share": LEVELS, "series": k}) for k, v in lengths.items()
    ]
    return (
        alt.Chart(pd.concat(rows))
        .mark_line()
        .encode(
            x=alt.X(
                "tokens:Q",
                title=f"{name} length [token]",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(format=",d", values=_ticks(v.astype(float) for v in lengths.values())),
            ),
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format="%")),
            color=alt.Color("series:N", sort=list(lengths), legend=alt.Legend() if len(lengths) > 1 else None),
            strokeDash=alt.StrokeDash("series:N", sort=list(lengths), legend=None),
        )
        .properties(title=title(f"{name.capitalize()} lengths", about), height=200)
    )


def dispersion(arrival_s: np.ndarray, widths_s: np.ndarray) -> np.ndarray:
    """Index of dispersion of counts: variance over mean of the arrivals in windows of each width [s] (1: Poisson [1]_).

    NaN where fewer than 20 windows fit.

    .. [1] Cox, Lewis, "The Statistical Analysis of Series of Events", 1966.
    """
    out = np.full(len(widths_s), np.nan)
    for k, width in enumerate(widths_s):
        count = int(arrival_s[-1] / width) if len(arrival_s) else 0
        if count >= 20:
            found = np.bincount((arrival_s / width).astype(np.int64), minlength=count)[:count]
            out[k] = found.var() / found.mean()
    return out


def burstiness(arrivals: Mapping[str, np.ndarray], about: str = "") -> Any:
    """Index of dispersion of counts over the width of the window: how bursty at which scale; 1 is Poisson."""
    longest = max((float(a[-1]) for a in arrivals.values() if len(a)), default=20.0)
    widths = np.geomspace(0.1, max(longest / 20, 0.2), 40)
    rows = pd.concat(
        [
            pd.DataFrame({"window": widths, "index": dispersion(a, widths), "series": label})
            for label, a in arrivals.items()
        ]
    ).dropna()
    x = alt.X(
        "window:Q",
        title="window [s]",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format=",~r", values=_ticks([rows["window"]])),
    )
    y = alt.Y(
        "index:Q",
        title="variance / mean of counts",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format=",~r", values=_ticks([rows["index"], [1.0]])),
    )
    colour = alt.Color("series:N", sort=list(arrivals), legend=alt.Legend() if len(arrivals) > 1 else None)
    lines = alt.Chart(rows).mark_line().encode(x=x, y=y, color=colour)
    one = alt.Chart(pd.DataFrame({"index": [1.0]})).mark_rule(strokeDash=[5, 4]).encode(y=y)
    return alt.layer(one, lines).properties(
        title=title("Burstiness by time scale (dashed: Poisson)", about), height=200
    )


def fit_sheet(trace: Any, generator: Any) -> Any:
    """A trace against a generator, tables with arrival_s, prompt_tokens, output_tokens: rate, bursts and lengths."""
    both = {"trace": trace, "generator": generator}
    top = alt.hconcat(
        rate_over_time({k: t.arrival_s for k, t in both.items()}).properties(width=420),
        burstiness({k: t.arrival_s for k, t in both.items()}).properties(width=420),
    )
    lengths = [
        length_cdf({k: getattr(t, f"{n}_tokens") for k, t in both.items()}, n).properties(width=420)
        for n in ("prompt", "output")
    ]
    return alt.vconcat(top, alt.hconcat(*lengths))
