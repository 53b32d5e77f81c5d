"""When a model is called without any batching, as many pilots do: one request after the other."""

from typing import Literal

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import WHOLE


class OneAtATimeServing(ServingPart):
    """One request after the other."""

    kind: Literal["one_at_a_time"] = "one_at_a_time"

    def batching(self) -> Batching:
        return Batching(WHOLE, 1, (1,))
