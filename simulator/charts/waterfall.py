"""Where the time of a request goes, and how figures change with the load."""

from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.theme import LIMIT, SERIES, title
from simulator.charts.words import ticks

PARTS = ("queue", "service", "front end", "prefill", "decode", "before", "after")


def waterfall(table: pd.DataFrame, about: str = "") -> Any:
    """The table of `Result.waterfall`: a bar for each part of each stage, from the moment the client sent the request.

    Stages that the client does not wait for are paler.
    """
    whole = float((table["start_s"] + table["seconds"]).max()) if len(table) else 0.0
    scale, unit = (1.0, "s") if whole >= 10 else (1e3, "ms")
    rows = table.assign(
        start=table["start_s"] * scale,
        end=(table["start_s"] + table["seconds"]) * scale,
        took=table["seconds"] * scale,
        label=table["stage"] + table["critical"].map({True: "", False: " (not waited for)"}),
    )
    used = [p for p in PARTS if p in set(rows["part"])]
    bars = (
        alt.Chart(rows)
        .mark_bar(height=14)
        .encode(
            y=alt.Y("label:N", title=None, sort=rows["label"].drop_duplicates().tolist()),
            x=alt.X("start:Q", title=f"since the request was sent [{unit}]"),
            x2="end:Q",
            color=alt.Color("part:N", sort=used, scale=alt.Scale(domain=used)),
            opacity=alt.condition(alt.datum.critical, alt.value(1.0), alt.value(0.45)),
            tooltip=[
                "stage",
                "part",
                alt.Tooltip("took:Q", format=".3g", title=f"took [{unit}]"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    return bars.properties(title=title("Where the time of a request goes", about), height=alt.Step(22), width=480)


def over_load(
    frame: pd.DataFrame, y: str, y_title: str, limit: float | None = None, log: bool = False, about: str = ""
) -> Any:
    """A line for each ``policy`` of ``frame`` over the offered ``load`` [request/s]; ``limit`` is an SLO."""
    x = alt.X("load:Q", title="offered load [request/s]")
    seen = [v for v in [*frame[y], *([] if limit is None else [limit])] if log and v > 0]
    values = ticks(min(seen), max(seen)) if seen else alt.Undefined
    scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale()
    encoded = alt.Y(f"{y}:Q", title=y_title, scale=scale, axis=alt.Axis(format=",~r", values=values))
    order = frame["policy"].drop_duplicates().tolist()
    colours = alt.Scale(domain=order, range=list(SERIES))
    lines = (
        alt.Chart(frame)
        .mark_line(point={"size": 45, "opacity": 1})
        .encode(
            x=x,
            y=encoded,
            color=alt.Color("policy:N", scale=colours, legend=alt.Legend(columns=5)),
            shape=alt.Shape("policy:N", sort=order, scale=alt.Scale(domain=order)),
            tooltip=[
                "policy",
                alt.Tooltip("load:Q", format=",.4g", title="load [request/s]"),
                alt.Tooltip(f"{y}:Q", format=",.3g", title=y_title),
            ],
        )
    )
    layers = [lines]
    if limit is not None:
        rule = pd.DataFrame({y: [limit]})
        layers.append(
            alt.Chart(rule).mark_rule(strokeDash=[5, 4], strokeWidth=2, color=LIMIT).encode(y=alt.Y(f"{y}:Q"))
        )
    return alt.layer(*layers).properties(title=title(y_title.partition(" [")[0], about), height=280, width=520)
