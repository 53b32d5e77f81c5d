"""When the server is vLLM: requests join and leave the batch at every step."""

from typing import Literal

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import CONTINUOUS


class ContinuousServing(ServingPart):
    """vLLM: requests join and leave at every step."""

    kind: Literal["continuous"] = "continuous"

    def batching(self) -> Batching:
        return Batching(CONTINUOUS)
