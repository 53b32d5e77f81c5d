"""The report of a run: one HTML file without scripts, that loads nothing; pictures are drawn into it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from simulator.charts.cost import bill_bars
from simulator.charts.groups import group_bars
from simulator.charts.latency import latency_cdf
from simulator.charts.theme import to_svg
from simulator.charts.timeline import timeline
from simulator.charts.waterfall import waterfall
from simulator.core.slo import LIMITS
from simulator.core.stamp import scenario_hash
from simulator.cost.bill import COSTS, bill, known_cost
from simulator.errors import ServelabError
from simulator.records.metrics import completed, latency, rows_of
from simulator.records.objectives import differ
from simulator.results.replications import intervals
from simulator.results.result import Result

HOUR_S = 3600.0
KEY = (
    ("ttft_s", "p50", "TTFT, median"),
    ("ttft_s", "p99", "TTFT, 99 %"),
    ("tpot_s", "p50", "TPOT, median"),
    ("tpot_s", "p99", "TPOT, 99 %"),
    ("e2el_s", "p50", "End to end, median"),
    ("attainment", "mean", "Within SLO"),
    ("request_throughput", "mean", "Throughput"),
    ("output_throughput", "mean", "Output"),
    ("duty_cycle", "mean", "GPU duty cycle"),
    ("mbu", "mean", "GPU bandwidth in use"),
)
TRUST = {
    "measured": "from runs on this GPU and model",
    "fitted": "fitted to runs on this GPU and model",
    "extrapolated": "fitted, and used outside what was measured",
    "roofline": "from data sheets, not measured on this GPU",
    "user": "given by you",
}


def write_report(results: Sequence[Result], path: str | Path) -> Path:
    """Write the report of ``results`` (the seeds of one scenario) to ``path``.

    Figures are means over the seeds, with an interval where there are several; pictures are of the first seed.
    Raises ServelabError without any result.
    """
    from jinja2 import Environment, PackageLoader

    if not results:
        raise ServelabError("a report needs at least one result, got none")
    first = results[0]
    environment = Environment(loader=PackageLoader("simulator.report"), autoescape=True, trim_blocks=True)
    page = environment.get_template("report.html.j2").render(
        verdict=first.verdict(),
        meets=first.verdict().startswith("meets SLO: yes"),
        state=first.state(),
        result=first,
        seeds=[r.meta["seed"] for r in results],
        met=sum(r.verdict().startswith("meets SLO: yes") for r in results),
        figures=_figures(results),
        counts=first.counts(),
        latencies=_latencies(first),
        timeline=_picture(_timeline(first)),
        groups=_groups(first),
        cost=_cost(first),
        assumptions=_assumptions(first),
        notes=first.meta["notes"],
        hash=scenario_hash(first.meta["scenario"]),
        scenario=yaml.safe_dump(first.meta["scenario"], sort_keys=False),
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _picture(chart: Any) -> dict[str, str]:
    return {"light": to_svg(chart), "dark": to_svg(chart, dark=True)}


def _figures(results: Sequence[Result]) -> list[dict[str, str]]:
    rows = {(r.metric, r.stat): r for r in rows_of(intervals(r.summary() for r in results))}
    out = []
    for metric, stat, title in KEY:
        row = rows[metric, stat]._asdict()
        half = row["high"] - row["mean"]
        out.append(
            {
                "title": title,
                "value": quantity(row["mean"], row["unit"]),
                "half": f"± {quantity(half, row['unit'])}" if math.isfinite(half) and half > 0 else "",
            }
        )
    money, _ = known_cost(results[0])
    wanted = {"usd_per_hour": "Cost per hour", "usd_per_1m_output_tokens_within_slo": "per 1M output tokens within SLO"}
    for row in rows_of(money) if money is not None else ():
        if row.metric in wanted:
            out.append({"title": wanted[row.metric], "value": f"${row.value:,.2f}", "half": ""})
    return out


def quantity(value: float, unit: str) -> str:
    """A figure as people read it.

    >>> quantity(0.0421, "s"), quantity(0.98765, "ratio"), quantity(1234.5, "token/s")
    ('42.1 ms', '98.77 %', '1,234 token/s')
    """
    if not math.isfinite(value):
        return "–"
    if unit == "s" and abs(value) >= 100:
        return f"{value:,.0f} s"
    if unit == "s":
        return f"{value:.3g} s" if abs(value) >= 0.1 else f"{value * 1e3:.3g} ms"
    if unit == "ratio":
        return f"{value * 100:.4g} %"
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"


def _latencies(result: Result) -> list[dict[str, str]]:
    q, slo = result.requests, result.slo_config
    done = completed(q)
    names = {"": done}
    classes = result.meta.get("traffic_classes") or []
    if len(classes) > 1:
        place = q["traffic_class"].to_numpy()
        names = {c["name"]: done & (place == i) for i, c in enumerate(classes) if (done & (place == i)).any()}
    out = []
    for name in ("ttft_s", "tpot_s", "e2el_s"):
        values = latency(q, name)
        label = LIMITS[name]
        series = {group or label: values[chosen] for group, chosen in names.items()}
        if any(np.isfinite(v).any() for v in series.values()):
            limit = None if differ(result.meta) else slo.limits().get(name)
            out.append(_picture(latency_cdf(series, label, limit, slo.attainment)))
    if result.meta.get("stages") and done.any():
        out += [_picture(waterfall(result.waterfall(p), f"percentile {p} of end-to-end latency")) for p in (50, 99)]
    return out


def _timeline(result: Result) -> Any:
    total = result.slo().iloc[-1]
    slo = result.slo_config
    worst = (float(total["worst_window_start_s"]), slo.window_s) if total["worst_window"] < 1 else None
    return timeline(result.requests, result.timeline, result.good(), slo.attainment, worst)


def _groups(result: Result) -> list[dict[str, Any]]:
    """By class and tenant where there are several, and by hour for runs of two hours and more."""
    out = []
    kinds = (
        ("class of traffic", "traffic_class", "traffic_classes"),
        ("tenant", "tenant", "tenants"),
        ("deployment", "deployment", "deployments"),
    )
    for title, by, key in kinds:
        if len(result.meta.get(key) or []) > 1:
            out.append({"title": title, **_group(result, result.breakdown(by))})
    if len(result.requests) and result.requests["arrival_s"].max() > 2 * HOUR_S:
        hours = result.breakdown("window", HOUR_S)
        worst = hours.iloc[int(np.argmin(hours["attainment"]))]
        words = (
            f"hour; the worst begins at {worst['group'] / HOUR_S:g} h, with "
            f"{quantity(worst['attainment'], 'ratio')} within SLO"
        )
        hours = hours.assign(group=[f"{g / HOUR_S:g} h" for g in hours["group"]])
        out.append({"title": words, **_group(result, hours)})
    return out


def _group(result: Result, frame: pd.DataFrame) -> dict[str, Any]:
    rows = [
        [
            str(r.group) or "(none)",
            f"{r.arrived:,}",
            quantity(r.attainment, "ratio"),
            *(quantity(v, "s") for v in (r.ttft_s_p50, r.ttft_s_p99, r.tpot_s_p50, r.tpot_s_p99, r.e2el_s_p99)),
        ]
        for r in rows_of(frame)
    ]
    return {"rows": rows, "picture": _picture(group_bars(frame, "attainment", result.slo_config.attainment))}


def _cost(result: Result) -> dict[str, Any]:
    money, why = known_cost(result)
    if money is None:
        return {"why": why}
    lines = bill(result)
    duty = next(r.value for r in rows_of(result.summary()) if r.metric == "duty_cycle")
    rows = [
        [
            r.item,
            f"{r.quantity:,.3f} {r.unit}",
            f"${r.unit_price_usd:,.2f}",
            f"${r.usd:,.2f}",
            f"{r.source}",
            r.as_of or "undated",
        ]
        for r in rows_of(lines)
    ]
    answers = [[COSTS.get(row.metric, row.metric), f"${row.value:,.4g}"] for row in rows_of(money)]
    return {
        "rows": rows,
        "answers": answers,
        "picture": _picture(bill_bars(lines, duty)),
        "duty": quantity(duty, "ratio"),
    }


def _assumptions(result: Result) -> list[list[str]]:
    """What, value, where from, trust."""
    scenario = result.meta["scenario"]
    workload = scenario.get("workload") or {}
    kind = workload.get("path") or workload.get("source", "given in code")
    out = [
        [
            "Traffic",
            f"{len(result.requests):,} requests",
            str(kind),
            "measured" if workload.get("source") == "trace" else "model of traffic",
        ]
    ]
    for d in result.meta["deployments"]:
        out.append(
            [
                f"Step times of {d['name']}",
                f"{d['step_time']}, {d['gpu']}",
                d["source"],
                f"{d['trust']}: {TRUST.get(d['trust'], '')}",
            ]
        )
        flags = ", ".join(
            f"{k}={v}"
            for k, v in d["engine"].items()
            if k in ("version", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "enable_prefix_caching")
        )
        out.append(
            [
                f"Engine of {d['name']}",
                flags,
                "vLLM's defaults and your flags",
                "schedule compared with real vLLM step by step",
            ]
        )
        out.append(
            [
                f"KV cache of {d['name']}",
                f"{d['num_gpu_blocks']:,} blocks of {d['engine']['block_size']} tokens",
                "worked out from model, GPU and flags",
                "derived",
            ]
        )
    return out
