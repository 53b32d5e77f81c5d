"""Results for a terminal: progress, the verdict first, a table, the cost; or one JSON object."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from simulator.cost.bill import COSTS, bill, known_cost
from simulator.records.metrics import rows_of
from simulator.records.tables import State
from simulator.results.replications import intervals
from simulator.results.result import Result
from simulator.scenario import Scenario

LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "e2el_s": "E2EL", "queue_s": "queue"}
STATS = ("mean", "p50", "p90", "p95", "p99", "p99.9")
STATES = tuple(s.name.lower() for s in (*list(State)[1:], State.IN_FLIGHT))
STAT_NAMES = {
    "mean": "",
    "count": "",
    "value": "",
    "total": "",
    "busy": ", while busy",
    "worst_window": ", worst window",
    "max_window": ", fullest window",
}
NAMES = {
    "duration_s": "simulated time",
    "mfu": "model FLOP utilisation",
    "mbu": "model bandwidth utilisation",
    "kv_use": "KV cache in use",
    "in_system": "requests in the system",
    "decode_seqs": "decoding per step",
    "running": "running per step",
    "waiting": "waiting per step",
    "request_goodput": "goodput",
}


class Bar:
    """A progress bar that follows simulated time; called by `simulate`."""

    def __init__(self, bar: Progress | None) -> None:
        self.bar = bar
        self.task: TaskID | None = None

    def start(self, what: str, scenario: Scenario) -> None:
        if self.bar is not None:
            from simulator.engine.warm import compiled_before

            first = "" if compiled_before() else " (the first run compiles the engine, half a minute or so)"
            self.task = self.bar.add_task(f"simulating, {what}{first}", total=None, arrived="")

    def __call__(self, time_s: float, arrived: int) -> None:
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, arrived=f"{arrived:,} requests, {time_s:,.0f} s simulated")


@contextmanager
def progress(shown: bool) -> Iterator[Bar]:
    """A progress bar on standard error, or one that shows nothing."""
    if not shown:
        yield Bar(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        TextColumn("{task.fields[arrived]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        yield Bar(bar)


def meets_slo(result: Result) -> bool:
    return result.verdict().startswith("meets SLO: yes")


def _rows(results: list[Result]) -> pd.DataFrame:
    """Summary rows with a value and, for several seeds, an interval."""
    if len(results) == 1:
        return results[0].summary()
    return intervals(r.summary() for r in results).rename(columns={"mean": "value"})


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    if value == round(value) or abs(value) >= 1e5:
        return f"{value:,.0f}"
    digits = 3 - math.floor(math.log10(abs(value)))  # four significant digits, no more than six decimals
    return f"{value:,.{min(max(0, digits), 6)}f}"


def as_json(results: list[Result]) -> dict[str, Any]:
    """One JSON-able object: counts, verdict, summary rows, cost."""
    first = results[0]
    counts = dict.fromkeys(["arrived", *(s.name.lower() for s in State if s)], 0) | first.counts()
    cost, why = known_cost(first)
    plain = lambda frame: [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
    return {
        **counts,
        "verdict": first.verdict(),
        "meets_slo": meets_slo(first),
        "state": first.state().state,
        "seeds": [r.meta["seed"] for r in results],
        "method": first.meta["method"],
        "partial": any(r.partial for r in results),
        "notes": first.meta["notes"],
        "deployments": first.meta["deployments"],
        "summary": plain(_rows(results)),
        "slo": plain(first.slo()),
        "groups": {title: plain(frame) for title, frame in _groups(first)},
        "cost": plain(cost) if cost is not None else None,
        "cost_error": why or None,
    }


def show(results: list[Result], out: Path | None, console: Console | None = None) -> None:
    """Print the verdict, the tables, the cost and what they rest on."""
    at_terminal = sys.stdout.isatty()  # a pipe or file gets whole lines
    console = console or Console(highlight=False, soft_wrap=not at_terminal, width=None if at_terminal else 160)
    first, rows = results[0], _rows(results)
    console.print(f"[bold]{first.verdict()}[/bold]")
    if len(results) > 1:
        met = sum(meets_slo(r) for r in results)
        console.print(
            f"Over {len(results)} seeds the SLO is met {met} times; figures below are means, +- half a 95 % interval."
        )
    console.print()
    console.print(_counts_line(rows))
    console.print()
    console.print(_latency_table(rows))
    console.print()
    console.print(_other_table(rows))
    console.print()
    for title, frame in _groups(first):
        console.print(_group_table(title, frame))
        console.print()
    if first.meta.get("stages"):
        console.print(_stage_table(first))
        console.print()
    _print_pods(console, first)
    _print_cost(console, first)
    _print_basis(console, first)
    if out is not None:
        console.print(f"Records: {out}")


def _groups(result: Result) -> list[tuple[str, pd.DataFrame]]:
    """By class and tenant where there are several, and by hour for runs of more than two hours."""
    found = [
        (title, result.breakdown(by))
        for title, by, key in (("class", "traffic_class", "traffic_classes"), ("tenant", "tenant", "tenants"))
        if len(result.meta.get(key) or []) > 1
    ]
    if len(result.requests) and result.requests["arrival_s"].max() > 2 * 3600:
        hours = result.breakdown("window", 3600.0)
        found.append(("hour", hours.assign(group=[f"{start / 3600:g}" for start in hours["group"]])))
    return found


def _group_table(title: str, frame: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for name in ("arrived", "within SLO", "TTFT p50, ms", "TTFT p99, ms", "TPOT p99, ms", "E2EL p99, ms"):
        table.add_column(name, justify="right")
    worst = int(np.argmin(frame["attainment"])) if len(frame) else -1
    for i, row in enumerate(rows_of(frame)):
        name = f"{row.group or '(none)'}{' (worst)' if i == worst and len(frame) > 2 and row.attainment < 1 else ''}"
        times = (row.ttft_s_p50, row.ttft_s_p99, row.tpot_s_p99, row.e2el_s_p99)
        table.add_row(escape(name), f"{row.arrived:,}", f"{row.attainment:.2%}", *(_number(v * 1e3) for v in times))
    return table


def _stage_table(result: Result) -> Table:
    """Queue and service of each stage of the path."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for name in ("attempts", "failed", "queue, ms", "p99", "service, ms", "p99", "utilisation"):
        table.add_column(name, justify="right")
    for row in rows_of(result.stage_table()):
        times = (row.queue_mean_s, row.queue_p99_s, row.service_mean_s, row.service_p99_s)
        use = f"{row.utilisation:.1%}" if math.isfinite(row.utilisation) else "-"
        table.add_row(
            escape(row.stage), f"{row.attempts:,}", f"{row.failed:.1%}", *(_number(t * 1e3) for t in times), use
        )
    return table


def _print_pods(console: Console, result: Result) -> None:
    """What autoscaling and cold starts did, where pods came or went."""
    kinds = result.events["kind"].value_counts()
    moved = [
        f"{kinds[k]:,} {k.replace('_', ' ')}"
        for k in ("scale_up", "scale_down", "evicted", "node_ready", "node_failed", "requests_lost")
        if k in kinds
    ]
    if moved:
        console.print(f"pods: {len(result.instances):,} in all; " + ", ".join(moved))
    if len(result.starts):
        took = (result.starts["end_s"] - result.starts["start_s"]).groupby(result.starts["phase"], sort=False).mean()
        console.print(
            "cold start, mean seconds of each phase: " + ", ".join(f"{phase} {s:.3g}" for phase, s in took.items())
        )
    if len(result.nodes):
        held = float(result.nodes["used_gpu_s"].sum())
        paid = float((result.nodes["gpus"] * (result.nodes["end_s"] - result.nodes["start_s"])).sum())
        worst = result.meta.get("fragmentation") or 0.0
        console.print(
            f"nodes: {len(result.nodes)}, pods hold {held / paid if paid else 0:.1%} of the GPU time paid for; free "
            f"GPUs that a waiting pod could not use: {worst:.0%} at worst"
        )
    if moved or len(result.starts) or len(result.nodes):
        console.print()


def _cell(row: pd.Series, scale: float = 1.0) -> str:
    half = (row["high"] - row["value"]) * scale if "high" in row and math.isfinite(row["high"]) else None
    return _number(row["value"] * scale) + (f" +-{_number(half)}" if half else "")


def _latency_table(rows: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("latency, ms")
    for stat in STATS:
        table.add_column(stat, justify="right")
    by = {(r["metric"], r["stat"]): r for _, r in rows.iterrows()}
    for metric, title in LATENCIES.items():
        table.add_row(title, *(_cell(by[metric, s], 1e3) if (metric, s) in by else "" for s in STATS))
    return table


def _other_table(rows: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True)
    for title, side in (("measure", "left"), ("value", "right"), ("unit", "left")):
        table.add_column(title, justify=side)  # type: ignore[arg-type]
    for _, r in rows.iterrows():
        metric, stat = r["metric"], r["stat"]
        if metric in (*LATENCIES, *STATES, "arrived", "frontend_s") or not math.isfinite(r["value"]):
            continue
        name = metric.removesuffix("_s").replace("_", " ") if metric not in NAMES else NAMES[metric]
        table.add_row(name + STAT_NAMES.get(stat, f", {stat}"), _cell(r), r["unit"])
    return table


def _counts_line(rows: pd.DataFrame) -> str:
    value = {r["metric"]: r["value"] for _, r in rows.iterrows() if r["metric"] in (*STATES, "arrived")}
    ended = ", ".join(f"{_number(value[s])} {s.replace('_', ' ')}" for s in STATES if value.get(s) or s == "completed")
    return f"{_number(value.get('arrived', 0.0))} requests arrived: {ended}"


def _print_cost(console: Console, result: Result) -> None:
    cost, why = known_cost(result)
    if cost is None:
        console.print(f"cost: unknown, {why}", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for title, side in (("cost", "left"), ("value", "right"), ("unit", "left")):
        table.add_column(title, justify=side)  # type: ignore[arg-type]
    for _, r in cost.iterrows():
        table.add_row(
            COSTS.get(r["metric"], r["metric"]),
            f"{r['value']:,.4g}" if r["value"] < 1000 else f"{r['value']:,.2f}",
            r["unit"],
        )
    console.print(table)
    for _, line in bill(result).iterrows():
        date = f", as of {line['as_of']}" if line["as_of"] else ", undated"
        console.print(
            f"  {line['item']}: {line['quantity']:.3f} {line['unit']} at {line['unit_price_usd']:.2f} USD "
            f"({line['source']}{date})",
            markup=False,
        )


def _print_basis(console: Console, result: Result) -> None:
    console.print()
    for d in result.meta["deployments"]:
        console.print(
            f"{d['name']}: {d['replicas']} x {d['model']} on {d['gpus_per_replica']} x {d['gpu']}, vLLM "
            f"{d['engine']['version']}, {d['num_gpu_blocks']:,} KV blocks of {d['engine']['block_size']} tokens; step "
            f"times: {d['step_time']}, trust: {d['trust']}",
            markup=False,
        )
    for note in result.meta["notes"]:
        console.print(f"note: {note}", markup=False)
