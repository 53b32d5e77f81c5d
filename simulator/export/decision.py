"""A decision record of a plan, in Markdown and HTML: question, assumptions, plan, alternatives and why not, risks,
what to measure."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pandas as pd

from simulator.core.slo import LIMITS
from simulator.cost.bill import COSTS, staleness_days
from simulator.planner.designs import misses, why_not
from simulator.planner.plan import Plan
from simulator.planner.plan_file import PlanFile
from simulator.planner.price import gpu_prices
from simulator.records.metrics import rows_of
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario

SHOWN = (
    "usd_per_hour",
    "usd_per_1m_output_tokens_within_slo",
    "usd_per_request",
    "ttft_s_p99",
    "tpot_s_p99",
    "e2el_s_p99",
    "throughput_tok_s",
    "attainment",
    "worst_window",
)


def headline(plan: Plan) -> Iterator[str]:
    """The answer in a few lines."""
    claim = plan.claim
    if plan.best is None:
        yield f"no plan holds the SLO in {claim.probability:.0%} of worlds"
        if plan.closest is not None:
            yield f"closest: {plan.closest.name} at {plan.closest.usd_per_hour:,.2f} USD/hour, {why_not(plan.closest)}"
        return
    best = plan.best
    yield f"plan: {best.name} at {best.usd_per_hour:,.2f} USD/hour ({best.usd_per_hour * 730:,.0f} USD a month)"
    yield (
        f"it held the SLO in {best.held} of {len(best.proof)} fresh worlds: in {plan.bound:.0%} of worlds or more, at "
        f"{claim.confidence:.0%} confidence; designs put to the proof: {plan.proven}"
    )
    if best.search is not None:
        yield f"in the search world, slower than {claim.probability:.0%} of worlds, {misses(best.search)}"
    if plan.cheaper is not None:
        yield f"next cheaper: {plan.cheaper.name} at {plan.cheaper.usd_per_hour:,.2f} USD/hour {why_not(plan.cheaper)}"
    yield f"trust: {plan.trust}; {plan.rests_on}"


def as_markdown(plan: Plan, asked: PlanFile, scenario: Scenario, today: dt.date | None = None) -> str:
    """The record as Markdown. ``today`` (default: the date of the call) dates the age of prices."""
    out = [f"# Decision record: {asked.question or 'which deployment?'}", ""]
    out += [
        "## Question",
        "",
        asked.question or "The cheapest deployment that holds the SLO.",
        "",
        f"- {_slo(scenario)}",
    ]
    choices = "; ".join(f"{k}: {', '.join(map(str, v))}" for k, v in asked.choices.items())
    out += [f"- Choices: {choices}", "", "## Answer", ""] + [f"- {line}" for line in headline(plan)]
    if plan.answers is not None:
        out += ["", "Over the fresh worlds, median and 90 % interval:", "", *_answers(plan.answers)]
    out += [
        "",
        "## Assumptions",
        "",
        *_table(["what", "value", "source"], _assumptions(plan, asked, scenario, today or dt.date.today())),
    ]
    out += ["", "## Alternatives and why not", "", *_alternatives(plan)]
    out += ["", "## Risks", "", *(f"- {line}" for line in _risks(plan, asked))]
    out += ["", "## What to measure first", "", *(f"- {line}" for line in _measure(plan)), ""]
    return "\n".join(out)


def as_html(markdown: str) -> str:
    """The record as one page that needs no network."""
    from markdown_it import MarkdownIt

    title = markdown.splitlines()[0].lstrip("# ")
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 "
        "1rem;color:#1b1f24;background:#fff}"
        "table{border-collapse:collapse;display:block;overflow-x:auto;margin:1rem 0}th,td{border-bottom:1px solid "
        "#d5dae1;"
        "padding:.35rem .7rem;text-align:left;vertical-align:top}h2{margin-top:2rem}"
        "@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14171c}th,td{border-color:#333a45}}"
    )
    import html

    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>\n<body><main>\n{body}</main></body></html>\n"
    )


def _slo(scenario: Scenario) -> str:
    limits = ", ".join(f"{LIMITS[k]} <= {v:g} s" for k, v in scenario.slo.limits().items())
    return (
        f"SLO: {limits or 'completion'} for {scenario.slo.attainment:.2%} of requests, in every window of "
        f"{scenario.slo.window_s:g} s"
    )


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    line = lambda cells: "| " + " | ".join(str(c).replace("|", "/").replace("\n", " ") for c in cells) + " |"
    return [line(head), line(["---"] * len(head)), *(line(r) for r in rows)]


def _answers(frame: pd.DataFrame) -> list[str]:
    rows = [
        [COSTS.get(r.metric, r.metric), f"{r.median:,.4g}", f"{r.low:,.4g} to {r.high:,.4g}", r.unit]
        for r in rows_of(frame)
        if r.metric in SHOWN
    ]
    return _table(["figure", "median", "90 % interval", "unit"], rows)


def _assumptions(plan: Plan, asked: PlanFile, scenario: Scenario, today: dt.date) -> list[list[Any]]:
    u = asked.uncertainty
    workload = scenario.workload
    rows: list[list[Any]] = [
        [
            "traffic",
            workload.source,
            f"seeds; traces in blocks of {u.block_s:g} s, put together anew"
            if workload.source == "trace"
            else "generator, drawn anew",
        ],
        ["growth of traffic", *_varied(u.traffic, "today's", "none: today's in every world")],
    ]
    chosen = plan.best or plan.closest
    rows += [
        [f"price of {r.what}", f"{r.usd_per_unit_hour:,.4g} USD/{r.unit}", _dated(r.source, r.as_of, today)]
        for r in gpu_prices(chosen.scenario if chosen else scenario)
    ]
    rows.append(["change of prices", *_varied(u.prices, "those listed", "none: as listed in every world")])
    for i in range(len(scenario.deployments)):
        r = resolve_deployment((chosen.scenario if chosen else scenario), i)
        rows.append(
            [f"step times of {r.config.name}", f"{r.step_time.kind}, trust {r.step_time.trust}", r.step_time.source]
        )
        rows.append([f"error of step times of {r.config.name}", plan.trust, plan.rests_on])
    return rows


def _varied(span: tuple[float, float], of: str, none: str) -> tuple[str, str]:
    """A range of factors, and where it is from.

    >>> _varied((0.9, 1.1), "today's", "none")
    ("0.9 to 1.1 times today's", 'given with the question')
    """
    low, high = span
    return (
        (none, "not asked for") if low == high == 1 else (f"{low:g} to {high:g} times {of}", "given with the question")
    )


def _dated(source: str, as_of: str, today: dt.date) -> str:
    """A price's source, date and age.

    >>> _dated("list A", "2026-09-06", dt.date(2026, 9, 16)), _dated("your own price", "", dt.date(2026, 9, 16))
    ('list A, of 2026-09-06, 10 days old', 'your own price, no date')
    """
    return f"{source}, of {as_of}, {staleness_days(as_of, today):.0f} days old" if as_of else f"{source}, no date"


def _alternatives(plan: Plan) -> list[str]:
    d = plan.designs
    tried = d[~d["status"].isin(["best", "dearer", "not tried", "screened out", "cannot run"])].head(12)
    fields = [
        c
        for c in d.columns
        if c
        not in (
            "usd_per_hour",
            "status",
            "attainment",
            "worst_window",
            "margin",
            "ttft_s_p99",
            "tpot_s_p99",
            "throughput_tok_s",
            "binds",
            "error",
            "pareto",
        )
    ]
    rows = [
        [
            ", ".join(f"{f}={row[f]}" for f in fields),
            f"{row['usd_per_hour']:,.2f}",
            row["status"],
            f"{row['binds']} binds, {row['attainment']:.2%} good, {row['worst_window']:.2%} in the worst window"
            if pd.notna(row["attainment"])
            else "",
        ]
        for _, row in tried.iterrows()
    ]
    out = _table(["design", "USD/hour", "status", "in the search world"], rows)
    counts = d["status"].value_counts()
    rest = {s: int(counts[s]) for s in ("dearer", "screened out", "not tried", "cannot run") if s in counts}
    out += ["", "Not simulated: " + ("; ".join(f"{n} {s}" for s, n in rest.items()) or "none") + "."]
    if (d["status"] == "cannot run").any():
        out += ["", *dict.fromkeys(f"- cannot run: {e}" for e in d.loc[d["status"] == "cannot run", "error"])]
    return out


def _risks(plan: Plan, asked: PlanFile) -> Iterator[str]:
    if plan.trust in ("roofline", "extrapolated"):
        yield f"Step times were not measured on this GPU with this model: {plan.rests_on}."
    yield f"Traffic beyond {asked.uncertainty.traffic[1]:g} times today's was not simulated."
    yield (
        "Failures of nodes, other tenants on them and faults of the network are not simulated unless the scenario "
        "has them."
    )
    if plan.best is not None and plan.best.search is not None:
        yield f"What gives first is {plan.best.search['binds']}."


def _measure(plan: Plan) -> Iterator[str]:
    if plan.trust in ("roofline", "extrapolated", "user"):
        yield "Step times on one GPU of the plan: `servelab calibrate`, then plan again with the profile."
    yield (
        "One replica at its share of the traffic: `vllm bench serve`, and `servelab validate` against the "
        "promised figures."
    )
    yield "A day of real arrivals and lengths: `servelab fit-workload`, where the traffic was assumed."
