"""Did the run keep up, and does it meet its SLO: the state of a run and the one-line verdict.

The state is read from the requests alone, in the time from 0 to the last arrival:

- ``overloaded``: over the second half of the arrivals' time the number of requests in the system rises in
  both quarters, in all by more than 1 % of that half's arrivals and more than twice their root (the
  spread of Poisson arrivals), and later requests stay longer in the system; or more than 1 % of the
  arrivals of each of the last two quarters are rejected, time out or fail.
- ``backlogged``: not that, but at some time the waiting queue grew by more than four times the root of the
  arrivals of that time, and more than 1 % of the requests waited longer than they were then served; or
  more than 1 % of the requests were lost. It drained: a burst does this, and so does a peak of the day.
- ``stable``: neither.

Limits of the method: it sees what the run shows. A run shorter than a few requests' lifetimes, or a load
within about 1 % of capacity, can pass for stable; a run that ends on the rise of a daily peak looks
overloaded. On one first-come-first-served server with constant service, offered 1.5 times its capacity, 200
requests are called overloaded in 93 of 100 seeds, 50 in 39; at 0.98 of it 200 are in 4, 2,000 in none.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from simulator.core.slo import LIMITS, SloConfig
from simulator.records.metrics import column, duration_s
from simulator.records.tables import State

LOST = (State.REJECTED, State.TIMED_OUT, State.FAILED)
_MATERIAL = 0.01  # share of requests below which neither growth nor loss counts
_EDGES = 100  # times at which the waiting queue is looked at


@dataclass(frozen=True)
class RunState:
    """``state`` is stable, backlogged or overloaded; ``why`` says what in the records shows it."""

    state: str
    why: str


def run_state(requests: pd.DataFrame) -> RunState:
    """The state of a run from its requests, by the method of this module."""
    if len(requests) == 0:
        return RunState("stable", "no request arrived")
    arrival_s = column(requests, "arrival_s")
    horizon_s = float(arrival_s.max())
    state = column(requests, "state")
    lost = np.isin(state, LOST)
    ended_s = np.sort(np.nan_to_num(column(requests, "end_s"), nan=np.inf))
    arrivals = np.sort(arrival_s)

    edges = horizon_s * np.array([0.5, 0.75, 1.0])
    arrived = np.searchsorted(arrivals, edges, side="right")
    inside = arrived - np.searchsorted(ended_s, edges, side="right")
    fresh, growth = int(arrived[2] - arrived[0]), int(inside[2] - inside[0])
    rises = inside[0] < inside[1] < inside[2]
    if rises and growth > max(_MATERIAL * fresh, 2 * np.sqrt(fresh)) and _stays_longer(requests, horizon_s):
        per_s = growth / (edges[2] - edges[0])
        return RunState(
            "overloaded",
            f"requests in the system grew from {inside[0]:,} to {inside[2]:,} "
            f"over the last {edges[2] - edges[0]:,.0f} s of arrivals ({per_s:.3g} a second)",
        )
    shares = [_share(lost, (arrival_s > a) & (arrival_s <= b)) for a, b in pairwise(edges)]
    if min(shares) > _MATERIAL:
        return RunState("overloaded", f"it sheds load: {min(shares):.1%} or more of the later requests are lost")
    peak, peak_s = _backlog(requests, arrivals, horizon_s)
    if peak:
        return RunState("backlogged", f"a queue of {peak:,} requests stood at {peak_s:,.0f} s and drained")
    if lost.mean() > _MATERIAL:
        return RunState("backlogged", f"{lost.mean():.1%} of the requests were lost in a part of the run")
    return RunState("stable", "no queue built up beyond the spread of the arrivals")


def _share(chosen: np.ndarray, among: np.ndarray) -> float:
    return float(chosen[among].mean()) if among.any() else 0.0


def _stays_longer(requests: pd.DataFrame, horizon_s: float) -> bool:
    """Whether arrivals of the last quarter stay over 10 % longer than those of the second quarter.

    A system that only fills up at its start does not do that: its later requests take no longer.
    """
    arrival_s, end_s = column(requests, "arrival_s"), column(requests, "end_s")
    stay_s = np.where(np.isnan(end_s), duration_s(requests), end_s) - arrival_s
    before = stay_s[(arrival_s > 0.25 * horizon_s) & (arrival_s <= 0.5 * horizon_s)]
    after = stay_s[arrival_s > 0.75 * horizon_s]
    return bool(before.size and after.size and after.mean() > 1.1 * before.mean())


def _backlog(requests: pd.DataFrame, arrivals: np.ndarray, horizon_s: float) -> tuple[int, float]:
    """Longest waiting queue and its time [s], when one built up beyond noise; (0, 0) otherwise."""
    end_s, scheduled_s = column(requests, "end_s"), column(requests, "scheduled_s")
    wait_s = scheduled_s - column(requests, "engine_s")
    if np.count_nonzero(wait_s > end_s - scheduled_s) <= _MATERIAL * len(requests):
        return 0, 0.0
    left_s = np.sort(np.nan_to_num(np.where(np.isnan(scheduled_s), end_s, scheduled_s), nan=np.inf))
    edges = np.linspace(0.0, horizon_s, _EDGES + 1)
    arrived = np.concatenate([[0], np.searchsorted(arrivals, edges, side="right")])
    waiting = arrived - np.concatenate([[0], np.searchsorted(left_s, edges, side="right")])
    rise = waiting[None, :] - waiting[:, None]
    noise = 4 * np.sqrt(np.maximum(arrived[None, :] - arrived[:, None], 0))
    if not np.any(np.triu(rise > noise, 1)):
        return 0, 0.0
    top = int(np.argmax(waiting))
    return int(waiting[top]), float(edges[max(top - 1, 0)])


def verdict_line(
    judged: pd.DataFrame, requests: pd.DataFrame, slo: SloConfig, state: RunState, partial: bool = False
) -> str:
    """One sentence: whether the run meets its SLO, the limit that binds and its figures.

    ``judged`` is what :func:`simulator.core.slo.judge` gave. The binding limit of a miss is the one that the
    fewest requests met; of a run that meets the SLO, the one nearest to its limit.
    """
    total = judged[judged["limit"] == "all"].iloc[0]
    if total["worst_window_arrived"] == 0:
        return "meets SLO: no, because no request arrived"
    each = judged[judged["limit"] != "all"]
    reason = _met(total, each, slo) if total["meets"] else _missed(total, each, requests, slo)
    line = f"meets SLO: {'yes' if total['meets'] else 'no'}, because {reason}"
    if state.state == "overloaded" and total["meets"]:
        line += f"; but the run is overloaded ({state.why}), so a longer one would miss it"
    elif state.state == "overloaded":
        line += f"; the run is overloaded: {state.why}"
    elif state.state == "backlogged" and not total["meets"]:
        line += f"; the run is backlogged: {state.why}"
    if partial:
        flying = int(np.count_nonzero(column(requests, "state") == State.IN_FLIGHT))
        line += f" (partial result: {flying:,} requests still in flight count as not good)"
    return line


def _met(total: pd.Series, each: pd.DataFrame, slo: SloConfig) -> str:
    share = f"{_percent(total['attainment'])} of requests met every limit (target {_percent(slo.attainment)})"
    share += f" and {_percent(total['worst_window'])} in the worst window of {slo.window_s:g} s"
    if each.empty:
        return share.replace("met every limit", "completed and no limit is set")
    closest = each.iloc[int(np.argmax(each["at_target_s"] / each["limit_s"]))]
    took = f"{_percent(slo.attainment)} took {_time(closest['at_target_s'])} or less"
    return f"{share}; closest is {_limit(closest)}, where {took}"


def _missed(total: pd.Series, each: pd.DataFrame, requests: pd.DataFrame, slo: SloConfig) -> str:
    state = column(requests, "state")
    done = float(np.mean(state == State.COMPLETED))
    if done < slo.attainment:
        lost = ", ".join(
            f"{np.count_nonzero(state == s):,} {s.name.lower().replace('_', ' ')}"
            for s in State
            if s is not State.COMPLETED and np.any(state == s)
        )
        return f"only {_percent(done)} of requests completed ({lost}; target {_percent(slo.attainment)})"
    over_run = total["attainment"] < slo.attainment
    row = each.iloc[int(np.argmin(each["attainment" if over_run else "worst_window"]))] if len(each) else total
    name = _limit(row) if len(each) else "completion"
    where = (
        f"in the worst window of {slo.window_s:g} s, from {total['worst_window_start_s']:,.0f} s, "
        f"{_percent(total['worst_window'])} of {total['worst_window_arrived']:,} requests were good"
    )
    target, share = _percent(slo.attainment), _percent(total["attainment"])
    if not over_run:
        return f"{where} (target {target}, over the run {share}); {name} binds"
    if len(each) and row["attainment"] < slo.attainment:
        took = f"; {target} took up to {_time(row['at_target_s'])}"
        return f"{_percent(row['attainment'])} of requests met {name} (target {target}{took}) and {where}"
    return f"{share} of requests met every limit (target {target}); {name} binds"


def _percent(share: float) -> str:
    """A share in percent, never rounded up to a target it does not reach.

    >>> _percent(0.98999), _percent(0.99), _percent(1.0)
    ('98.99 %', '99 %', '100 %')
    """
    return f"{np.floor(round(share * 1e4, 6)) / 100:.4g} %"


def _limit(row: pd.Series) -> str:
    return f"{LIMITS[row['limit']]} <= {_time(row['limit_s'])}"


def _time(seconds: float) -> str:
    """Seconds, or milliseconds below a tenth of a second.

    >>> _time(1.5), _time(0.0421)
    ('1.5 s', '42.1 ms')
    """
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 0.1 or seconds == 0 else f"{seconds * 1e3:.3g} ms"
