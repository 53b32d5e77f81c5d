"""Charts of plans: where money goes over time, capacity and its knee, alternatives, sensitivity, break-even."""

from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd

from simulator.charts.theme import COLOURS, LIMIT, title

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
        start=rows["time_s"] / seconds,
        end=(rows["time_s"] + width) / seconds,
        rank=rows["item"].map(found.index),
    )
    return (
        alt.Chart(rows)
        .mark_bar(stroke=None)
        .encode(
            x=alt.X("start:Q", bin="binned", title=f"time [{unit}]"),  # binned: bars stand and stack
            x2="end:Q",
            y=alt.Y("usd:Q", title=f"USD in {width / 60:,.0f} min", stack="zero"),
            color=alt.Color("item:N", scale=alt.Scale(domain=found, range=[colours[i] for i in found])),
            order="rank:Q",
            tooltip=["item", alt.Tooltip("usd:Q", format=",.2f")],
        )
        .properties(title=title("What the money pays for", about))
    )


def capacity_curve(
    curve: pd.DataFrame,
    highest_rps: float,
    knee_rps: float,
    metric: str,
    limit_s: float | None,
    about: str = "",
) -> Any:
    """A latency over load: columns rate_rps [request/s], meets and ``metric`` [s]; the highest rate within SLO and the knee are marked."""
    rows = curve[["rate_rps", metric, "meets"]].rename(columns={metric: "latency"})
    rows = rows.assign(slo=rows["meets"].map({True: "SLO met", False: "SLO missed"}))
    base = alt.Chart(rows).encode(
        x=alt.X("rate_rps:Q", title="load [request/s]", scale=alt.Scale(zero=False, nice=False))
    )
    name = metric.replace("_s_", " ").replace("e2el", "E2EL").replace("ttft", "TTFT").replace("tpot", "TPOT")
    y = alt.Y("latency:Q", title=f"{name} [s]", scale=alt.Scale(type="log"))
    layers = [
        base.mark_line(color=COLOURS[7]).encode(y=y),
        base.mark_point(filled=True, size=60).encode(
            y=y,
            color=alt.Color(
                "slo:N", scale=alt.Scale(domain=["SLO met", "SLO missed"], range=[COLOURS[0], COLOURS[5]])
            ),
        ),
    ]
    marks = pd.DataFrame(
        {"rate_rps": [highest_rps, knee_rps], "what": ["highest within SLO", "knee"]}
    ).dropna()
    layers.append(alt.Chart(marks).mark_rule(strokeDash=[4, 3]).encode(x="rate_rps:Q"))
    for place, row in enumerate(marks.to_dict("records")):
        text = alt.Chart(pd.DataFrame([row])).mark_text(align="right", dx=-4, baseline="top")
        layers.append(text.encode(x="rate_rps:Q", y=alt.value(4 + 16 * place), text="what:N"))
    if limit_s is not None:
        layers.append(
            alt.Chart(pd.DataFrame({"latency": [limit_s]}))
            .mark_rule(color=LIMIT)
            .encode(y=alt.Y("latency:Q", title=f"{name} [s]"))
        )
    return alt.layer(*layers).properties(title=title("Latency over load", about))


def pareto(designs: pd.DataFrame, name: str = "design", limit_s: float | None = None, about: str = "") -> Any:
    """Cost against p99 TPOT of designs: columns usd_per_hour, tpot_s_p99 [s], status, pareto and ``name``."""
    rows = designs.dropna(subset=["tpot_s_p99"]).assign(
        front=lambda d: d["pareto"].map({True: "on the Pareto front", False: "beaten"}),
        tpot_ms=lambda d: d["tpot_s_p99"] * 1e3,
    )
    chart = alt.Chart(rows).mark_point(filled=True, size=90).encode(
        x=alt.X("usd_per_hour:Q", title="cost [USD/hour]", scale=alt.Scale(zero=False, padding=20)),
        y=alt.Y("tpot_ms:Q", title="p99 TPOT in the search world [ms]", scale=alt.Scale(type="log", padding=10)),
        color=alt.Color("front:N", scale=alt.Scale(domain=["on the Pareto front", "beaten"], range=[COLOURS[0], COLOURS[7]])),
        shape=alt.Shape("best:N", scale=alt.Scale(domain=["the plan", "other"], range=["diamond", "circle"])),
        tooltip=[name, "status", alt.Tooltip("usd_per_hour:Q", format=",.2f"), alt.Tooltip("tpot_ms:Q", format=",.1f")],
    ).transform_calculate(best="datum.status == 'best' ? 'the plan' : 'other'")  # fmt: skip
    if limit_s is not None:
        chart = chart + alt.Chart(pd.DataFrame({"tpot_ms": [limit_s * 1e3]})).mark_rule(color=LIMIT).encode(
            y="tpot_ms:Q"
        )
    return chart.properties(title=title("Cost against latency", about))


def tornado(table: pd.DataFrame, what: str, about: str = "") -> Any:
    """How far each field moves an answer: columns field, low, high, at_low, at_high, base, unit."""
    rows = []
    for r in table.to_dict("records"):
        for side in ("low", "high"):
            rows.append(
                {
                    "field": r["field"],
                    "from": r["base"],
                    "to": r[f"at_{side}"],
                    "value": f"{r['field']} = {r[side]}",
                    "side": side,
                }
            )
    frame, order = pd.DataFrame(rows), table["field"].tolist()
    unit = table["unit"].iloc[0] if len(table) else ""
    y = alt.Y("field:N", sort=order, title=None)
    bars = alt.Chart(frame).mark_bar(height=18).encode(
        y=y, x=alt.X("from:Q", title=f"{what} [{unit}]", scale=alt.Scale(zero=False)), x2="to:Q",
        color=alt.Color("side:N", scale=alt.Scale(domain=["low", "high"], range=[COLOURS[4], COLOURS[1]])),
        tooltip=["value", alt.Tooltip("to:Q", format=",.4g")],
    )  # fmt: skip
    base = (
        alt.Chart(pd.DataFrame({"from": [float(table["base"].iloc[0])]})).mark_rule().encode(x="from:Q")
        if len(table)
        else None
    )
    chart = bars + base if base is not None else bars
    return chart.properties(title=title("What moves the answer", about), height=alt.Step(34))


def lines(
    frame: pd.DataFrame,
    x: str,
    x_title: str,
    y_title: str,
    heading: str,
    crossing: float | None = None,
    log: bool = False,
    about: str = "",
) -> Any:
    """Several lines over one quantity: columns ``x``, ``line``, ``value``; ``crossing`` marks a place on ``x``."""
    scale = alt.Scale(type="log") if log else alt.Scale()
    chart = alt.Chart(frame).mark_line().encode(
        x=alt.X(f"{x}:Q", title=x_title, scale=scale), y=alt.Y("value:Q", title=y_title, scale=scale), color=alt.Color("line:N", sort=None),
        strokeDash=alt.StrokeDash("line:N", sort=None),
    )  # fmt: skip
    if crossing is not None:
        chart = chart + alt.Chart(pd.DataFrame({x: [crossing]})).mark_rule(
            color=LIMIT, strokeDash=[4, 3]
        ).encode(x=f"{x}:Q")
    return chart.properties(title=title(heading, about))


def fan(
    frame: pd.DataFrame,
    x: str,
    x_title: str,
    y_title: str,
    heading: str,
    limit: float | None = None,
    about: str = "",
) -> Any:
    """An answer with its interval over a quantity: columns ``x``, median, low, high."""
    counts = pd.api.types.is_integer_dtype(frame[x])  # no ticks between whole numbers
    axis = alt.Axis(values=frame[x].tolist(), format="d") if counts else alt.Axis()
    base = alt.Chart(frame).encode(x=alt.X(f"{x}:Q", title=x_title, axis=axis))
    band = base.mark_area(opacity=0.25, color=COLOURS[0]).encode(
        y=alt.Y("low:Q", title=y_title, scale=alt.Scale(type="log", nice=False, padding=10)), y2="high:Q"
    )
    chart = band + base.mark_line(color=COLOURS[0], point=True).encode(y="median:Q")
    if limit is not None:
        chart = chart + alt.Chart(pd.DataFrame({"limit": [limit]})).mark_rule(color=LIMIT).encode(y="limit:Q")
    return chart.properties(title=title(heading, about))
