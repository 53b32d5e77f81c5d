"""What each class of traffic was promised and got: SLOs by class, and the run by class, tenant, deployment or window.

A class without an SLO of its own has that of the scenario. A run meets its SLO when every class meets its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from simulator.core.slo import SloConfig, judge
from simulator.errors import ServelabError, nearest
from simulator.records.metrics import Window, column, completed, latency
from simulator.records.objectives import differ, good, latencies, objectives
from simulator.results.verdict import RunState, verdict_line

GROUPS = ("traffic_class", "tenant", "deployment", "window")
SHOWN = {"ttft_s": (50, 90, 99), "tpot_s": (50, 90, 99), "e2el_s": (50, 90, 99)}


def _parts(requests: pd.DataFrame, meta: Mapping[str, Any]) -> Iterator[tuple[str, SloConfig, pd.DataFrame]]:
    """Class, SLO and requests of each class that has any; one nameless part where all share an SLO."""
    whole = SloConfig.model_validate(meta.get("slo") or {})
    if not differ(meta):
        yield "", whole, requests
        return
    place = column(requests, "traffic_class")
    for i, (name, slo) in enumerate(objectives(meta)):
        if (place == i).any():
            yield name, slo, requests[place == i]


def judged(requests: pd.DataFrame, meta: Mapping[str, Any], window: Window) -> pd.DataFrame:
    """`slo.judge` of the requests that arrived in ``window``, by class where classes have their own SLOs.

    Column ``traffic_class`` is empty for rows about all traffic; the last row is about all of it together.
    """
    inside = window.holds(column(requests, "arrival_s"))
    requests = requests if inside.all() else requests[inside]
    frames = [
        judge(
            column(part, "arrival_s"), completed(part), latencies(part, slo), slo, window.length_s, window.start_s
        ).assign(traffic_class=name)
        for name, slo, part in _parts(requests, meta)
    ]
    if differ(meta):
        frames.append(_total(requests, meta, window, frames))
    out = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    return out[["traffic_class", *(c for c in out.columns if c != "traffic_class")]]


def _total(requests: pd.DataFrame, meta: Mapping[str, Any], window: Window, frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The row of all traffic: good by the SLO of each class, met where every class meets its own."""
    whole = SloConfig.model_validate(meta.get("slo") or {})
    plain = whole.model_copy(update=dict.fromkeys(whole.limits()))
    found = good(requests, meta)
    total = judge(column(requests, "arrival_s"), found, {}, plain, window.length_s, window.start_s)
    return total.assign(traffic_class="", meets=all(bool(f["meets"].iloc[-1]) for f in frames))


def verdict(
    requests: pd.DataFrame, meta: Mapping[str, Any], table: pd.DataFrame, state: RunState, partial: bool
) -> str:
    """One sentence, ``meets SLO: yes|no, because ...``; ``table`` is what `judged` gave."""
    whole = SloConfig.model_validate(meta.get("slo") or {})
    if not differ(meta) or not len(requests):
        return verdict_line(table, requests, whole, state, partial)
    worst, reason = 2.0, ""
    for name, slo, part in _parts(requests, meta):
        rows = table[table["traffic_class"] == name]
        total = rows[rows["limit"] == "all"].iloc[0]
        # how far from its target: the class that misses most, or is nearest to missing
        margin = min(total["attainment"], total["worst_window"]) - slo.attainment - (0 if total["meets"] else 1)
        if margin < worst:
            worst, reason = (margin, f"of class {name}, {_because(verdict_line(rows, part, slo, state, partial))}")
    meets = bool(table["meets"].iloc[-1])
    classes = "every class meets its own SLO; " if meets else ""
    return f"meets SLO: {'yes' if meets else 'no'}, because {classes}{reason}"


def _because(line: str) -> str:
    return line.partition("because ")[2]


def breakdown(
    requests: pd.DataFrame, meta: Mapping[str, Any], by: str = "traffic_class", window_s: float = 3600.0
) -> pd.DataFrame:
    """The run by ``traffic_class``, ``tenant``, ``deployment`` or ``window`` of arrival (of ``window_s`` [s]).

    Columns: group (a name, or the start of the window [s]), arrived, completed, attainment (good over arrived, by
    the SLO of each class), output_tokens, and percentiles ``ttft_s_p50`` ... ``e2el_s_p99`` [s] of the completed.

    Raises ServelabError for another ``by`` and for a window that is not positive.
    """
    if by not in GROUPS:
        raise ServelabError(f"breakdown by {by!r}{nearest(by, GROUPS)}: expected one of {', '.join(GROUPS)}")
    if not 0 < window_s < np.inf:
        raise ServelabError(f"window_s must be a positive number of seconds, got {window_s}")
    if by == "window":
        place = np.floor(column(requests, "arrival_s") / window_s).astype(np.int64)
    else:
        place = column(requests, by).astype(np.int64)
    names = {
        "traffic_class": [c["name"] for c in meta.get("traffic_classes") or []],
        "tenant": meta.get("tenants") or [],
        "deployment": [d["name"] for d in meta.get("deployments") or []],
    }.get(by, [])
    fine, done = good(requests, meta), completed(requests)
    latencies = {name: latency(requests, name) for name in SHOWN}
    output = column(requests, "generated_tokens")
    order = np.argsort(place, kind="stable")
    groups, first = np.unique(place[order], return_index=True)
    rows = []
    for k, chosen in zip(groups.tolist(), np.split(order, first[1:]), strict=True):
        group = k * window_s if by == "window" else names[k] if 0 <= k < len(names) else ""
        row = {
            "group": group,
            "arrived": len(chosen),
            "completed": int(done[chosen].sum()),
            "attainment": float(fine[chosen].mean()),
            "output_tokens": int(output[chosen].sum()),
        }
        served = chosen[done[chosen]]
        for name, percents in SHOWN.items():
            values = latencies[name][served]
            values = values[~np.isnan(values)]
            found = np.percentile(values, percents) if len(values) else np.full(len(percents), np.nan)
            row |= {f"{name}_p{p}": float(v) for p, v in zip(percents, found, strict=True)}
        rows.append(row)
    columns = ["group", "arrived", "completed", "attainment", "output_tokens"]
    columns += [f"{name}_p{p}" for name, percents in SHOWN.items() for p in percents]
    return pd.DataFrame(rows, columns=columns)
