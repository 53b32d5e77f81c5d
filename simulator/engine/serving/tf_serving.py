"""When the server is TensorFlow Serving, under the names of its batching parameters; its own default of
threads is the number of CPUs."""

from typing import Literal

from pydantic import Field

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import WHOLE


class TensorFlowServing(ServingPart):
    """TensorFlow Serving's batching parameters [1]_.

    .. [1] TensorFlow Serving batching guide and source: max_batch_size 1000, batch_timeout_micros 0,
       max_enqueued_batches 10. Its default for num_batch_threads is the number of CPUs, which is not known here: 1.
    """

    kind: Literal["tf_serving"] = "tf_serving"
    max_batch_size: int = Field(default=1000, ge=1, description="[request]")
    batch_timeout_micros: float = Field(default=0, ge=0, description="[us]")
    max_enqueued_batches: int = Field(default=10, ge=1, description="full batches that may wait")
    num_batch_threads: int = Field(default=1, ge=1, le=64, description="batches at a time on the same GPUs")

    def batching(self) -> Batching:
        return Batching(
            WHOLE,
            self.max_batch_size,
            (self.max_batch_size,),
            self.batch_timeout_micros / 1e6,
            max_pending=self.max_enqueued_batches * self.max_batch_size,
            instances=self.num_batch_threads,
        )
