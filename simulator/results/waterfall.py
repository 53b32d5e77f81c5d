"""Where the time of requests goes: by stage of the path, and within the LLM by phase."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.records.metrics import column, completed
from simulator.results.explain import PHASES

COLUMNS = ["stage", "part", "start_s", "seconds", "share", "critical"]


def waterfall(requests: pd.DataFrame, stages: pd.DataFrame, meta: Mapping[str, Any], percentile: float) -> pd.DataFrame:
    """A typical request at ``percentile`` of end-to-end latency: where it was, and for how long.

    Means over the completed requests whose E2EL is within half a percentile of it (at least 20 of them, where there
    are as many). Columns: stage (``llm`` for the model), part (queue, service, or a phase in the LLM), start_s and
    seconds [s] since the request was sent, share of the mean E2EL, critical: whether the client waits for it. Time
    between stages (hops, retries, waiting for a parallel stage) is in no row: shares need not sum to 1.

    Raises ServelabError for a percentile outside [0, 100] and for a run without completed requests.
    """
    if not 0 <= percentile <= 100:
        raise ServelabError(f"percentile must be between 0 and 100, got {percentile}")
    done = np.flatnonzero(completed(requests))
    if not len(done):
        raise ServelabError("no request completed, so there is no waterfall")
    arrival, end = column(requests, "arrival_s"), column(requests, "end_s")
    order = done[np.argsort(end[done] - arrival[done], kind="stable")]
    middle = percentile / 100 * (len(order) - 1)
    half = max(0.005 * len(order), 10)
    chosen = order[max(int(middle - half), 0) : int(np.ceil(middle + half)) + 1]
    whole = float((end[chosen] - arrival[chosen]).mean())
    rows: list[tuple[str, str, float, float]] = []
    names = [s["name"] for s in meta.get("stages") or []]
    llm = next((s["name"] for s in meta.get("stages") or [] if s.get("kind") == "llm"), "llm")
    if names:
        rows += _of_stages(requests, stages, chosen, names, arrival)
    inner = {k: v for k, v in PHASES.items() if k not in ("before", "after")} if names else PHASES
    for phase, (start, stop) in inner.items():
        a, b = column(requests, start)[chosen], column(requests, stop)[chosen]
        seen = ~np.isnan(a) & ~np.isnan(b)
        if seen.any() and (b - a)[seen].any():
            rows.append(
                (llm, phase, float((a - arrival[chosen])[seen].mean()), float((b - a)[seen].sum() / len(chosen)))
            )
    off = {s["name"] for s in meta.get("stages") or [] if s.get("off_critical_path")}
    out = pd.DataFrame(rows, columns=COLUMNS[:4])
    out["share"] = out["seconds"] / whole if whole > 0 else 0.0
    out["critical"] = ~out["stage"].isin(off)
    return out.sort_values("start_s", kind="stable").reset_index(drop=True)


def _of_stages(
    requests: pd.DataFrame, stages: pd.DataFrame, chosen: np.ndarray, names: list[str], arrival: np.ndarray
) -> list[tuple[str, str, float, float]]:
    ids = column(requests, "request_id")
    sent = pd.Series(arrival[chosen], index=ids[chosen])
    mine = stages[np.isin(column(stages, "request_id"), ids[chosen])]
    since = sent.reindex(mine["request_id"]).to_numpy()
    rows = []
    for stage in np.unique(column(mine, "stage")).tolist():
        here = column(mine, "stage") == stage
        queued, start, end = (column(mine, name)[here] - since[here] for name in ("queued_s", "start_s", "end_s"))
        rows.append((names[stage], "queue", float(queued.mean()), float((start - queued).sum() / len(chosen))))
        rows.append((names[stage], "service", float(start.mean()), float((end - start).sum() / len(chosen))))
    return [row for row in rows if row[3] > 0]


def stage_table(stages: pd.DataFrame, meta: Mapping[str, Any], duration_s: float) -> pd.DataFrame:
    """Each stage over the run: attempts, share that failed, mean and p99 of queue and service [s], utilisation.

    ``utilisation`` is busy time over that of all its workers; NaN for a stage in a shared pool, or with batches.
    """
    rows = []
    for i, stage in enumerate(meta.get("stages") or []):
        mine = stages[column(stages, "stage") == i]
        if stage.get("kind") == "llm":
            continue
        queue = column(mine, "start_s") - column(mine, "queued_s")
        service = column(mine, "end_s") - column(mine, "start_s")
        servers = stage.get("workers", 1) * stage.get("replicas", 1)
        alone = not stage.get("pool") and not stage.get("batch") and duration_s > 0
        some = len(mine) > 0
        rows.append(
            {
                "stage": stage["name"],
                "attempts": len(mine),
                "failed": float(np.isin(column(mine, "outcome"), (1, 2)).mean()) if some else 0.0,
                "queue_mean_s": float(queue.mean()) if some else np.nan,
                "queue_p99_s": float(np.percentile(queue, 99)) if some else np.nan,
                "service_mean_s": float(service.mean()) if some else np.nan,
                "service_p99_s": float(np.percentile(service, 99)) if some else np.nan,
                "utilisation": float(service.sum() / (servers * duration_s)) if alone else np.nan,
            }
        )
    names = [
        "stage",
        "attempts",
        "failed",
        "queue_mean_s",
        "queue_p99_s",
        "service_mean_s",
        "service_p99_s",
        "utilisation",
    ]
    return pd.DataFrame(rows, columns=names)
