"""vLLM's flags, and what they become on a given model and GPU.

`EngineConfig` is what a scenario says; None means vLLM's default. `resolve` fills every flag in by the rules of
the vLLM version, checks them as vLLM does, and sizes the KV pool.
"""

from dataclasses import dataclass, fields
from typing import Any

from simulator.catalog import GpuSpec, ModelSpec
from simulator.engine.capacity import Capacity, MemoryPlan
from simulator.engine.flag_checks import batch_limits, check_long_prefill, check_parallel, check_version, pool_blocks
from simulator.engine.flags import EngineConfig, explain, parse
from simulator.engine.model_memory import QUANTIZATIONS, dtype_bytes
from simulator.engine.versions import capture_sizes, rules
from simulator.errors import ServelabError, nearest

__all__ = ["EngineConfig", "EngineSettings", "explain", "parse", "resolve"]


@dataclass(frozen=True)
class EngineSettings:
    """Every flag filled in, for one model on one GPU type."""

    version: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    dtype: str
    quantization: str
    kv_cache_dtype: str
    gpu_memory_utilization: float
    block_size: int
    num_gpu_blocks: int  # of the simulated single-group pool, null block included
    max_model_len: int
    max_num_seqs: int
    max_num_active_seqs: int | None
    max_num_batched_tokens: int
    max_num_queued_reqs: int | None
    max_num_queued_tokens: int | None
    enable_chunked_prefill: bool
    long_prefill_token_threshold: int
    long_prefill_token_threshold_adaptive: bool
    long_prefill_off_when_alone: bool
    scheduling_policy: str
    async_scheduling: bool
    scheduler_reserve_full_isl: bool
    watermark: float
    enable_prefix_caching: bool
    enforce_eager: bool
    capture_sizes: tuple[int, ...]  # CUDA graphs [token]
    capacity: Capacity

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def capture_sizes_max(self) -> int:
        """Largest captured CUDA graph [token]; 0: none."""
        return self.capture_sizes[-1] if self.capture_sizes else 0

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV pool holds."""
        return (self.num_gpu_blocks - 1) * self.block_size

    def flags(self) -> dict[str, Any]:
        """The settings by name, without the memory breakdown."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "capacity"}


def _or(value: bool | None, default: float) -> bool:
    return bool(default) if value is None else value


def resolve(config: EngineConfig, model: ModelSpec, gpu: GpuSpec) -> EngineSettings:
    """Every flag as vLLM ``config.version`` would set it for ``model`` on ``gpu``.

    Raises ServelabError for flags that vLLM refuses, that the version does not have, and for a model or a
    request of ``max_model_len`` that does not fit into memory.
    """
    table = rules(config.version)
    check_version(config, table)
    check_parallel(config, model)
    quantization = config.quantization or model.quantization or "none"
    if quantization not in QUANTIZATIONS:
        raise ServelabError(
            f"engine.quantization={quantization!r} is not one of {', '.join(QUANTIZATIONS)}"
            f"{nearest(quantization, QUANTIZATIONS)}"
        )
    dtype_bytes(config.dtype)
    chunked = _or(config.enable_chunked_prefill, table["enable_chunked_prefill"])
    longest = model.max_position_embeddings
    max_len = longest if config.max_model_len in (None, -1) else config.max_model_len
    if max_len < 1 or max_len > longest:
        raise ServelabError(
            f"engine.max_model_len={max_len} must be between 1 and {longest}, the longest sequence of {model.name}"
        )
    tokens, seqs = batch_limits(config, table, gpu, max_len, chunked)
    block_size = config.block_size or int(table["block_size_mla" if model.mla else "block_size"])
    if block_size % 16:
        raise ServelabError(f"engine.block_size={block_size} must be a multiple of 16 (attention kernels)")
    asynchronous = _or(config.async_scheduling, table["async_scheduling"])
    sizes: tuple[int, ...] = ()
    if not config.enforce_eager:
        sizes = capture_sizes(table, gpu, seqs, tokens, config.max_cudagraph_capture_size)
    plan = MemoryPlan(
        tensor_parallel_size=config.tensor_parallel_size,
        pipeline_parallel_size=config.pipeline_parallel_size,
        dtype=config.dtype,
        quantization=quantization,
        kv_cache_dtype=config.kv_cache_dtype,
        gpu_memory_utilization=config.gpu_memory_utilization or table["gpu_memory_utilization"],
        block_size=block_size,
        max_num_batched_tokens=tokens,
        max_num_seqs=seqs,
        batches_in_flight=max(config.pipeline_parallel_size, 2 if asynchronous else 1),
        capture_sizes=sizes,
    )
    found, pool, max_len = pool_blocks(config, model, gpu, plan, table, max_len)
    check_long_prefill(config, max_len)
    return EngineSettings(
        version=config.version,
        tensor_parallel_size=config.tensor_parallel_size,
        pipeline_parallel_size=config.pipeline_parallel_size,
        dtype=config.dtype,
        quantization=quantization,
        kv_cache_dtype=config.kv_cache_dtype,
        gpu_memory_utilization=plan.gpu_memory_utilization,
        block_size=block_size,
        num_gpu_blocks=found.equivalent_blocks(pool, block_size, max_len),
        max_model_len=max_len,
        max_num_seqs=seqs,
        max_num_active_seqs=config.max_num_active_seqs,
        max_num_batched_tokens=tokens,
        max_num_queued_reqs=config.max_num_queued_reqs,
        max_num_queued_tokens=config.max_num_queued_tokens,
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=config.long_prefill_token_threshold,
        long_prefill_token_threshold_adaptive=config.long_prefill_token_threshold_adaptive,
        long_prefill_off_when_alone=bool(table["long_prefill_off_when_alone"]),
        scheduling_policy=config.scheduling_policy,
        async_scheduling=asynchronous,
        scheduler_reserve_full_isl=_or(config.scheduler_reserve_full_isl, table["scheduler_reserve_full_isl"]),
        watermark=config.watermark,
        enable_prefix_caching=_or(config.enable_prefix_caching, table["enable_prefix_caching"]),
        enforce_eager=config.enforce_eager,
        capture_sizes=sizes,
        capacity=found,
    )
