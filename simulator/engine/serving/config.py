"""How a deployment makes batches: vLLM's continuous batching, or what servers did before, under their own parameters.

Every kind runs on the same step times and the same KV blocks. All but ``continuous`` and ``orca`` are one batcher
(`simulator.engine.whole_batch`) under the parameters and the defaults of Triton, TorchServe, Ray Serve and TensorFlow
Serving; `Batching` is what each becomes. Their answers leave when the whole batch is done, so TTFT is E2EL.
"""

from math import inf
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simulator.engine.flags import EngineConfig
from simulator.engine.state import CONTINUOUS, NONE, RESERVED, WHOLE
from simulator.engine.versions import rules
from simulator.errors import ServelabError


class Batching(NamedTuple):
    """A batcher as the compiled engine reads it.

    sizes: batches that need not wait for more; from_idle: the window opens when the server is free, not before;
    visible: most waiting requests that it sees (-1: all); max_pending: most requests that may wait (-1: any);
    instances: copies of the model that take turns on the same GPUs.
    """

    code: int
    max_batch: int | None = None
    sizes: tuple[int, ...] = ()
    delay_s: float = 0.0
    from_idle: bool = False
    visible: int = NONE
    max_pending: int = NONE
    queue_timeout_s: float = inf
    instances: int = 1


class _Serving(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ContinuousServing(_Serving):
    """vLLM: requests join and leave at every step."""

    kind: Literal["continuous"] = "continuous"

    def batching(self) -> Batching:
        return Batching(CONTINUOUS)


class OrcaServing(_Serving):
    """Iteration-level batching with the whole sequence's memory reserved on admission [1]_.

    .. [1] Yu et al., Orca: A Distributed Serving System for Transformer-Based Generative Models, OSDI 2022, algorithm
    1.
    """

    kind: Literal["orca"] = "orca"
    max_batch_size: int | None = Field(default=None, ge=1, description="None: engine.max_num_seqs")

    def batching(self) -> Batching:
        return Batching(RESERVED, self.max_batch_size)


class OneAtATimeServing(_Serving):
    """One request after the other."""

    kind: Literal["one_at_a_time"] = "one_at_a_time"

    def batching(self) -> Batching:
        return Batching(WHOLE, 1, (1,))


class StaticServing(_Serving):
    """Batches of what waits when the server is free."""

    kind: Literal["static"] = "static"
    batch_size: int = Field(default=8, ge=1, description="largest batch [request]")

    def batching(self) -> Batching:
        return Batching(WHOLE, self.batch_size, (self.batch_size,))


class DynamicServing(_Serving):
    """Batches that wait for more requests, up to a size or a time."""

    kind: Literal["dynamic"] = "dynamic"
    max_batch_size: int = Field(default=8, ge=1, description="[request]")
    max_delay_s: float = Field(default=0.0, ge=0, description="from the arrival of the first that waits [s]")

    def batching(self) -> Batching:
        return Batching(WHOLE, self.max_batch_size, (self.max_batch_size,), self.max_delay_s)


class TritonServing(_Serving):
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


class TorchServeServing(_Serving):
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


class RayServeServing(_Serving):
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


class TensorFlowServing(_Serving):
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


ServingConfig = Annotated[
    ContinuousServing
    | OrcaServing
    | OneAtATimeServing
    | StaticServing
    | DynamicServing
    | TritonServing
    | TorchServeServing
    | RayServeServing
    | TensorFlowServing,
    Field(discriminator="kind"),
]

_OURS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "enable_prefix_caching",
    "async_scheduling",
    "scheduling_policy",
    "max_num_active_seqs",
    "scheduler_reserve_full_isl",
    "watermark",
)


def engine_for(serving: Any, engine: EngineConfig) -> EngineConfig:
    """The engine's flags under ``serving``: memory and parallelism as given, vLLM's scheduler set aside.

    Raises ServelabError for a flag of vLLM's scheduler that ``serving`` has no use for; one that only says its default,
    as in a scenario that was written out, is let pass.
    """
    batching = serving.batching()
    if batching.code == CONTINUOUS:
        return engine
    allowed = ("max_num_seqs", "max_num_batched_tokens") if batching.code == RESERVED else ()
    for flag in engine.model_fields_set:
        given = getattr(engine, flag) != EngineConfig.model_fields[flag].default
        if given and flag in _OURS and flag not in allowed:
            raise ServelabError(
                f"engine.{flag}={getattr(engine, flag)!r} is a flag of vLLM's scheduler and says nothing to "
                f"serving.kind={serving.kind}; leave it out"
            )
    own: dict[str, Any] = {
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
        "async_scheduling": False,
        "scheduler_reserve_full_isl": False,
    }
    if batching.max_batch is not None:
        own["max_num_seqs"] = batching.max_batch
    if batching.instances > 1:
        whole = engine.gpu_memory_utilization or rules(engine.version)["gpu_memory_utilization"]
        own["gpu_memory_utilization"] = whole / batching.instances
    return engine.model_copy(update=own)
