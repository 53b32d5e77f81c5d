"""What the analytic model says of a draft at once, with its known error. Nothing is simulated."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from simulator.catalog import load_analytic_error
from simulator.core.slo import LIMITS
from simulator.errors import ServelabError
from simulator.explorer.limits import Limits, TooLarge, expected
from simulator.planner.analytic import Lengths, most_rps, steady
from simulator.planner.price import fleet_usd_per_hour
from simulator.planner.traffic import requests_of
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario
from simulator.workload.config import SyntheticWorkload, TraceWorkload, WorkloadConfig
from simulator.workload.sessions import ClosedLoop

SAMPLE = 20_000  # requests that lengths are taken from
SESSIONS = 20  # and at least so many sessions, however long
DRAWN = Limits(requests=20 * SAMPLE, segments=10**7)  # most of them that are drawn for a preview
MOST_RPS = 1e12
SEED = 0


@dataclass(frozen=True)
class Preview:
    """Means of the steady state, as if load came evenly; times in s, NaN where there is none.

    ``load``: share of the highest rate with a steady state; ``most_rps`` and ``slo_rps``: the highest rate of all
    replicas, and the one within the limits on TTFT and TPOT [request/s]; ``batch``: sequences that decode at a time;
    ``usd_per_1m_output_tokens`` at this rate. ``limit``: what is used up where the load is too high. ``error``: how far
    mean TPOT and TTFT are from simulation (median, relative), None beyond the loads that were compared. ``alone``:
    there are stages around the LLM, which it leaves out. ``too_large``: why it would not be simulated. ``slo_of``: the
    limits that ``slo_rps`` keeps, empty where neither TTFT nor TPOT has one; ``e2el_limit_s`` [s]; ``deadline``:
    whether the SLO has one, of which means say nothing.
    """

    rate_rps: float
    replicas: int
    ttft_s: float
    tpot_s: float
    e2el_s: float
    load: float
    batch: float
    most_rps: float
    slo_rps: float
    limit: str
    usd_per_hour: float
    usd_per_1m_output_tokens: float
    no_price: str
    trust: str
    error: tuple[float, float] | None
    alone: bool = False
    too_large: str = ""
    slo_of: str = "TTFT and TPOT"
    e2el_limit_s: float | None = None
    deadline: bool = False

    @property
    def overloaded(self) -> bool:
        """Whether there is no steady state."""
        return not np.isfinite(self.tpot_s)


def preview(scenario: Scenario, limits: Limits = Limits()) -> Preview:
    """The first deployment's steady state at the scenario's mean rate, shared evenly among its replicas.

    Raises ServelabError for what cannot be simulated, and, saying so, where the analytic model does not apply: several
    deployments, other serving than continuous batching, no replicas at the start. More pods than ``limits`` raise
    TooLarge before anything is priced; of traffic only a sample is drawn, and ``too_large`` says where a simulation
    would be refused.
    """
    limits.check_pods(scenario)
    r = resolve_deployment(scenario, 0)
    if len(scenario.deployments) > 1:
        raise ServelabError(f"no preview for {len(scenario.deployments)} deployments at once: simulate")
    if r.config.serving.kind != "continuous":
        raise ServelabError(
            f"no preview for serving.kind={r.config.serving.kind}, only for continuous batching: simulate"
        )
    if r.config.replicas == 0:
        raise ServelabError("no preview without replicas at the start: simulate")
    lengths, rate_rps = _traffic(scenario)
    if not rate_rps <= MOST_RPS:
        raise ServelabError(f"no preview at {rate_rps:.4g} requests/s, only up to {MOST_RPS:.0e}")
    too_large = _refused(scenario, limits)
    n, slo = r.config.replicas, scenario.slo
    found = steady(r, lengths, rate_rps / n)
    top = most_rps(r, lengths)
    usd, why = _price(scenario)
    tokens_s = min(rate_rps, n * top) * lengths.output
    ok = found.step_s is not None
    load = rate_rps / (n * top) if top else float("inf")
    return Preview(
        rate_rps,
        n,
        ttft_s=found.ttft_s if ok else float("nan"),
        tpot_s=found.step_s or float("nan"),
        e2el_s=found.ttft_s + (lengths.output - 1) * found.tpot_s if ok else float("nan"),
        load=load,
        batch=found.decoding,
        most_rps=n * top,
        slo_rps=n * most_rps(r, lengths, slo.tpot_s, slo.ttft_s),
        limit=found.limit,
        usd_per_hour=usd,
        no_price=why,
        usd_per_1m_output_tokens=usd / (tokens_s * 3600) * 1e6 if tokens_s else float("nan"),
        trust=r.step_time.trust,
        error=known_error(load),
        alone=scenario.path is not None,
        too_large=too_large,
        slo_of=" and ".join(LIMITS[name] for name in ("ttft_s", "tpot_s") if name in slo.limits()),
        e2el_limit_s=slo.e2el_s,
        deadline=slo.deadline_s is not None,
    )


def known_error(load: float) -> tuple[float, float] | None:
    """Median relative error of mean TPOT and TTFT at the nearest load compared, at or above; None beyond the highest.

    >>> known_error(0.5), known_error(0.95)
    ((0.034, 0.087), None)
    """
    return next(((tpot, ttft) for at, tpot, ttft in load_analytic_error() if load <= at), None)


def _refused(scenario: Scenario, limits: Limits) -> str:
    try:
        limits.check_traffic(scenario)
        return ""
    except TooLarge as problem:
        return str(problem)


def _price(scenario: Scenario) -> tuple[float, str]:
    try:
        return fleet_usd_per_hour(scenario), ""
    except ServelabError as problem:
        return float("nan"), str(problem)


def _traffic(scenario: Scenario) -> tuple[Lengths, float]:
    """Lengths of the workload, which its rate does not change, and its mean rate [request/s]."""
    w = scenario.workload
    if isinstance(w, TraceWorkload):
        return _sampled(w.model_dump_json(), type(w), str(scenario.base_dir))
    if isinstance(w, SyntheticWorkload):
        if any(isinstance(c.arrivals, ClosedLoop) for c in w.classes):
            raise ServelabError("no preview of closed loops, whose rate depends on the answers: simulate")
        whole = expected(scenario)
        assert whole is not None
        if whole.requests <= SAMPLE or whole.sessions <= SESSIONS:
            DRAWN.check_traffic(scenario)
            return _sampled(w.model_dump_json(), type(w), "")
        part, share = w, max(SAMPLE / whole.requests, SESSIONS / whole.sessions)
        while share > 0:
            part = _part(w, share)
            drawn = expected(scenario.model_copy(update={"workload": part}))
            if drawn is None or drawn.requests <= 2 * SAMPLE or drawn.sessions <= 2 * SESSIONS:
                break
            share /= 2  # a spike in its beginning
        DRAWN.check_traffic(scenario.model_copy(update={"workload": part}))
        lengths, rate_rps = _sampled(part.model_dump_json(), type(w), "")
        return lengths, whole.requests / w.duration_s if w.duration_s is not None else rate_rps
    few = w.model_copy(update={"rate_rps": 1.0, "duration_s": None, "requests": SAMPLE})
    return _sampled(few.model_dump_json(), type(w), "")[0], w.rate_rps


def _part(w: SyntheticWorkload, share: float) -> SyntheticWorkload:
    if w.duration_s is None:
        return w.model_copy(update={"requests": max(1, round((w.requests or 0) * share))})
    return w.model_copy(update={"duration_s": w.duration_s * share})


@lru_cache(maxsize=32)
def _sampled(text: str, kind: type[WorkloadConfig], folder: str) -> tuple[Lengths, float]:
    workload = kind.model_validate(json.loads(text))  # type: ignore[attr-defined]
    scenario = Scenario.model_construct(workload=workload)
    scenario._base_dir = Path(folder)
    table = requests_of(scenario, SEED)
    if not len(table):
        raise ServelabError("no preview of a workload without requests")
    span = float(np.nanmax(table.arrival_s)) or 1.0
    return Lengths.of(table), len(table) / span
