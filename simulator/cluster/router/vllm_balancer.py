"""When one vLLM front end spreads requests over data-parallel ranks: vLLM's own balancer."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import Scraping
from simulator.cluster.view import View


class VllmBalancerConfig(Scraping):
    """The rule by which vLLM's front end spreads requests over its engine cores [1]_.

    .. [1] vLLM 0.32, vllm/v1/engine/core_client.py, ``DPLBAsyncMPClient.get_core_engine_for_request``.
    """

    kind: Literal["vllm_balancer"] = "vllm_balancer"
    signal_age_s: float = 0.1  # the coordinator sends the counts to the front ends every 100 ms


class VllmBalancer:
    """The least ``4 x waiting + running``, the first at a tie; what was sent since the counts came counts as
    waiting."""

    def __init__(self, config: VllmBalancerConfig, pods: int, rng: np.random.Generator) -> None:
        self._sent = np.zeros(pods, np.int64)
        self._counts: object = None

    def choose(self, row: int, view: View) -> int:
        found = view.signals
        if found is not self._counts:
            self._counts = found
            self._sent[:] = 0
        score = 4 * (found.waiting + self._sent) + found.running
        pod = int(view.ready[score[view.ready].argmin()])
        self._sent[pod] += 1
        return pod
