"""When the server is TorchServe, under the names of its model configuration; the window opens when
the worker is free."""

from typing import Literal

from pydantic import Field

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import WHOLE


class TorchServeServing(ServingPart):
    """TorchServe: a worker takes the first request and waits for more [1]_.

    .. [1] TorchServe documentation, batch inference: batch_size 1, max_batch_delay 100 ms; job_queue_size 100 of the
       advanced configuration.
    """

    kind: Literal["torchserve"] = "torchserve"
    batch_size: int = Field(default=1, ge=1, description="[request]")
    max_batch_delay: float = Field(default=100, ge=0, description="[ms]")
    job_queue_size: int = Field(default=100, ge=1, description="most that may wait [request]")

    def batching(self) -> Batching:
        return Batching(
            WHOLE,
            self.batch_size,
            (self.batch_size,),
            self.max_batch_delay / 1e3,
            from_idle=True,
            max_pending=self.job_queue_size,
        )
