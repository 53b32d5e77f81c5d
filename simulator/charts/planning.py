"""Charts of plans: where money goes over time, alternatives, sensitivity."""

from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.marks import limit_rule
from simulator.charts.theme import COLOURS, title
from simulator.charts.words import number, seconds, ticks

ITEMS = {
    "serving": COLOURS[0],
    "idle": COLOURS[4],
    "headroom": COLOURS[7],
    "cold start": COLOURS[1],
    "failed work": COLOURS[5],
}


def ledger_bars(ledger: pd.DataFrame, about: str = "") -> Any:
    """What is paid in each window and for what; ``ledger`` with columns time_s [s], item and usd."""
    rows = ledger.assign(item=ledger["item"].where(ledger["item"].isin(ITEMS), "other"))
    rows = rows.groupby(["time_s", "item"])["usd"].sum().reset_index()
    times = sorted(rows["time_s"].unique())
    width = min((b - a for a, b in pairwise(times)), default=3600.0)
    unit, seconds = ("h", 3600.0) if times[-1] + width > 7200 else ("min", 60.0)
    colours = {**ITEMS, "other": COLOURS[3]}
    found = [name for name in colours if name in set(rows["item"])]
    rows = rows.assign(
        start=rows["time_s"] / seconds, end=(rows["time_s"] + width) / seconds, rank=rows["item"].map(found.index)
    )
    rows = rows.sort_values(["time_s", "rank"])
    rows["top"] = rows.groupby("time_s")["usd"].cumsum()
    rows["base"] = rows["top"] - rows["usd"]
    return (
        alt.Chart(rows)
        .mark_rect()
        .encode(
            x=alt.X("start:Q", title=f"time [{unit}]"),
            x2="end:Q",
            y=alt.Y("base:Q", title=f"cost [USD per {_span(width)}]"),
            y2="top:Q",
            color=alt.Color("item:N", scale=alt.Scale(domain=found, range=[colours[i] for i in found])),
            tooltip=[
                "item",
                alt.Tooltip("start:Q", format=",.4g", title=f"from [{unit}]"),
                alt.Tooltip("usd:Q", format=",.2f", title="USD"),
            ],
        )
        .properties(title=title("What the money pays for", about))
    )


def _span(width_s: float) -> str:
    return "hour" if width_s == 3600 else f"{width_s / 3600:,.3g} h" if width_s > 3600 else f"{width_s / 60:,.3g} min"


def pareto(designs: pd.DataFrame, name: str = "design", limit_s: float | None = None, about: str = "") -> Any:
    """Cost against p99 TPOT of designs: columns usd_per_hour, tpot_s_p99 [s], status, pareto and ``name``."""
    rows = designs.dropna(subset=["tpot_s_p99"]).assign(
        front=lambda d: d["pareto"].map({True: "on the Pareto front", False: "beaten"}),
        tpot_ms=lambda d: d["tpot_s_p99"] * 1e3,
    )
    seen = [*rows["tpot_ms"], *([] if limit_s is None else [limit_s * 1e3])]
    values = ticks(min(seen) / 1.2, max(seen) * 1.2) if seen else []
    chart = (
        alt.Chart(rows)
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            x=alt.X("usd_per_hour:Q", title="cost [USD/hour]", scale=alt.Scale(zero=False, padding=20)),
            y=alt.Y(
                "tpot_ms:Q",
                title="TPOT p99 in the search world [ms]",
                scale=alt.Scale(type="log", padding=14, nice=False),
                axis=alt.Axis(format=",~r", values=values),
            ),
            color=alt.Color(
                "front:N", scale=alt.Scale(domain=["on the Pareto front", "beaten"], range=[COLOURS[0], COLOURS[7]])
            ),
            shape=alt.Shape("best:N", scale=alt.Scale(domain=["the plan", "other"], range=["diamond", "circle"])),
            tooltip=[
                name,
                "status",
                alt.Tooltip("usd_per_hour:Q", format=",.2f", title="USD/hour"),
                alt.Tooltip("tpot_ms:Q", format=",.1f", title="TPOT p99 [ms]"),
            ],
        )
        .transform_calculate(best="datum.status == 'best' ? 'the plan' : 'other'")
    )
    if limit_s is not None:
        chart = chart + limit_rule("tpot_ms", limit_s * 1e3, f"SLO {number(limit_s * 1e3)} ms")
    return chart.properties(title=title("Cost against latency", about))


def tornado(table: pd.DataFrame, what: str, about: str = "") -> Any:
    """How far each field moves an answer: columns field, low, high, at_low, at_high, base, unit; the field's value
    stands at each end."""
    unit = str(table["unit"].iloc[0]) if len(table) else ""
    top = float(table[["at_low", "at_high", "base"]].max().max()) if len(table) else 0.0
    scale, unit = seconds(top) if unit == "s" else (1.0, unit)
    rows = []
    for r in table.to_dict("records"):
        ends = {side: r[f"at_{side}"] * scale for side in ("low", "high")}
        left = "low" if ends["low"] <= ends["high"] else "high"
        rows += [
            {
                "field": r["field"],
                "from": r["base"] * scale,
                "to": to,
                "said": _said(r[side]),
                "value": f"{r['field']} = {r[side]}",
                "side": side,
                "left": side == left,
            }
            for side, to in ends.items()
        ]
    frame, order = pd.DataFrame(rows), table["field"].tolist()
    y = alt.Y("field:N", sort=order, title=None)
    span = [float(frame[["from", "to"]].min().min()), float(frame[["from", "to"]].max().max())] if rows else [0.0, 1.0]
    room = 0.12 * ((span[1] - span[0]) or abs(span[1]) or 1.0)
    around = alt.Scale(domain=[span[0] - room, span[1] + room], nice=False, zero=False)
    x = alt.X("from:Q", title=f"{what} [{unit}]", scale=around, axis=alt.Axis(format=",~r", tickCount=6))
    bars = (
        alt.Chart(frame)
        .mark_bar(height=18)
        .encode(
            y=y,
            x=x,
            x2="to:Q",
            color=alt.Color("side:N", scale=alt.Scale(domain=["low", "high"], range=[COLOURS[4], COLOURS[1]])),
            tooltip=["value", alt.Tooltip("to:Q", format=",.4g", title=f"{what} [{unit}]")],
        )
    )
    if not rows:
        return bars.properties(title=title("What moves the answer", about), height=alt.Step(34))
    base = alt.Chart(frame.iloc[:1]).mark_rule().encode(x="from:Q")
    texts = [
        alt.Chart(frame[frame["left"] == left])
        .mark_text(align="right" if left else "left", dx=-5 if left else 5, fontSize=10)
        .encode(y=y, x="to:Q", text="said:N")
        for left in (True, False)
    ]
    return alt.layer(bars, base, *texts).properties(title=title("What moves the answer", about), height=alt.Step(34))


def _said(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
