"""Two scrapes of vLLM's ``/metrics``: what its histograms say of the time between, and what they cannot say."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulator.errors import ServelabError

METRICS = {
    "ttft_s": ("vllm:time_to_first_token_seconds",),
    "itl_s": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "e2el_s": ("vllm:e2e_request_latency_seconds",),
    "queue_s": ("vllm:request_queue_time_seconds",),
}


@dataclass(frozen=True)
class Histogram:
    """Counts between the edges [s] of its buckets (the last is open), and the exact mean."""

    edges: np.ndarray
    counts: np.ndarray
    mean: float

    def quantile(self, level: float) -> tuple[float, float]:
        """The bucket [s] that the quantile lies in: nothing closer is known."""
        i = int(np.searchsorted(np.cumsum(self.counts), level * self.counts.sum()))
        edges = np.concatenate([[0.0], self.edges])
        return float(edges[i]), float(edges[i + 1]) if i + 1 < len(edges) else float("inf")


def cannot_identify() -> str:
    """What histograms cannot tell."""
    return (
        "histograms say nothing of single batches or requests: no coefficient of a step-time model can be known from "
        "them, only whether a profile's means fall into what was served, and one factor on all of its times"
    )


def read(before: Path, after: Path) -> dict[str, Histogram]:
    """Histograms of what was served between two scrapes, by metric; a metric that vLLM did not export is left out.

    Raises ServelabError where none is there, nothing was served between, or counters fell (the server restarted).
    """
    old, new = _samples(before), _samples(after)
    out: dict[str, Histogram] = {}
    for metric, names in METRICS.items():
        name = next((n for n in names if f"{n}_count" in new), None)
        if name is None:
            continue
        count = new[f"{name}_count"][""] - old.get(f"{name}_count", {}).get("", 0.0)
        if count < 0:
            raise ServelabError(
                f"{after.name}: {name}_count fell by {-count:g}: the server restarted between the scrapes"
            )
        if count == 0:
            continue
        edges = sorted(float(e) for e in new[f"{name}_bucket"] if e != "+Inf")
        text = {float(e): e for e in new[f"{name}_bucket"] if e != "+Inf"}
        upto = [new[f"{name}_bucket"][text[e]] - old.get(f"{name}_bucket", {}).get(text[e], 0.0) for e in edges]
        total = new[f"{name}_sum"][""] - old.get(f"{name}_sum", {}).get("", 0.0)
        out[metric] = Histogram(np.array(edges), np.diff([0.0, *upto, count]), total / count)
    if not out:
        raise ServelabError(f"{after.name}: no request of vllm:* histograms between the two scrapes")
    return out


def _samples(path: Path) -> dict[str, dict[str, float]]:
    """Sample name -> bucket edge ("" without) -> value, added up over engines."""
    from prometheus_client.parser import text_string_to_metric_families

    if not path.is_file():
        raise ServelabError(f"{str(path)!r}: no such file")
    out: dict[str, dict[str, float]] = {}
    try:
        for family in text_string_to_metric_families(path.read_text()):
            for sample in family.samples:
                if sample.name.startswith("vllm:"):
                    edge = sample.labels.get("le", "")
                    out.setdefault(sample.name, {})
                    out[sample.name][edge] = out[sample.name].get(edge, 0.0) + sample.value
    except ValueError as problem:
        raise ServelabError(f"{path.name} is no Prometheus exposition: {problem}") from None
    return out
