"""A run by class, tenant or window: the frame of `Result.breakdown`."""

from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.theme import LIMIT, title
from simulator.charts.words import axis, named, number


def group_bars(frame: pd.DataFrame, measure: str = "attainment", limit: float | None = None, about: str = "") -> Any:
    """One bar a group of a column of ``frame``, with a limit or target as a line."""
    share = measure == "attainment"
    words = axis(measure)
    rows = frame.assign(group=frame["group"].map(lambda g: f"{g:g} s" if isinstance(g, float) else str(g) or "(none)"))
    x = alt.X(
        f"{measure}:Q",
        title=words,
        axis=alt.Axis(format="%" if share else ",~r"),
        scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(),
    )
    bars = (
        alt.Chart(rows)
        .mark_bar(height=18)
        .encode(
            y=alt.Y("group:N", title=None, sort=rows["group"].tolist()),
            x=x,
            tooltip=[
                "group",
                alt.Tooltip("arrived:Q", format=",d"),
                alt.Tooltip("completed:Q", format=",d"),
                alt.Tooltip(f"{measure}:Q", format=".2%" if share else ",.4g", title=words),
            ],
        )
    )
    layers = [bars]
    if limit is not None:
        rule = pd.DataFrame({measure: [limit]})
        layers.append(alt.Chart(rule).mark_rule(strokeDash=[5, 4], strokeWidth=2, color=LIMIT).encode(x=x))
    text, unit = named(measure)
    heading = f"{text[0].upper()}{text[1:]} by group"
    if limit is not None:
        heading += (
            f"; dashed: {limit:.4%}".rstrip("0%").rstrip(".") + "%" if share else f"; dashed: {number(limit)} {unit}"
        )
    return alt.layer(*layers).properties(title=title(heading, about), height=alt.Step(28), width=420)
