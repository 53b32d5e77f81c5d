"""Where the money goes."""

from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.theme import title

PARTS = ("GPUs at work", "paid and idle")


def bill_bars(bill: pd.DataFrame, duty_cycle: float, about: str = "") -> Any:
    """Lines of a bill (columns item, usd), each split by the share of time its GPUs worked and stood idle."""
    rows = []
    for item, usd in zip(bill["item"].astype(str), bill["usd"].astype(float), strict=True):
        for k, share in enumerate((duty_cycle, 1 - duty_cycle)):
            rows.append({"item": item.partition(" (")[0], "part": PARTS[k], "usd": usd * share, "order": k})
    bars = alt.Chart(pd.DataFrame(rows)).mark_bar(height=22)
    return bars.encode(
        y=alt.Y("item:N", title=None, axis=alt.Axis(labelLimit=380)),
        x=alt.X("usd:Q", title="cost of the run [USD]", stack="zero", axis=alt.Axis(tickCount=5)),
        order="order:Q",
        color=alt.Color("part:N", sort=list(PARTS)),
        tooltip=["item", "part", alt.Tooltip("usd:Q", format=",.2f", title="USD")],
    ).properties(title=title("Bill of the run", about), height=alt.Step(40), width=340)
