"""How large a run may be: a page for others must not be brought down by one of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.errors import ServelabError
from simulator.run.resolved import resolve_deployment
from simulator.run.surroundings import pods_at_most
from simulator.scenario import Scenario
from simulator.workload.config import SyntheticWorkload, TraceWorkload
from simulator.workload.processes import WEEK_S
from simulator.workload.sessions import ClosedLoop

LEVELS = (np.arange(100) + 0.5) / 100


class TooLarge(ServelabError):
    """More than is simulated here."""


@dataclass(frozen=True)
class Limits:
    """``requests`` of one run; ``pods`` that a run may have at a time; ``seqs``: pods times max_num_seqs;
    ``blocks``: pods times KV blocks; ``segments``: earlier turns that requests of sessions repeat; ``designs`` that
    a plan may choose from."""

    requests: int = 5_000_000
    pods: int = 100_000
    seqs: int = 10**8
    blocks: int = 10**9
    segments: int = 10**8
    designs: int = 20_000

    def check(self, scenario: Scenario) -> None:
        """Raises TooLarge for a run that is larger, with what is, by how much and the limit."""
        self.check_traffic(scenario)
        self.check_pods(scenario)

    def check_traffic(self, scenario: Scenario) -> None:
        """Raises TooLarge for more traffic; nothing is drawn."""
        found = expected(scenario)
        if found is None:
            return
        if not found.requests <= self.requests:  # not even where it is not a number
            raise TooLarge(
                f"workload: about {found.requests:,.0f} requests, more than the {self.requests:,} that are simulated "
                "here; shorten duration_s or lower rate_rps"
            )
        if not found.segments <= self.segments:
            raise TooLarge(
                f"workload: turns of sessions repeat earlier ones about {found.segments:,.0f} times, more than the "
                f"{self.segments:,} that are simulated here; lower session.turns"
            )

    def check_pods(self, scenario: Scenario) -> None:
        """Raises TooLarge for more pods, or for what they hold at a time."""
        resolved = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
        pods = [pods_at_most(r) * r.config.data_parallel_size for r in resolved]
        sizes = (
            ("pods", sum(pods), self.pods, "replicas or max_replicas"),
            (
                "sequences",
                sum(n * r.settings.max_num_seqs for n, r in zip(pods, resolved, strict=True)),
                self.seqs,
                "max_num_seqs",
            ),
            (
                "KV blocks",
                sum(n * r.settings.num_gpu_blocks for n, r in zip(pods, resolved, strict=True)),
                self.blocks,
                "replicas",
            ),
        )
        for what, value, most, field in sizes:
            if value > most:
                raise TooLarge(
                    f"deployments: {value:,} {what}, more than the {most:,} that are simulated here; lower {field}"
                )


FOR_OTHERS = Limits(requests=500_000, pods=256, seqs=10**6, blocks=5 * 10**7, segments=10**7, designs=500)


def expected_requests(scenario: Scenario) -> float | None:
    """Requests that the workload will have, on average; None for a trace, whose file says.

    >>> expected_requests(Scenario.of({"workload": {"source": "azure_conversation", "rate_rps": 2.0, "duration_s": 60},
    ...     "deployments": [{"model": "llama-3.1-8b", "gpu": "h100"}]}))
    120.0
    """
    found = expected(scenario)
    return None if found is None else found.requests


@dataclass(frozen=True)
class Expected:
    """``sessions`` (a request without one counts as one), their ``requests``, and the ``segments`` by which turns
    repeat earlier ones."""

    sessions: float
    requests: float
    segments: float


def expected(scenario: Scenario) -> Expected | None:
    """What the workload will have, on average; None for a trace."""
    w = scenario.workload
    if isinstance(w, TraceWorkload):
        return None
    if not isinstance(w, SyntheticWorkload):
        found = float(w.requests) if w.requests is not None else w.rate_rps * (w.duration_s or 0.0)
        return Expected(found, found, 0.0)
    looped = [_looped(c) for c in w.classes if isinstance(c.arrivals, ClosedLoop)]
    free = [c for c in w.classes if not isinstance(c.arrivals, ClosedLoop)]
    if w.requests is None:
        parts = looped + [_turned(c, arrivals_within(c.arrivals, w.duration_s or 0.0)) for c in free]
    else:  # nobody knows how many of them are of which class
        parts = looped + [max((_turned(c, float(w.requests)) for c in free), key=lambda e: e.requests)]
    return Expected(sum(e.sessions for e in parts), sum(e.requests for e in parts), sum(e.segments for e in parts))


def _looped(c: Any) -> Expected:
    return _turned(c, float(c.arrivals.requests))


def _turned(c: Any, sessions: float) -> Expected:
    turns = np.asarray(c.session.turns.quantile(LEVELS), float) if c.session is not None else np.ones(1)
    repeated = float(np.mean(turns * (turns - 1) / 2))
    return Expected(sessions, sessions * float(np.mean(turns)), sessions * repeated)


def arrivals_within(arrivals: Any, duration_s: float) -> float:
    """Arrivals of a process before ``duration_s`` [s] on average, its spikes included.

    >>> from simulator.workload.processes import ProfileArrivals
    >>> spike = {"start_s": 50.0, "duration_s": 100.0, "factor": 11.0}
    >>> arrivals_within(ProfileArrivals(points=((0.0, 2.0),), spikes=(spike,)), 100.0)
    1200.0
    """
    if not hasattr(arrivals, "spikes"):
        return arrivals.mean_rps * duration_s
    period_s = WEEK_S if arrivals.kind == "diurnal" else arrivals.period_s
    once = {"spikes": ()} if arrivals.kind == "diurnal" else {"spikes": (), "period_s": None}
    span_s = min(period_s or duration_s, duration_s)
    rate = arrivals.model_copy(update=once).rate(span_s)
    passed = rate.integral(span_s)

    def upto(time_s: float) -> float:
        return time_s // span_s * passed + rate.integral(time_s % span_s)

    ends = [(s.start_s, min(s.start_s + s.duration_s, duration_s)) for s in arrivals.spikes if s.start_s < duration_s]
    edges = np.unique([0.0, duration_s, *(t for pair in ends for t in pair)])
    factor = np.ones(len(edges) - 1)
    for spike, (start_s, end_s) in zip([s for s in arrivals.spikes if s.start_s < duration_s], ends, strict=True):
        factor[np.searchsorted(edges, start_s) : np.searchsorted(edges, end_s)] *= spike.factor
    return float(np.diff([upto(t) for t in edges]) @ factor)
