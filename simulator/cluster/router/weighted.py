"""When a fleet mixes GPUs: the fewest requests for what the pod can do."""

from typing import Literal

import numpy as np
from pydantic import Field

from simulator.cluster.router.base import RouterPart
from simulator.cluster.view import View


class WeightedConfig(RouterPart):
    kind: Literal["weighted"] = "weighted"
    weights: dict[str, float] = Field(
        min_length=1, description="share of the load by deployment, such as its measured capacity [any unit]"
    )


class Weighted:
    """The least ``(outstanding + 1) / weight`` of the pod's deployment; the first at a tie. Weight 0: never chosen."""

    def __init__(self, config: WeightedConfig, pods: int, rng: np.random.Generator) -> None:
        self._weights = config.weights
        self._of: np.ndarray | None = None

    def choose(self, row: int, view: View) -> int:
        if self._of is None:
            self._of = np.array([self._weights[name] for name in view.fleets.deployment_of_pods()])
        with np.errstate(divide="ignore"):
            load = (view.outstanding[view.ready] + 1) / self._of[view.ready]
        return int(view.ready[load.argmin()])
