"""What happened when: arrivals, requests in the system, KV cache, replicas at work, and the SLO by window."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.theme import LIMIT, title

POINTS = 240  # windows over the whole time
UNITS = (
    (86_400.0 * 2, 86_400.0, "days"),
    (7200.0, 3600.0, "hours"),
    (240.0, 60.0, "minutes"),
    (0.0, 1.0, "s"),
)


def _clock(horizon_s: float) -> tuple[float, str]:
    """Seconds of the unit that a horizon is shown in, and its name."""
    return next((unit, name) for least, unit, name in UNITS if horizon_s >= least)


def series(requests: pd.DataFrame, table: pd.DataFrame, good: np.ndarray, horizon_s: float) -> pd.DataFrame:
    """Long table: start of window [s], panel, measure, value, for at most `POINTS` windows.

    ``table`` is the timeline of the records; its averages are weighted by batches.
    """
    width = max(1.0, np.ceil(horizon_s / POINTS))
    count = max(1, int(horizon_s / width))  # a last window that is cut short would look like a fall
    edges = np.arange(count + 1) * width
    start = edges[:-1]
    arrival, end = (
        requests["arrival_s"].to_numpy(),
        np.sort(np.nan_to_num(requests["end_s"].to_numpy(), nan=np.inf)),
    )
    arrival, good = arrival[arrival < edges[-1]], good[arrival < edges[-1]]
    table = table[table["window_s"] < edges[-1]]
    arrived = np.histogram(arrival, edges)[0]
    present = np.searchsorted(np.sort(arrival), edges[1:], "right") - np.searchsorted(end, edges[1:], "right")
    window = np.minimum((table["window_s"].to_numpy() // width).astype(int), count - 1)
    steps = np.bincount(window, table["steps"], minlength=count)
    mean = {
        name: np.divide(np.bincount(window, table[name] * table["steps"], minlength=count), steps, out=np.full(count, np.nan), where=steps > 0)
        for name in ("running_mean", "waiting_mean", "kv_mean")
    }  # fmt: skip
    replicas = max(1, len(table[["deployment", "replica"]].drop_duplicates()))
    busy = np.bincount(window, table["busy_s"], minlength=count) / (width * replicas)
    place = np.minimum((arrival // width).astype(int), count - 1)
    fine = np.bincount(place, good, minlength=count) / np.where(arrived > 0, arrived, np.nan)
    found = (
        ("requests/s", "arriving", arrived / width), ("requests", "in the system", present),
        ("requests", "running, a replica", mean["running_mean"]), ("requests", "waiting, a replica", mean["waiting_mean"]),
        ("share", "KV cache in use", mean["kv_mean"]), ("share", "replicas at work", np.minimum(busy, 1.0)),
        ("within SLO", "within SLO", fine),
    )  # fmt: skip
    return pd.concat(
        [pd.DataFrame({"start_s": start, "panel": p, "measure": m, "value": v}) for p, m, v in found],
        ignore_index=True,
    ).dropna()


def timeline(
    requests: pd.DataFrame, table: pd.DataFrame, good: np.ndarray, target: float = 0.99,
    worst: tuple[float, float] | None = None, about: str = "",
) -> Any:  # fmt: skip
    """Four panels over time; ``worst`` is the start and length [s] of the window that met the SLO least."""
    horizon_s = float(np.nanmax([requests["arrival_s"].max(), requests["end_s"].max(), 1.0]))
    unit, name = _clock(horizon_s)
    long = series(requests, table, good, horizon_s)
    long["time"] = long["start_s"] / unit
    panels = []
    for k, panel in enumerate(("requests/s", "requests", "share", "within SLO")):
        rows = long[long["panel"] == panel]
        last = k == 3
        x = alt.X("time:Q", title=f"time [{name}]" if last else None, scale=alt.Scale(domain=[0, horizon_s / unit], nice=False),
                  axis=alt.Axis(labels=last, ticks=last))  # fmt: skip
        percent = panel in ("share", "within SLO")
        y = alt.Y("value:Q", title=panel, axis=alt.Axis(format="%" if percent else "~s", tickCount=4),
                  scale=alt.Scale(domain=[0, 1]) if panel == "share" else alt.Scale(zero=not last))  # fmt: skip
        several = rows["measure"].nunique() > 1
        colour = alt.Color(
            "measure:N",
            sort=list(rows["measure"].unique()),
            legend=alt.Legend(orient="right") if several else None,
        )
        chart = (
            alt.Chart(rows)
            .mark_line(strokeWidth=1.6, interpolate="step-after")
            .encode(x=x, y=y, color=colour)
        )
        if last:
            rule = pd.DataFrame({"value": [target]})
            chart = chart + alt.Chart(rule).mark_rule(strokeDash=[5, 4], color=LIMIT).encode(y="value:Q")
        if worst is not None and np.isfinite(worst[0]):
            band = pd.DataFrame(
                {"from": [worst[0] / unit], "to": [min(worst[0] + worst[1], horizon_s) / unit]}
            )
            chart = alt.Chart(band).mark_rect(opacity=0.15, color=LIMIT).encode(x="from:Q", x2="to:Q") + chart
        panels.append(chart.properties(height=90 if panel != "requests" else 110, width=520))
    words = "Over time" + (", the worst window shaded" if worst is not None else "")
    return (
        alt.vconcat(*panels, spacing=8)
        .resolve_scale(color="independent")
        .properties(title=title(words, about))
    )
