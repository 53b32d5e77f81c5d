"""When the server is Ray Serve with ``@serve.batch``; at its defaults a batch can never fill."""

from typing import Literal

from pydantic import Field

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import WHOLE


class RayServeServing(ServingPart):
    """Ray Serve's ``@serve.batch`` [1]_.

    A replica takes ``max_ongoing_requests`` at a time, those in the batch being computed included. At the default of 5
    its batch of 10 can never fill: each batch waits for the whole window and has 5 requests at most.

    .. [1] Ray Serve documentation, dynamic request batching: max_batch_size 10, batch_wait_timeout_s 0.01;
       max_ongoing_requests 5.
    """

    kind: Literal["ray_serve"] = "ray_serve"
    max_batch_size: int = Field(default=10, ge=1, description="[request]")
    batch_wait_timeout_s: float = Field(default=0.01, ge=0, description="[s]")
    max_ongoing_requests: int = Field(default=5, ge=1, description="[request]")

    def batching(self) -> Batching:
        return Batching(
            WHOLE,
            self.max_batch_size,
            (self.max_batch_size,),
            self.batch_wait_timeout_s,
            from_idle=True,
            visible=self.max_ongoing_requests,
        )
