"""A run by class, tenant or window: the frame of `Result.breakdown`."""

from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.theme import LIMIT, title


def group_bars(
    frame: pd.DataFrame, measure: str = "attainment", limit: float | None = None, about: str = ""
) -> Any:
    """One bar a group of a column of ``frame``, with a limit or target as a line."""
    share = measure == "attainment"
    words = {"attainment": "share within SLO"}.get(
        measure, measure.replace("_s_p", " p").replace("_", " ").upper() + " [s]"
    )
    rows = frame.assign(
        group=frame["group"].map(lambda g: f"{g:g} s" if isinstance(g, float) else str(g) or "(none)")
    )
    x = alt.X(
        f"{measure}:Q",
        title=words,
        axis=alt.Axis(format="%" if share else "~g"),
        scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(),
    )
    bars = alt.Chart(rows).mark_bar(height=18).encode(
        y=alt.Y("group:N", title=None, sort=rows["group"].tolist()), x=x,
        tooltip=["group", "arrived", "completed", alt.Tooltip(f"{measure}:Q", format=".4g")],
    )  # fmt: skip
    layers = [bars]
    if limit is not None:
        rule = pd.DataFrame({measure: [limit]})
        layers.append(alt.Chart(rule).mark_rule(strokeDash=[5, 4], strokeWidth=2, color=LIMIT).encode(x=x))
    return alt.layer(*layers).properties(
        title=title(f"{words[0].upper()}{words[1:]} by group", about), height=alt.Step(28), width=420
    )
