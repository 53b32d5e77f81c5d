"""Latency over load or throughput, with the knee."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from simulator.charts.marks import limit_rule, place_rules
from simulator.charts.theme import COLOURS, LIMIT, title
from simulator.charts.words import axis, named, number, seconds, ticks
from simulator.errors import ServelabError

SLO = {"SLO met": COLOURS[0], "SLO missed": LIMIT}


def capacity_curve(
    curve: pd.DataFrame,
    highest_rps: float,
    knee_rps: float,
    metric: str,
    limit_s: float | None,
    about: str = "",
    over: str = "rate_rps",
) -> Any:
    """A latency over load: columns rate_rps [request/s], meets and ``metric`` [s]; the highest rate within SLO and the
    knee are marked.

    ``curve`` is that of `planner.capacity.capacity`. ``over`` is what the latency is drawn over: ``rate_rps``, or a
    throughput such as ``throughput_tok_s``, where the curve turns upwards at what the deployment can do at most; the
    marks are then where it is at those rates. NaN for a mark leaves it out. Raises ServelabError for a column that is
    not there.
    """
    for column in ("rate_rps", metric, over, "meets"):
        if column not in curve:
            raise ServelabError(f"capacity curve: the table has no column {column!r}")
    rows = curve.sort_values("rate_rps")
    rate, at = rows["rate_rps"].to_numpy(float), rows[over].to_numpy(float)
    top = np.nanmax([rows[metric].max(), limit_s or 0.0])
    scale, unit = seconds(float(top if limit_s is None else min(top, 4 * limit_s)))
    rows = pd.DataFrame(
        {
            "rate": rate,
            "at": at,
            "latency": rows[metric] * scale,
            "slo": rows["meets"].map({True: "SLO met", False: "SLO missed"}),
        }
    )
    shown = rows["latency"][rows["latency"] > 0]
    ends = [shown.min() / 1.4, max(shown.max(), (limit_s or 0.0) * scale) * 1.8]  # room for the texts
    name, over_unit = named(metric)[0], named(over)[1]
    x = alt.X(
        "at:Q",
        title=f"offered load [{over_unit}]" if over == "rate_rps" else axis(over),
        scale=alt.Scale(zero=False, nice=False, padding=8),
    )
    y = alt.Y(
        "latency:Q",
        title=f"{name} [{unit}]",
        scale=alt.Scale(type="log", nice=False, domain=ends),
        axis=alt.Axis(format=",~r", values=ticks(*ends)),
    )
    base = alt.Chart(rows).encode(x=x, y=y)
    tooltip = [
        alt.Tooltip("rate:Q", format=",.4g", title="load [request/s]"),
        alt.Tooltip("latency:Q", format=",.4g", title=f"{name} [{unit}]"),
        "slo",
    ]
    if over != "rate_rps":
        tooltip.insert(1, alt.Tooltip("at:Q", format=",.4g", title=axis(over)))
    layers = [
        base.mark_line(color=COLOURS[7]).encode(order="rate:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            color=alt.Color("slo:N", scale=alt.Scale(domain=list(SLO), range=list(SLO.values()))), tooltip=tooltip
        ),
    ]
    found = {"highest within SLO": highest_rps, "knee": knee_rps}
    places = {what: float(np.interp(value, rate, at)) for what, value in found.items() if np.isfinite(value)}
    if places:
        text = {f"{what} {number(value)} {over_unit}": value for what, value in places.items()}
        layers.append(place_rules("at", text, (float(np.nanmin(at)), float(np.nanmax(at)))))
    if limit_s is not None:
        layers.append(limit_rule("latency", limit_s * scale, f"SLO {number(limit_s * scale)} {unit}", left=True))
    heading = "Latency over load" if over == "rate_rps" else "Latency over throughput"
    return alt.layer(*layers).properties(title=title(heading, about))
