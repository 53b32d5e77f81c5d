"""Distributions of latency against what was promised."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.theme import LIMIT, title
from simulator.charts.words import ticks

LEVELS = np.unique(np.concatenate([np.linspace(0, 0.98, 197), 1 - np.geomspace(0.02, 0.0005, 60), [1.0]]))
MARKS = (0.5, 0.9, 0.99)


def quantiles(values: np.ndarray, levels: np.ndarray = LEVELS) -> np.ndarray:
    """Exact quantiles of the finite values; NaN without any."""
    values = values[np.isfinite(values)]
    return np.quantile(values, levels) if len(values) else np.full(len(levels), np.nan)


def latency_cdf(
    series: Mapping[str, np.ndarray],
    name: str = "TTFT",
    limit_s: float | None = None,
    target: float = 0.99,
    about: str = "",
) -> Any:
    """Share of requests served within a time, by series, with the limit and p50, p90, p99 marked.

    ``series`` are latencies [s] by name. The time axis is logarithmic where it spans more than a factor of 20.
    """
    top = max((float(np.nanmax(v)) for v in series.values() if np.isfinite(v).any()), default=1.0)
    scale, unit = (1e3, "ms") if max(top, limit_s or 0.0) < 0.5 else (1.0, "s")
    series = {label: np.asarray(v) * scale for label, v in series.items()}
    limit = None if limit_s is None else limit_s * scale
    frames = [
        pd.DataFrame({"seconds": quantiles(values), "share": LEVELS, "series": label})
        for label, values in series.items()
    ]
    lines = pd.concat(frames, ignore_index=True).dropna()
    marks = pd.concat(
        [
            pd.DataFrame(
                {
                    "seconds": quantiles(v, np.array(MARKS)),
                    "share": MARKS,
                    "series": label,
                    "mark": [f"p{p:.0%}"[:-1] for p in MARKS],
                }
            )
            for label, v in series.items()
        ]
    ).dropna()
    low, high = (lines["seconds"].min(), lines["seconds"].max()) if len(lines) else (0.0, 1.0)
    wide = low > 0 and high / low > 20
    x = alt.X(
        "seconds:Q",
        title=f"{name} [{unit}]",
        scale=alt.Scale(type="log" if wide else "linear", zero=alt.Undefined if wide else False, nice=not wide),
        axis=alt.Axis(format=",~r", values=ticks(low, high) if wide else alt.Undefined),
    )
    y = alt.Y("share:Q", title="share of completed requests", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("series:N", sort=list(series), legend=alt.Legend() if len(series) > 1 else None)
    base = alt.Chart(lines).encode(x=x, y=y, color=colour)
    points = alt.Chart(marks).encode(
        x=x,
        y=y,
        color=colour,
        tooltip=["series", "mark", alt.Tooltip("seconds:Q", format=",.4g", title=f"{name} [{unit}]")],
    )
    layers = [base.mark_line(interpolate="linear", clip=True), points.mark_point(filled=True, size=45, opacity=1)]
    if len(series) == 1:
        marks = marks.assign(text=[f"{m} {s:.3g} {unit}" for m, s in zip(marks["mark"], marks["seconds"], strict=True)])
        layers.append(alt.Chart(marks).mark_text(align="left", dx=7, dy=9).encode(x=x, y=y, text="text"))
    if limit is not None:
        rule = pd.DataFrame(
            {"seconds": [limit], "share": [0.04], "text": [f"SLO {limit:g} {unit}, {target:.0%} within"]}
        )
        place = np.log(limit / low) / np.log(high / low) if wide else (limit - low) / ((high - low) or 1.0)
        early = all(not q > limit for v in series.values() for q in quantiles(v, np.array([0.1])))
        right = place > 0.78 or (place > 0.25 and not early)  # early: below the curves there is room to the right
        layers.append(alt.Chart(rule).mark_rule(strokeDash=[5, 4], strokeWidth=2, color=LIMIT).encode(x=x))
        layers.append(
            alt.Chart(rule)
            .mark_text(align="right" if right else "left", dx=-6 if right else 6, color=LIMIT)
            .encode(x=x, y=y, text="text")
        )
    return alt.layer(*layers).properties(title=title(f"{name}: how many requests within a time", about), height=230)
