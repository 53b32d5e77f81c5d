"""Traffic for planning: more of it, fresh days of it, and the hour in which it is heaviest."""

from typing import Any

import numpy as np

from simulator.core.seeds import named_seed
from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.workload import RequestTable, generate
from simulator.workload.config import Bootstrap, SyntheticWorkload, TraceWorkload, WorkloadConfig
from simulator.workload.sessions import ClosedLoop

HOUR_S, STEP_S = 3600.0, 300.0


def times(workload: WorkloadConfig, factor: float) -> WorkloadConfig:
    """``workload`` with ``factor`` times the rate, its lengths and its shape over time unchanged.

    Traces are thinned (below 1) or played faster; closed loops get more users. Raises ServelabError for a factor that
    is not positive.
    """
    if not 0 < factor < np.inf:
        raise ServelabError(f"a factor of traffic must be positive, got {factor}")
    if factor == 1:
        return workload
    if isinstance(workload, TraceWorkload):
        if workload.rate_rps is not None:
            return workload.model_copy(update={"rate_rps": workload.rate_rps * factor})
        return workload.model_copy(update={"rate_scale": workload.rate_scale * factor})
    if isinstance(workload, SyntheticWorkload):
        if workload.requests is not None:
            workload = workload.model_copy(update={"requests": max(1, round(workload.requests * factor))})
        classes = tuple(c.model_copy(update={"arrivals": _more(c.arrivals, factor)}) for c in workload.classes)
        return workload.model_copy(update={"classes": classes})
    update: dict[str, Any] = {"rate_rps": workload.rate_rps * factor}
    if workload.requests is not None:  # as long a run, not as many requests
        update["requests"] = max(1, round(workload.requests * factor))
    return workload.model_copy(update=update)


def _more(arrivals: Any, factor: float) -> Any:
    if isinstance(arrivals, ClosedLoop):
        more = {name: max(1, round(getattr(arrivals, name) * factor)) for name in ("concurrency", "requests")}
        return arrivals.model_copy(update=more)  # as long a run, not as many requests
    if getattr(arrivals, "points", None) is not None:
        return arrivals.model_copy(update={"points": tuple((t, rate * factor) for t, rate in arrivals.points)})
    if arrivals.rate_rps is not None:
        return arrivals.model_copy(update={"rate_rps": arrivals.rate_rps * factor})
    users = arrivals.users
    return arrivals.model_copy(update={"users": users.model_copy(update={"active_users": users.active_users * factor})})


def fresh(workload: WorkloadConfig, block_s: float) -> WorkloadConfig:
    """``workload`` such that another seed gives another day: a trace is put together anew from blocks of ``block_s``
    [s].

    Generators draw anew with each seed as they are.
    """
    if not isinstance(workload, TraceWorkload) or workload.bootstrap is not None:
        return workload
    return workload.model_copy(update={"bootstrap": Bootstrap(block_s=block_s)})


def requests_of(scenario: Scenario, seed: int) -> RequestTable:
    """The requests that `simulate` draws for ``seed``."""
    return generate(scenario.workload, named_seed(np.random.SeedSequence(seed), "workload"), scenario.base_dir)


def demand(table: RequestTable) -> np.ndarray:
    """What each request asks for: its share of all prompt tokens plus its share of all output tokens."""
    prompt, output = table.prompt_tokens.astype(float), table.output_tokens.astype(float)
    return prompt / max(prompt.sum(), 1.0) + output / max(output.sum(), 1.0)


def heaviest(table: RequestTable, window_s: float, step_s: float) -> tuple[float, float]:
    """Start of the window of ``window_s`` [s] that asks for most, and its share of all demand; windows start every
    ``step_s``.

    (0, 1) where the traffic is no longer than a window.
    """
    last = float(np.nanmax(table.arrival_s)) if len(table) else 0.0
    if last <= window_s:
        return 0.0, 1.0
    order = np.argsort(table.arrival_s, kind="stable")
    when, total = table.arrival_s[order], np.concatenate(([0.0], np.cumsum(demand(table)[order])))
    starts = np.arange(0.0, last - window_s + step_s, step_s)
    inside = total[np.searchsorted(when, starts + window_s)] - total[np.searchsorted(when, starts)]
    best = int(inside.argmax())
    return float(starts[best]), float(inside[best] / total[-1])


def worst_hour(table: RequestTable, warmup_s: float = 600.0) -> tuple[RequestTable, float]:
    """The heaviest hour with what comes up to ``warmup_s`` [s] before it, and how long that is; times start at 0.

    The whole table where it is no longer than an hour, or its requests depend on each other.
    """
    if table.reacts or table.names_own_streams or not len(table):
        return table, 0.0
    start, share = heaviest(table, HOUR_S, STEP_S)
    if share == 1.0:
        return table, 0.0
    first = max(0.0, start - warmup_s)
    a, b = np.searchsorted(table.arrival_s, [first, start + HOUR_S])
    cut = table.slice(int(a), int(b))
    from dataclasses import replace

    return replace(cut, arrival_s=cut.arrival_s - first), start - first
