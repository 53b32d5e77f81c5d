"""What is shown of an outcome, tab by tab: text and charts, without any widget. A tab is made when it is opened."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from simulator import charts
from simulator.core.slo import LIMITS
from simulator.cost.ledger import ledger
from simulator.errors import ServelabError
from simulator.explorer import cards
from simulator.explorer.work import Outcome
from simulator.export.decision import headline
from simulator.planner.capacity import Capacity
from simulator.planner.plan import Plan
from simulator.records.metrics import completed, latency
from simulator.results.result import Result

WINDOWS = 24  # of the chart of costs


@dataclass(frozen=True)
class Html:
    text: str


@dataclass(frozen=True)
class Picture:
    """A chart with its stamp; ``live``: one that answers the mouse."""

    chart: Any
    live: bool = False


Item = Html | Picture
Tab = Callable[[], Iterator[Item]]
COMPARED = "A and B"


def tabs(outcome: Outcome, pinned: Outcome | None = None) -> dict[str, Tab]:
    """Tabs by title; with another run pinned, one that compares."""
    found = outcome.found
    if isinstance(found, Capacity):
        return {"Capacity": lambda: _capacity(outcome, found)}
    if isinstance(found, Plan):
        return {"Plan": lambda: _plan(outcome, found)}
    made: dict[str, Tab] = {
        "Summary": lambda: iter([Html(cards.outcome_card(found))]),
        "Latency": lambda: _cdfs({"": found}, outcome.stamp),
        "Over time": lambda: _over_time(outcome, found),
        "Cost": lambda: _cost(outcome, found),
    }
    if len(found.stages):
        made["Path"] = lambda: _path(outcome, found)
    if pinned is not None and isinstance(pinned.found, Result) and pinned.stamp != outcome.stamp:
        a = pinned.found
        made[COMPARED] = lambda: _compared(a, found)
    return made


def all_tabs(run: Outcome | None, search: Outcome | None, pinned: Outcome | None) -> dict[str, Tab]:
    """Those of the last simulation, and behind them the one of the last search."""
    made: dict[str, Tab] = {}
    for outcome in (run, search):
        made |= tabs(outcome, pinned) if outcome is not None else {}
    return made


def _cdfs(runs: dict[str, Result], stamp: str) -> Iterator[Item]:
    slo = next(iter(runs.values())).slo_config
    for name in ("ttft_s", "tpot_s", "e2el_s"):
        series = {k or LIMITS[name]: latency(r.requests, name)[completed(r.requests)] for k, r in runs.items()}
        chart = charts.latency_cdf(series, LIMITS[name], slo.limits().get(name), slo.attainment)
        yield Picture(charts.signed(chart, stamp))


def _over_time(outcome: Outcome, r: Result) -> Iterator[Item]:
    yield Html(cards.note("Drag over the arrivals at the top to look closer; double-click to see all again."))
    made = charts.timeline(r.requests, r.timeline, r.good(), r.slo_config.attainment, instances=r.instances, brush=True)
    yield Picture(charts.signed(made, outcome.stamp), live=True)


def _cost(outcome: Outcome, r: Result) -> Iterator[Item]:
    yield Html(cards.bill_table(r))
    end_s = float(r.requests["arrival_s"].max()) if len(r.requests) else 0.0
    window_s = max(60.0, 60.0 * math.ceil(end_s / 60 / WINDOWS))
    try:
        lines = ledger(r, window_s=window_s)
    except ServelabError:  # no price: the table has said so
        return
    yield Picture(charts.signed(charts.ledger_bars(lines), outcome.stamp))


def _path(outcome: Outcome, r: Result) -> Iterator[Item]:
    for percentile in (50, 99):
        about = f"percentile {percentile} of end-to-end latency"
        yield Picture(charts.signed(charts.waterfall(r.waterfall(percentile), about), outcome.stamp))


def _compared(a: Result, b: Result) -> Iterator[Item]:
    yield Html(cards.comparison_card(a, b, ("A (pinned)", "B")))
    yield from _cdfs({"A (pinned)": a, "B": b}, f"A: {a.stamp}; B: {b.stamp}")


def _capacity(outcome: Outcome, found: Capacity) -> Iterator[Item]:
    yield Html(cards.say(str(found), cards.GOOD))
    bound = {label: name for name, label in LIMITS.items()}.get(found.binds, "ttft_s")
    metric = f"{bound}_p99" if f"{bound}_p99" in found.curve else "e2el_s_p99"
    limit = outcome.scenario.slo.limits().get(bound)
    chart = charts.capacity_curve(found.curve, found.rate_rps, found.knee_rps, metric, limit)
    yield Picture(charts.signed(chart, outcome.stamp))


def _plan(outcome: Outcome, found: Plan) -> Iterator[Item]:
    yield Html(cards.say("\n".join(headline(found)), cards.GOOD if found.best else cards.BAD))
    nearest = found.best or found.closest
    looked = found.designs[found.designs["tpot_s_p99"].notna()] if "tpot_s_p99" in found.designs else found.designs[:0]
    if nearest is None or not len(looked):
        return
    names = [c for c in nearest.fields if c in looked]
    design = looked[names].astype(str).agg(", ".join, axis=1)
    yield Picture(
        charts.signed(charts.pareto(looked.assign(design=design), limit_s=outcome.scenario.slo.tpot_s), outcome.stamp)
    )
    shown = [*names, "usd_per_hour", "status", "binds"]
    yield Html(cards.table(shown, ([cards.cell(v) for v in row] for row in looked[shown].itertuples(index=False))))
