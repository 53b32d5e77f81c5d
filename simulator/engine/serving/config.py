"""The kinds of serving: ``serving:`` of a deployment, and the engine's flags under it."""

from typing import Annotated, Any

from pydantic import Field

from simulator.engine.flags import EngineConfig
from simulator.engine.serving.continuous import ContinuousServing
from simulator.engine.serving.dynamic import DynamicServing
from simulator.engine.serving.one_at_a_time import OneAtATimeServing
from simulator.engine.serving.orca import OrcaServing
from simulator.engine.serving.ray_serve import RayServeServing
from simulator.engine.serving.static import StaticServing
from simulator.engine.serving.tf_serving import TensorFlowServing
from simulator.engine.serving.torchserve import TorchServeServing
from simulator.engine.serving.triton import TritonServing
from simulator.engine.state import CONTINUOUS, RESERVED
from simulator.engine.versions import rules
from simulator.errors import ServelabError

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
