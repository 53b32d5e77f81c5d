"""When the server is NVIDIA Triton, under the names of its dynamic batcher (Triton itself has no default size)."""

from math import inf
from typing import Literal

from pydantic import Field, field_validator, model_validator

from simulator.engine.serving.base import Batching, ServingPart
from simulator.engine.state import NONE, WHOLE


class TritonServing(ServingPart):
    """Triton's dynamic batcher [1]_. Default 0 for the delay: what waits goes at once.

    .. [1] NVIDIA Triton Inference Server, model configuration: dynamic batcher, queue policy, instance groups.
    """

    kind: Literal["triton"] = "triton"
    max_batch_size: int = Field(default=8, ge=1, description="[request]; Triton has no default")
    preferred_batch_size: tuple[int, ...] = Field(default=(), description="sizes that do not wait; (): the largest")
    max_queue_delay_microseconds: float = Field(default=0, ge=0, description="[us]")
    max_queue_size: int = Field(default=0, ge=0, description="of the queue policy; 0: no limit [request]")
    default_timeout_microseconds: float = Field(
        default=0, ge=0, description="of the queue policy, action REJECT; 0: none [us]"
    )
    instance_group_count: int = Field(default=1, ge=1, le=64, description="instances on the same GPUs")

    @field_validator("preferred_batch_size")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for size in value:
            if size < 1:
                raise ValueError(f"a preferred batch size must be at least 1, got {size}")
        return value

    @model_validator(mode="after")
    def _within(self) -> "TritonServing":
        for size in self.preferred_batch_size:
            if size > self.max_batch_size:
                raise ValueError(f"preferred_batch_size {size} is above max_batch_size {self.max_batch_size}")
        return self

    def batching(self) -> Batching:
        sizes = tuple(dict.fromkeys((*(self.preferred_batch_size or ()), self.max_batch_size)))
        return Batching(
            WHOLE,
            self.max_batch_size,
            sizes,
            self.max_queue_delay_microseconds / 1e6,
            max_pending=self.max_queue_size or NONE,
            queue_timeout_s=self.default_timeout_microseconds / 1e6 or inf,
            instances=self.instance_group_count,
        )
