"""The ledger: what was paid for, window by window, and what for: work, idle time, cold starts, work that failed.

The GPUs of a rented machine are, at each time, held by a pod or not. What is held is

- ``serving``: busy with requests that completed,
- ``failed work``: busy with requests that did not, by the GPU time that their tokens take,
- ``cold start``: a pod that is not ready yet, from the moment its machine runs (the image is not pulled by then),
- ``idle``: a ready pod without work,

and what is not is ``headroom``: a machine of eight with five GPUs in use has three of it, and so has a committed
machine that nobody uses. A machine is paid for by these shares of its GPUs; the lines add up to the bill.

Busy time is that of steps, in the window in which they ended; GPU time per token of prompts and of answers is the mean
of the run. Machines of one kind of GPU and one owner (a deployment, or all node pools) are one account.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.cost.bill import prices_of
from simulator.cost.lines import LINE, Line, other_lines, overlap_s, windows
from simulator.cost.rentals import Rental, deployment_name, horizon_s, rentals
from simulator.errors import ServelabError
from simulator.pricing.prices import PricesConfig
from simulator.records import metrics
from simulator.records.run import RunRecords
from simulator.records.tables import State

USES = ("serving", "failed work", "cold start", "idle", "headroom")


def ledger(
    result: RunRecords, prices: PricesConfig | None = None, table: pd.DataFrame | None = None, window_s: float = 3600.0
) -> pd.DataFrame:
    """All that was paid for, long: time_s (start of the window), deployment, item, quantity, unit, unit_price_usd
    [USD/unit], usd, source, as_of. It sums to `bill`.

    ``window_s`` is the length of a window [s]; 0: one for the whole run. ``prices`` and ``table`` as in `bill`.
    Raises ServelabError for a GPU without a price and for a window that is negative.
    """
    if not 0 <= window_s < np.inf:
        raise ServelabError(f"window_s must not be negative, got {window_s}")
    prices = prices_of(result, prices)
    rented = rentals(result, prices, table)
    end_s = horizon_s(result)
    edges = windows(end_s, window_s)
    accounts: dict[tuple[str, str], list[Rental]] = {}
    for r in rented:
        accounts.setdefault(("" if len(result.nodes) else r.owner, r.kind), []).append(r)
    use = _Use(result, edges)
    lines = [x for (owner, kind), mine in accounts.items() for x in _account(use, owner, kind, mine, edges)]
    lines += other_lines(result, prices, rented, end_s, window_s)
    rows = sorted(lines, key=lambda x: x.time_s)
    return pd.DataFrame([[getattr(x, name) for name in LINE] for x in rows], columns=LINE)


def _account(use: "_Use", owner: str, kind: str, rented: list[Rental], edges: np.ndarray) -> list[Line]:
    """The lines of machines of one kind: their GPU-hours by what they were used for."""
    slots = np.sum([r.slots * overlap_s(edges, r.start_s, r.end_s) for r in rented], axis=0) / 3600
    usd = np.sum([r.rate * r.usd_per_unit_hour * overlap_s(edges, r.start_s, r.end_s) for r in rented], axis=0) / 3600
    sources = "; ".join(dict.fromkeys(r.source for r in rented))
    as_of = min((r.as_of for r in rented if r.as_of), default="")
    unit = "slice-hour" if ":" in kind else "GPU-hour"
    with np.errstate(divide="ignore", invalid="ignore"):
        price = np.where(slots > 0, usd / slots, 0.0)
    account = _Account(edges, price, unit, sources, as_of)
    out, left = [], slots.copy()
    for name, spent in use.of(owner, kind):
        hours = np.minimum(spent / 3600, left)
        left = left - hours
        out += account.lines(*name, hours)
    return out + account.lines(owner or f"nodes {kind}", "headroom", left)


@dataclass(frozen=True)
class _Account:
    """What an hour of a GPU costs in each window, and where that is from."""

    edges: np.ndarray
    usd_per_hour: np.ndarray
    unit: str
    source: str
    as_of: str

    def lines(self, owner: str, item: str, hours: np.ndarray) -> list[Line]:
        """A line for each window in which ``owner`` had any."""
        out = []
        for i in np.flatnonzero(hours > 1e-12):
            price, spent = float(self.usd_per_hour[i]), float(hours[i])
            usd = float(hours[i] * self.usd_per_hour[i])
            out.append(Line(float(self.edges[i]), owner, item, spent, self.unit, price, usd, self.source, self.as_of))
        return out


class _Use:
    """GPU-seconds that pods held, by deployment, window and use."""

    def __init__(self, result: RunRecords, edges: np.ndarray) -> None:
        self._result, self._edges = result, edges
        self._name = metrics.column(result.instances, "gpu").astype(str)
        self._owner = metrics.column(result.instances, "deployment").astype(int)

    def of(self, owner: str, kind: str) -> list[tuple[tuple[str, str], np.ndarray]]:
        """((deployment, use), GPU-seconds by window) of pods on GPUs of ``kind``; ``owner`` "" stands for all."""
        out = []
        for d in np.unique(self._owner):
            name = deployment_name(self._result, int(d))
            chosen = (self._owner == d) & (self._name == kind)
            if chosen.any() and owner in ("", name):
                out += [((name, use), spent) for use, spent in self._split(int(d), np.flatnonzero(chosen))]
        return out

    def _split(self, deployment: int, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
        pods = self._result.instances.iloc[rows]
        end = np.nan_to_num(metrics.column(pods, "end_s"), nan=self._edges[-1])
        start, gpus = metrics.column(pods, "start_s"), metrics.column(pods, "gpus").astype(float)
        held = np.sum([g * overlap_s(self._edges, a, b) for g, a, b in zip(gpus, start, end, strict=True)], axis=0)
        total = float((gpus * np.nan_to_num(metrics.column(pods, "busy_s"))).sum())
        cold = np.minimum(self._cold(deployment, pods, start, end, gpus), held)
        busy = np.minimum(self._busy(deployment, total, held - cold), held - cold)
        failed = busy * self._failed_share(deployment, pods)
        return [("serving", busy - failed), ("failed work", failed), ("cold start", cold), ("idle", held - cold - busy)]

    def _busy(self, deployment: int, total: float, room: np.ndarray) -> np.ndarray:
        """``total`` GPU-seconds of work over the windows, as the timeline has them, or evenly where there is none."""
        rows = self._result.timeline[self._result.timeline["deployment"] == deployment]
        weight = metrics.column(rows, "busy_s")
        if not weight.sum():
            return total * room / room.sum() if room.sum() else room
        place = np.searchsorted(self._edges, metrics.column(rows, "window_s"), side="right") - 1
        place = np.clip(place, 0, len(self._edges) - 2)
        return total * np.bincount(place, weights=weight, minlength=len(self._edges) - 1) / weight.sum()

    def _cold(
        self, deployment: int, pods: pd.DataFrame, start: np.ndarray, end: np.ndarray, gpus: np.ndarray
    ) -> np.ndarray:
        """GPU-seconds of pods that were starting while they held their GPUs."""
        out = np.zeros(len(self._edges) - 1)
        starts = self._result.starts[self._result.starts["deployment"] == deployment]
        place = metrics.column(pods, "replica")
        for phase in metrics.rows_of(starts[["replica", "start_s", "end_s"]]):
            a, b = np.maximum(start, phase.start_s), np.minimum(end, phase.end_s)
            for i in np.flatnonzero((place == phase.replica) & (b > a)):
                out += gpus[i] * overlap_s(self._edges, float(a[i]), float(b[i]))
        return out

    def _failed_share(self, deployment: int, pods: pd.DataFrame) -> np.ndarray:
        """Share of the GPU time of requests that ended in each window that went into requests that did not complete."""
        q = self._result.requests[self._result.requests["deployment"] == deployment]
        seconds = gpu_seconds(q, pods)
        ended = np.nan_to_num(metrics.column(q, "llm_end_s"), nan=self._edges[-1])
        place = np.clip(np.searchsorted(self._edges, ended, side="right") - 1, 0, len(self._edges) - 2)
        lost = np.isin(metrics.column(q, "state"), [s for s in State if s not in (State.COMPLETED, State.IN_FLIGHT)])
        n = len(self._edges) - 1
        every = np.bincount(place, weights=seconds, minlength=n)
        bad = np.bincount(place[lost], weights=seconds[lost], minlength=n)
        return np.divide(bad, every, out=np.zeros(n), where=every > 0)


def gpu_seconds(requests: pd.DataFrame, pods: pd.DataFrame) -> np.ndarray:
    """GPU-seconds of each request: its computed prompt tokens and its output tokens at the pods' mean time for each.

    The busy time of ``pods`` (rows of instances) is shared out whole. A request that never reached an engine has none.
    """
    gpus = metrics.column(pods, "gpus").astype(float)
    busy = float((gpus * np.nan_to_num(metrics.column(pods, "busy_s"))).sum())
    prefill = float((gpus * np.nan_to_num(metrics.column(pods, "prefill_busy_s"))).sum())
    began = ~np.isnan(metrics.column(requests, "scheduled_s"))
    asked = metrics.column(requests, "prompt_tokens") - np.maximum(metrics.column(requests, "cached_tokens"), 0)
    prompt = np.where(began, asked, 0).astype(float)
    output = np.where(began, metrics.column(requests, "generated_tokens"), 0).astype(float)
    out = np.zeros(len(requests))
    if prompt.sum():
        out += prefill * prompt / prompt.sum()
    if output.sum():
        out += (busy - prefill) * output / output.sum()
    return out


def shares(
    result: RunRecords, by: str = "tenant", prices: PricesConfig | None = None, table: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Who the bill is for: group, requests, gpu_hours, share, usd, usd_per_1m_output_tokens.

    ``by`` is ``tenant``, ``traffic_class`` or ``deployment``. Each deployment's part of the bill, idle time and
    headroom with it, is shared by the GPU time of its requests; what belongs to no deployment by that of all.

    Raises ServelabError for another ``by``, and what `ledger` raises.
    """
    names = {
        "tenant": result.meta.get("tenants") or [],
        "traffic_class": [c["name"] for c in result.meta.get("traffic_classes") or []],
        "deployment": [d["name"] for d in result.meta.get("deployments") or []],
    }
    if by not in names:
        raise ServelabError(f"shares by {by!r}: expected one of {', '.join(names)}")
    paid = ledger(result, prices, table, window_s=0).groupby("deployment")["usd"].sum()
    q = result.requests
    seconds, usd = np.zeros(len(q)), np.zeros(len(q))
    where = metrics.column(q, "deployment")
    spread = float(paid.sum())
    for d in np.unique(where[where >= 0]):
        mine = where == d
        seconds[mine] = gpu_seconds(q[mine], result.instances[result.instances["deployment"] == d])
        own = float(paid.get(deployment_name(result, int(d)), 0.0))
        if seconds[mine].sum():
            usd[mine] += own * seconds[mine] / seconds[mine].sum()
            spread -= own
    if seconds.sum():
        usd += spread * seconds / seconds.sum()
    group = metrics.column(q, by)
    rows = []
    for k in np.unique(group):
        mine = group == k
        label = names[by][int(k)] if 0 <= k < len(names[by]) else ""
        tokens = int(metrics.column(q, "generated_tokens")[mine & metrics.completed(q)].sum())
        part = float(usd[mine].sum())
        rows.append(
            (
                label,
                int(mine.sum()),
                seconds[mine].sum() / 3600,
                part / usd.sum() if usd.sum() else np.nan,
                part,
                part / tokens * 1e6 if tokens else np.nan,
            )
        )
    return pd.DataFrame(rows, columns=["group", "requests", "gpu_hours", "share", "usd", "usd_per_1m_output_tokens"])
