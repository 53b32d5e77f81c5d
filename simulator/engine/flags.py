"""The flags of ``vllm serve`` that a scenario may set, and errors that name the nearest right one."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.errors import ServelabError, nearest

KvDtype = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]


class EngineConfig(BaseModel):
    """Flags of ``vllm serve`` under vLLM's own names. None: vLLM's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: str = Field(default="0.32", description="vLLM version whose rules and defaults hold")
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share each layer")
    pipeline_parallel_size: int = Field(
        default=1, ge=1, description="groups of layers; above 1 memory is worked out, simulating is refused"
    )
    dtype: str = Field(default="auto", description="auto is bfloat16")
    quantization: str | None = Field(default=None, description="None: as the model is published")
    kv_cache_dtype: KvDtype = Field(default="auto", description="auto: as dtype; fp8 halves the KV cache")
    gpu_memory_utilization: float | None = Field(
        default=None, gt=0, le=1, description="share of GPU memory that vLLM may take"
    )
    num_gpu_blocks_override: int | None = Field(default=None, ge=2, description="null block included")
    block_size: int | None = Field(default=None, ge=1, description="of the KV cache [token]")
    max_model_len: int | None = Field(
        default=None, ge=-1, description="prompt and answer together [token]; -1: the longest that fits"
    )
    max_num_seqs: int | None = Field(default=None, ge=1, description="requests that may run at a time")
    max_num_active_seqs: int | None = Field(
        default=None, ge=1, description="no more are admitted while so many run; null: max_num_seqs"
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, description="of a batch, prompts and decodes together [token]"
    )
    max_num_queued_reqs: int | None = Field(default=None, ge=0, description="that may wait; more are refused")
    max_num_queued_tokens: int | None = Field(default=None, ge=0, description="that may wait; more are refused [token]")
    enable_chunked_prefill: bool | None = Field(
        default=None, description="prompts may be computed in parts, beside decodes"
    )
    long_prefill_token_threshold: int = Field(
        default=0, ge=0, description="prompts longer than it are computed in parts of it [token]; 0: off"
    )
    long_prefill_token_threshold_adaptive: bool = Field(
        default=False, description="that threshold by what else is running"
    )
    scheduling_policy: Literal["fcfs", "priority"] = Field(
        default="fcfs", description="whose turn it is: who came first, or the lowest priority"
    )
    async_scheduling: bool | None = Field(default=None, description="a batch is planned while the one before runs")
    scheduler_reserve_full_isl: bool | None = Field(
        default=None, description="a request is admitted only if all of its prompt fits"
    )
    watermark: float = Field(
        default=0.0, ge=0, lt=1, description="share of the KV blocks kept free when requests are admitted"
    )
    enable_prefix_caching: bool | None = Field(default=None, description="blocks of equal beginnings are computed once")
    enforce_eager: bool = Field(default=False, description="no CUDA graphs")
    max_cudagraph_capture_size: int | None = Field(
        default=None, ge=1, description="batches beyond it run without CUDA graph [token]"
    )


def parse(flags: dict[str, Any], where: str = "engine") -> EngineConfig:
    """`EngineConfig` from a mapping; raises ServelabError with field, value, limit and the nearest flag."""
    try:
        return EngineConfig(**flags)
    except ValidationError as error:
        raise ServelabError(explain(error, where)) from None


def explain(error: ValidationError, where: str = "engine") -> str:
    """The first fault of a pydantic error in one line, a misspelt flag with the nearest right one."""
    first = error.errors()[0]
    field = ".".join([where, *map(str, first["loc"])])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        hint = nearest(name.replace("-", "_"), EngineConfig.model_fields)
        return f"{field}: no such flag{hint}"
    return f"{field}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
