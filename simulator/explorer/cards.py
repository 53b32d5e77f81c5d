"""What an explorer says in HTML: preview, outcome of a run, comparison. Colours are the page's own, so light and
dark follow it."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.core.slo import LIMITS
from simulator.cost.bill import bill, known_cost
from simulator.errors import ServelabError
from simulator.explorer.preview import Preview
from simulator.records.metrics import rows_of
from simulator.report.html import quantity
from simulator.results.comparison import compare
from simulator.results.result import Result

GOOD, BAD, WARN = "#009E73", "#D55E00", "#E69F00"
NAMES = {**LIMITS, "queue_s": "queueing time", "attainment": "within SLO"}
STYLE = f"<style>\n{Path(__file__).with_name('cards.css').read_text(encoding='utf-8')}</style>"


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Figures side by side: what and how much."""
    made = "".join(f'<div class="sl-tile"><span>{escape(k)}</span><b>{escape(v)}</b></div>' for k, v in pairs)
    return f'<div class="sl-tiles">{made}</div>'


def say(text: str, colour: str = "#999") -> str:
    """A sentence that stands out; the text is escaped."""
    return f'<div class="sl-say" style="--sl:{colour}">{escape(text)}</div>'


def note(text: str) -> str:
    """A sentence in small type."""
    return f'<div class="sl-note">{escape(text)}</div>'


def group(text: str) -> str:
    """The heading of some fields."""
    return f'<div class="sl-group">{escape(text)}</div>'


def hint(*texts: str) -> str:
    """What a field means and may be."""
    return f'<div class="sl-help">{escape("; ".join(x for x in texts if x))}</div>'


def download(text: str) -> str:
    """A link that saves the text as servelab.yaml."""
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="servelab.yaml" href="data:text/yaml;base64,{data}" style="margin:0 10px">save YAML</a>'


def duration(seconds: float) -> str:
    """As people say it.

    >>> duration(7.2), duration(200)
    ('7 s', '3 min 20 s')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of text, that scrolls sideways where it is too wide."""
    head = "".join(f"<th>{escape(str(h))}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f'<div class="sl-scroll"><table class="sl-table"><tr>{head}</tr>{body}</table></div>'


def cell(value: Any) -> str:
    """A value in a table.

    >>> cell(14.7512), cell("l40s")
    ('14.75', 'l40s')
    """
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def picture(svg: str) -> str:
    """A drawn chart."""
    return f'<div class="sl-pic">{svg}</div>'


def preview_card(found: Preview) -> str:
    """Figures of the analytic model and how far to trust them."""
    money = [
        ("USD/hour", f"{found.usd_per_hour:,.2f}" if np.isfinite(found.usd_per_hour) else "no price"),
        (
            "USD/1M output tokens",
            f"{found.usd_per_1m_output_tokens:,.2f}" if np.isfinite(found.usd_per_1m_output_tokens) else "–",
        ),
    ]
    highest = (
        [(f"highest rate within {found.slo_of}, on average", f"{found.slo_rps:.3g} request/s")]
        if found.slo_of and not found.alone
        else []
    )
    figures = tiles(
        [
            ("mean TTFT", quantity(found.ttft_s, "s")),
            ("mean TPOT", quantity(found.tpot_s, "s")),
            ("mean E2EL", quantity(found.e2el_s, "s")),
            ("load", f"{found.load:.0%} of the highest"),
            *highest,
            ("decoding at a time", f"{found.batch:.3g} a replica"),
            *money,
        ]
    )
    head = _preview_verdict(found)
    notes = [f"No simulation: {found.too_large}" if found.too_large else "", found.no_price]
    return f"<b>Preview</b> {note(preview_trust(found))}{head}{figures}" + "".join(note(n) for n in notes if n)


def _preview_verdict(found: Preview) -> str:
    at = f"at {found.rate_rps:.4g} requests/s"
    if found.overloaded:
        return say(
            f"Overloaded {at}: {found.limit} is used up. {found.replicas} replicas take at most "
            f"{found.most_rps:.3g} requests/s.",
            BAD,
        )
    if found.alone:
        return say(f"{found.load:.0%} of the highest load {at}, of the LLM alone; simulate for the verdict.")
    if found.e2el_limit_s is not None and found.e2el_s > found.e2el_limit_s:
        return say(
            f"On average slower than the SLO {at}: E2EL {quantity(found.e2el_s, 's')}, limit "
            f"{quantity(found.e2el_limit_s, 's')}.",
            WARN,
        )
    if found.slo_of and found.rate_rps > found.slo_rps:
        return say(f"On average slower than the SLO {at}; within its {found.slo_of} up to {found.slo_rps:.3g}.", WARN)
    if found.deadline or not (found.slo_of or found.e2el_limit_s):
        why = "a deadline is not one of means" if found.deadline else "the SLO has no limit"
        return say(f"{found.load:.0%} of the highest load {at}; {why}: simulate for the verdict.")
    return say(f"On average within the SLO {at}. Bursts and tails: simulate.", GOOD)


def preview_trust(found: Preview) -> str:
    """How far the preview is from simulation, and what the step times rest on."""
    about = (
        f"analytic means, typically {found.error[0]:.0%} (TPOT) and {found.error[1]:.0%} (TTFT) from simulation at "
        "this load"
        if found.error
        else "analytic means, not compared with simulation at so high a load"
    )
    alone = "; of the LLM alone, without the stages around it" if found.alone else ""
    return f"{about}; step times: {found.trust}{alone}"


def outcome_card(result: Result) -> str:
    """Verdict, figures and cost of a run."""
    rows = {(r.metric, r.stat): r for r in rows_of(result.summary())}
    verdict = result.verdict()
    shown = (
        ("TTFT p50", "ttft_s", "p50"),
        ("TTFT p99", "ttft_s", "p99"),
        ("TPOT p99", "tpot_s", "p99"),
        ("E2EL p50", "e2el_s", "p50"),
        ("within SLO", "attainment", "mean"),
        ("goodput", "request_goodput", "mean"),
        ("output", "output_throughput", "mean"),
        ("GPU duty cycle", "duty_cycle", "mean"),
    )
    figures = [(title, quantity(rows[m, s].value, rows[m, s].unit)) for title, m, s in shown if (m, s) in rows]
    money, why = known_cost(result)
    if money is not None:
        cost = money.set_index("metric")["value"]
        figures += [
            ("USD/hour", f"{cost['usd_per_hour']:,.2f}"),
            ("USD/1M output tokens within SLO", f"{cost['usd_per_1m_output_tokens_within_slo']:,.2f}"),
        ]
    counts = ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in result.counts().items())
    told = "".join(result.meta["notes"])
    resting = [d for d in result.meta["deployments"] if d["source"] not in told]
    trust = "; ".join(f"{d['name']}: step times {d['trust']} ({d['source']})" for d in resting)
    partial = say("Stopped before its end: figures are of what was reached.", WARN) if result.partial else ""
    notes = "".join(note(n) for n in result.meta["notes"])
    return (
        say(verdict, GOOD if verdict.startswith("meets SLO: yes") else BAD)
        + partial
        + tiles(figures)
        + note(f"{counts}. {result.stamp}.")
        + (note(trust) if trust else "")
        + (note(f"cost: {why}") if why else "")
        + notes
    )


def bill_table(result: Result) -> str:
    """Lines of the bill, each price with its source and date."""
    try:
        lines = bill(result)
    except ServelabError as problem:
        return say(str(problem), WARN)
    rows = [
        (
            r.item,
            f"{r.quantity:,.3f} {r.unit}",
            f"{r.unit_price_usd:,.2f}",
            f"{r.usd:,.2f}",
            r.as_of or "undated",
            r.source,
        )
        for r in rows_of(lines)
    ]
    return table(("item", "quantity", "USD/unit", "USD", "as of", "source"), rows)


def comparison_card(a: Result, b: Result, names: tuple[str, str]) -> str:
    """How ``b`` differs from ``a``: paired where both served the same requests, and cost beside it."""
    try:
        frame = compare(a, b)
        said = note(f"Paired request by request; 95 % intervals. {names[0]}: {a.stamp}; {names[1]}: {b.stamp}.")
    except ServelabError as problem:
        frame, said = _side_by_side(a, b), say(f"Not paired: {problem}", WARN)
    rows: list[tuple[str, ...]] = []
    for r in rows_of(frame):
        low, high = getattr(r, "low", np.nan), getattr(r, "high", np.nan)
        between = f"{quantity(low, r.unit)} to {quantity(high, r.unit)}" if np.isfinite([low, high]).all() else "–"
        apart = "yes" if getattr(r, "differs", False) else "–"
        rows.append(
            (
                f"{NAMES.get(r.metric, r.metric)}, {r.stat}",
                quantity(r.a, r.unit),
                quantity(r.b, r.unit),
                quantity(r.difference, r.unit),
                between,
                apart,
            )
        )
    rows += _costs(a, b)
    return said + table(("", names[0], names[1], "difference", "95 % interval", "differs"), rows)


def _side_by_side(a: Result, b: Result) -> pd.DataFrame:
    keys = ["metric", "stat", "unit"]
    both = a.summary().merge(b.summary(), on=keys, suffixes=("_a", "_b"))
    wanted = both[both["metric"].isin(["ttft_s", "tpot_s", "e2el_s"]) & both["stat"].isin(["mean", "p99"])]
    named = wanted.rename(columns={"value_a": "a", "value_b": "b"})
    return named.assign(difference=named["b"] - named["a"])


def _costs(a: Result, b: Result) -> list[tuple[str, ...]]:
    left, right = known_cost(a)[0], known_cost(b)[0]
    if left is None or right is None:
        return []
    one, other = (f.set_index("metric")["value"] for f in (left, right))
    names = {"usd_per_hour": "USD/hour", "usd_per_1m_output_tokens_within_slo": "USD/1M output tokens within SLO"}
    return [
        (name, f"{one[k]:,.2f}", f"{other[k]:,.2f}", f"{other[k] - one[k]:+,.2f}", "–", "–")
        for k, name in names.items()
    ]
