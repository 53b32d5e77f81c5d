"""What it takes to get from one stage to the next: network, payload, and a pair of sidecars where there is one."""

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from simulator.topology.graph import StageGraph
from simulator.topology.path import HopConfig, PathConfig
from simulator.workload.table import RequestTable


def sidecar(hop: HopConfig) -> tuple[float, float]:
    """Location and scale of the logarithm of a sidecar pair's time: a lognormal through the two measured
    percentiles."""
    assert hop.sidecar_p90_s is not None and hop.sidecar_p99_s is not None
    low, high = norm.ppf(0.9), norm.ppf(0.99)
    sigma = float(np.log(hop.sidecar_p99_s / hop.sidecar_p90_s) / (high - low))
    return float(np.log(hop.sidecar_p90_s) - low * sigma), sigma


class Hops:
    """Times of hops of each request [s]; drawn beforehand, so that they do not depend on what happens."""

    def __init__(
        self, path: PathConfig, graph: StageGraph, table: RequestTable, rng: Callable[[str], np.random.Generator]
    ) -> None:
        self._hop, self._graph, self._table = path.hop, graph, table
        self.back_s = path.hop.network_s if path.hop is not None else 0.0  # of an answer, over one hop
        self._mu_sigma = sidecar(path.hop) if path.hop and path.hop.sidecar_p90_s else None
        self._draws = {
            i: rng(f"hop to {s.name}").standard_normal(len(table))
            for i, s in enumerate(path.stages)
            if self._mu_sigma and s.hop
        }

    def seconds(self, row: int, i: int) -> float:
        """Of request ``row`` to stage ``i`` [s]."""
        hop = self._hop
        if hop is None:
            return 0.0
        seconds = hop.network_s
        if hop.bytes_per_s:
            tokens = int(self._table.prompt_tokens[row])
            if i in self._graph.after_llm:
                tokens = int(self._table.output_tokens[row])
            seconds += (hop.payload_bytes + hop.bytes_per_token * tokens) / hop.bytes_per_s
        if self._mu_sigma:
            seconds += float(np.exp(self._mu_sigma[0] + self._mu_sigma[1] * self._draws[i][row]))
        return seconds
