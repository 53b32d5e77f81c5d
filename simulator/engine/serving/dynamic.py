"""When a server of your own batches up to a size or a time, whichever comes first."""

from typing import Literal

from pydantic import Field

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import WHOLE


class DynamicServing(ServingPart):
    """Batches that wait for more requests, up to a size or a time."""

    kind: Literal["dynamic"] = "dynamic"
    max_batch_size: int = Field(default=8, ge=1, description="[request]")
    max_delay_s: float = Field(default=0.0, ge=0, description="from the arrival of the first that waits [s]")

    def batching(self) -> Batching:
        return Batching(WHOLE, self.max_batch_size, (self.max_batch_size,), self.max_delay_s)
