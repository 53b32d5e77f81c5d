"""The default, when pods are alike and answers differ in length: the pod with the fewest requests in it."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import RouterPart, first_least
from simulator.cluster.view import View


class LeastOutstandingConfig(RouterPart):
    kind: Literal["least_outstanding"] = "least_outstanding"


class LeastOutstanding:
    """Fewest requests sent and not ended; the first such pod at a tie. The gateway's own count, without delay."""

    def __init__(self, config: LeastOutstandingConfig, pods: int, rng: np.random.Generator) -> None:
        self.pods = pods

    def choose(self, row: int, view: View) -> int:
        if len(view.ready) == self.pods:
            return int(view.outstanding.argmin())
        return first_least(view.outstanding, view.ready)
