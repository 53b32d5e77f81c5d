"""The flags of ``vllm serve`` that a scenario may set, and errors that name the nearest right one."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.errors import ServelabError, nearest

KvDtype = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]


class EngineConfig(BaseModel):
    """Flags of ``vllm serve`` under vLLM's own names. None: vLLM's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: str = Field(default="0.32", description="vLLM version whose rules and defaults hold")
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    dtype: str = Field(default="auto", description="auto is bfloat16")
    quantization: str | None = Field(default=None, description="None: as the model is published")
    kv_cache_dtype: KvDtype = "auto"
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    num_gpu_blocks_override: int | None = Field(default=None, ge=2, description="null block included")
    block_size: int | None = Field(default=None, ge=1, description="[token]")
    max_model_len: int | None = Field(default=None, ge=-1, description="[token]; -1: the longest that fits")
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_active_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1, description="[token]")
    max_num_queued_reqs: int | None = Field(default=None, ge=0)
    max_num_queued_tokens: int | None = Field(default=None, ge=0, description="[token]")
    enable_chunked_prefill: bool | None = None
    long_prefill_token_threshold: int = Field(default=0, ge=0, description="[token]; 0: off")
    long_prefill_token_threshold_adaptive: bool = False
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    async_scheduling: bool | None = None
    scheduler_reserve_full_isl: bool | None = None
    watermark: float = Field(default=0.0, ge=0, lt=1)
    enable_prefix_caching: bool | None = None
    enforce_eager: bool = False
    max_cudagraph_capture_size: int | None = Field(default=None, ge=1, description="[token]")


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
