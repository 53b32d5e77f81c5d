"""What happened when: arrivals, requests in the system, KV cache, replicas at work, and the SLO by window."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.theme import LIMIT, title

POINTS = 240  # windows over the whole time
PANELS = {
    "requests/s": "arrivals [request/s]",
    "requests": "requests",
    "share": "share",
    "replicas": "replicas",
    "within SLO": "within SLO",
}
HEIGHTS = {"requests": 110, "replicas": 60}  # [px]
UNITS = ((86_400.0 * 2, 86_400.0, "days"), (7200.0, 3600.0, "hours"), (240.0, 60.0, "minutes"), (0.0, 1.0, "s"))


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
    arrival, end = (requests["arrival_s"].to_numpy(), np.sort(np.nan_to_num(requests["end_s"].to_numpy(), nan=np.inf)))
    arrival, good = arrival[arrival < edges[-1]], good[arrival < edges[-1]]
    table = table[table["window_s"] < edges[-1]]
    arrived = np.histogram(arrival, edges)[0]
    present = np.searchsorted(np.sort(arrival), edges[1:], "right") - np.searchsorted(end, edges[1:], "right")
    window = np.minimum((table["window_s"].to_numpy() // width).astype(int), count - 1)
    steps = np.bincount(window, table["steps"], minlength=count)
    mean = {
        name: np.divide(
            np.bincount(window, table[name] * table["steps"], minlength=count),
            steps,
            out=np.full(count, np.nan),
            where=steps > 0,
        )
        for name in ("running_mean", "waiting_mean", "kv_mean")
    }
    replicas = max(1, len(table[["deployment", "replica"]].drop_duplicates()))
    busy = np.bincount(window, table["busy_s"], minlength=count) / (width * replicas)
    place = np.minimum((arrival // width).astype(int), count - 1)
    fine = np.bincount(place, good, minlength=count) / np.where(arrived > 0, arrived, np.nan)
    found = (
        ("requests/s", "arriving", arrived / width),
        ("requests", "in the system", present),
        ("requests", "running, a replica", mean["running_mean"]),
        ("requests", "waiting, a replica", mean["waiting_mean"]),
        ("share", "KV cache in use", mean["kv_mean"]),
        ("share", "replicas at work", np.minimum(busy, 1.0)),
        ("within SLO", "within SLO", fine),
    )
    return pd.concat(
        [pd.DataFrame({"start_s": start, "panel": p, "measure": m, "value": v}) for p, m, v in found], ignore_index=True
    ).dropna()


def replicas_over_time(instances: pd.DataFrame, edges: np.ndarray) -> pd.DataFrame:
    """The most replicas that were paid for at once in each window between ``edges`` [s]: start_s, deployment, value."""
    parts = []
    for deployment, mine in instances.groupby("deployment"):
        start, end = mine["start_s"].to_numpy(float), np.nan_to_num(mine["end_s"].to_numpy(float), nan=np.inf)
        times, change = np.concatenate([end, start]), np.repeat([-1, 1], len(mine))
        order = np.argsort(times, kind="stable")  # at the same moment one goes before the next comes
        times, level = times[order], np.cumsum(change[order])
        place = np.searchsorted(times, edges[:-1], "right")
        most = np.concatenate([[0], level])[place]
        window = np.searchsorted(edges, times, "right") - 1
        inside = (window >= 0) & (window < len(most))
        np.maximum.at(most, window[inside], level[inside])
        parts.append(pd.DataFrame({"start_s": edges[:-1], "deployment": deployment, "value": most}))
    return (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"start_s": [], "deployment": [], "value": []})
    )


def _up(instances: pd.DataFrame | None, long: pd.DataFrame, horizon_s: float) -> pd.DataFrame:
    """Rows of the panel of replicas; none where there is one replica all the time."""
    if instances is None or not len(instances):
        return long.iloc[:0]
    starts = np.sort(long["start_s"].unique())
    width = starts[1] - starts[0] if len(starts) > 1 else max(horizon_s, 1.0)
    found = replicas_over_time(
        instances, np.append(np.arange(starts[0], starts[-1] + width / 2, width), starts[-1] + width)
    )
    if found["value"].max() <= 1 and found["value"].nunique() == 1:
        return long.iloc[:0]
    several = found["deployment"].nunique() > 1
    measure = [f"paid for, deployment {d}" if several else "paid for" for d in found["deployment"]]
    return found.drop(columns="deployment").assign(panel="replicas", measure=measure)


def timeline(
    requests: pd.DataFrame,
    table: pd.DataFrame,
    good: np.ndarray,
    target: float = 0.99,
    worst: tuple[float, float] | None = None,
    about: str = "",
    instances: pd.DataFrame | None = None,
    brush: bool = False,
) -> Any:
    """Panels over time; ``worst`` is the start and length [s] of the window that met the SLO least.

    ``instances``, a table of the records, adds how many replicas are paid for (they load before they serve) where that
    changes or is more than one. With ``brush``, dragging over the first panel, the arrivals, zooms all others to that
    time; a double click shows all again.
    """
    horizon_s = float(np.nanmax([requests["arrival_s"].max(), requests["end_s"].max(), 1.0]))
    unit, name = _clock(horizon_s)
    long = series(requests, table, good, horizon_s)
    long = pd.concat([long, _up(instances, long, horizon_s)], ignore_index=True)
    long["time"] = long["start_s"] / unit
    chosen = alt.selection_interval(encodings=["x"], name="window") if brush else None
    shown = [p for p in PANELS if p != "replicas" or (long["panel"] == p).any()]
    panels = []
    for panel in shown:
        first, last = brush and panel == shown[0], panel == shown[-1]
        scale = alt.Scale(domain=[0, horizon_s / unit], nice=False)
        if chosen is not None and not first:
            scale = alt.Scale(domain=chosen, nice=False)
        x = alt.X(
            "time:Q",
            title=f"time [{name}]" if last or first else None,
            scale=scale,
            axis=alt.Axis(labels=last or first, ticks=last or first),
        )
        chart = _panel(long[long["panel"] == panel], panel, x, target, clip=brush and not first)
        if worst is not None and np.isfinite(worst[0]):
            band = pd.DataFrame({"from": [worst[0] / unit], "to": [min(worst[0] + worst[1], horizon_s) / unit]})
            shade = alt.Chart(band).mark_rect(opacity=0.15, color=LIMIT, clip=brush)
            chart = shade.encode(x=alt.X("from:Q", scale=scale), x2="to:Q") + chart
        if first:
            chart = chart.add_params(chosen)
        elif brush:
            # without a selection an axis spans its data: all panels are made to span the same
            ends = pd.DataFrame({"time": [0, horizon_s / unit]})
            chart = alt.Chart(ends).mark_rule(opacity=0, clip=True).encode(x=x) + chart
        panels.append(chart.properties(height=HEIGHTS.get(panel, 90), width=520))
    words = "Over time" + (", the worst window shaded" if worst is not None else "")
    words += "; drag over the arrivals to zoom" if brush else ""
    return alt.vconcat(*panels, spacing=8).resolve_scale(color="independent").properties(title=title(words, about))


def _panel(rows: pd.DataFrame, panel: str, x: alt.X, target: float, clip: bool) -> Any:
    last = panel == "within SLO"
    percent = panel in ("share", "within SLO")
    marks = alt.Axis(format="%" if percent else "~s", tickCount=4)
    if panel == "replicas":
        most = int(rows["value"].max())
        marks = alt.Axis(format="d", values=list(range(0, most + 1, max(1, -(-most // 4)))))
    scale = alt.Scale(domain=[0, 1]) if panel == "share" else alt.Scale(zero=not last)
    y = alt.Y("value:Q", title=PANELS[panel], axis=marks, scale=scale)
    several = rows["measure"].nunique() > 1
    colour = alt.Color(
        "measure:N", sort=list(rows["measure"].unique()), legend=alt.Legend(orient="right") if several else None
    )
    chart = (
        alt.Chart(rows).mark_line(strokeWidth=1.6, interpolate="step-after", clip=clip).encode(x=x, y=y, color=colour)
    )
    if last:
        rule = pd.DataFrame({"value": [target]})
        chart = chart + alt.Chart(rule).mark_rule(strokeDash=[5, 4], color=LIMIT).encode(y="value:Q")
    return chart
