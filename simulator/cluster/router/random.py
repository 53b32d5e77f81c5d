"""To see what a router that knows nothing costs: a pod at random."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import Drawn, RouterPart
from simulator.cluster.view import View


class RandomConfig(RouterPart):
    kind: Literal["random"] = "random"


class Random:
    """Each request goes to a pod drawn evenly; request i always gets draw i."""

    def __init__(self, config: RandomConfig, pods: int, rng: np.random.Generator) -> None:
        self.pods, self._drawn = pods, Drawn(rng)

    def choose(self, row: int, view: View) -> int:
        return int(view.ready[int(self._drawn[row][0] * len(view.ready))])

    def choose_all(self, requests: int) -> np.ndarray:
        return (self._drawn.upto(requests)[:, 0] * self.pods).astype(np.int64)
