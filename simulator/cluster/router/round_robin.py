"""When pods and requests are alike, or as the baseline of every comparison: pods in turn."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import RouterPart
from simulator.cluster.view import View


class RoundRobinConfig(RouterPart):
    kind: Literal["round_robin"] = "round_robin"


class RoundRobin:
    """The i-th request that is sent goes to pod i modulo their number."""

    def __init__(self, config: RoundRobinConfig, pods: int, rng: np.random.Generator) -> None:
        self.pods = pods
        self._sent = 0

    def choose(self, row: int, view: View) -> int:
        self._sent += 1
        return int(view.ready[(self._sent - 1) % len(view.ready)])

    def choose_all(self, requests: int) -> np.ndarray:
        return np.arange(requests) % self.pods
