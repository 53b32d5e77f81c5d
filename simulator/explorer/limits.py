"""How large a run may be: a page for others must not be brought down by one of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.errors import ServelabError
from simulator.platform import pods_at_most
from simulator.resolved import resolve_deployment
from simulator.scenario import Scenario
from simulator.workload.config import SyntheticWorkload, TraceWorkload
from simulator.workload.sessions import ClosedLoop

LEVELS = (np.arange(100) + 0.5) / 100


class TooLarge(ServelabError):
    """More than is simulated here."""


@dataclass(frozen=True)
class Limits:
    """``requests`` of one run; ``pods`` that a run may have at a time; ``seqs``: pods times max_num_seqs; ``blocks``: pods times
    KV blocks; ``designs`` that a plan may choose from."""

    requests: int = 5_000_000
    pods: int = 100_000
    seqs: int = 10**8
    blocks: int = 10**9
    designs: int = 20_000

    def check(self, scenario: Scenario) -> None:
        """Raises TooLarge for a run that is larger, with what is, by how much and the limit."""
        found = expected_requests(scenario)
        if found is not None and found > self.requests:
            raise TooLarge(
                f"workload: about {found:,.0f} requests, more than the {self.requests:,} that are simulated here; "
                "shorten duration_s or lower rate_rps"
            )
        resolved = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
        pods = [pods_at_most(r) * r.config.data_parallel_size for r in resolved]
        sizes = (
            ("pods", sum(pods), self.pods, "replicas or max_replicas"),
            ("sequences", sum(n * r.settings.max_num_seqs for n, r in zip(pods, resolved, strict=True)), self.seqs, "max_num_seqs"),
            ("KV blocks", sum(n * r.settings.num_gpu_blocks for n, r in zip(pods, resolved, strict=True)), self.blocks, "replicas"),
        )  # fmt: skip
        for what, value, most, field in sizes:
            if value > most:
                raise TooLarge(
                    f"deployments: {value:,} {what}, more than the {most:,} that are simulated here; lower {field}"
                )


FOR_OTHERS = Limits(requests=500_000, pods=256, seqs=10**6, blocks=5 * 10**7, designs=500)


def expected_requests(scenario: Scenario) -> float | None:
    """Requests that the workload will have, on average; None for a trace, whose file says.

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
        return sum(_of_class(c, w.duration_s or 0.0) for c in w.classes)
    return w.rate_rps * (w.duration_s or 0.0)


def _of_class(c: Any, duration_s: float) -> float:
    turns = float(np.mean(c.session.turns.quantile(LEVELS))) if c.session is not None else 1.0
    if isinstance(c.arrivals, ClosedLoop):
        return c.arrivals.requests * turns
    points = getattr(c.arrivals, "points", None)
    rate = max(r for _, r in points) if points else c.arrivals.mean_rps
    return rate * duration_s * turns
