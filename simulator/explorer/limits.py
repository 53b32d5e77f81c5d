"""How large a run may be: a page for others must not be brought down by one of them."""

from typing import Any

from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.workload.config import SyntheticWorkload, TraceWorkload
from simulator.workload.sessions import ClosedLoop


def expected_requests(scenario: Scenario) -> float | None:
    """Requests that the workload will have, on average; None for a trace, whose file says. Sessions count by their first turn.

    >>> expected_requests(Scenario.of({"workload": {"source": "azure_conversation", "rate_rps": 2.0, "duration_s": 60},
    ...     "deployments": [{"model": "llama-3.1-8b", "gpu": "h100"}]}))
    120.0
    """
    w = scenario.workload
    if isinstance(w, TraceWorkload):
        return None
    if w.requests is not None:
        return float(w.requests)
    if isinstance(w, SyntheticWorkload):
        return sum(_of_class(c.arrivals, w.duration_s or 0.0) for c in w.classes)
    return w.rate_rps * (w.duration_s or 0.0)


def _of_class(arrivals: Any, duration_s: float) -> float:
    if isinstance(arrivals, ClosedLoop):
        return float(arrivals.requests)
    points = getattr(arrivals, "points", None)
    rate = max(r for _, r in points) if points else arrivals.mean_rps
    return rate * duration_s


def check_size(scenario: Scenario, most: int) -> None:
    """Raises ServelabError for a workload of more than ``most`` requests."""
    found = expected_requests(scenario)
    if found is not None and found > most:
        raise ServelabError(
            f"workload: about {found:,.0f} requests, more than the {most:,} that are simulated here; shorten duration_s or lower rate_rps"
        )
