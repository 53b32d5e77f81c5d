"""What vLLM refuses: checks of flags against each other, the model and the memory. Values, fields, limits."""

from dataclasses import replace

from simulator.catalog import GpuSpec, ModelSpec
from simulator.engine.capacity import Capacity, MemoryPlan, capacity, does_not_fit, largest_model_len
from simulator.engine.flags import EngineConfig
from simulator.engine.versions import Rules, batch_defaults, load_versions
from simulator.errors import ServelabError

GB = 1e9
NEEDS = {
    "watermark": "has_watermark",
    "long_prefill_token_threshold_adaptive": "has_adaptive_long_prefill",
    "max_num_queued_reqs": "has_queue_limits",
    "max_num_queued_tokens": "has_queue_limits",
    "max_num_active_seqs": "has_queue_limits",
}


def check_version(config: EngineConfig, rules: Rules) -> None:
    """Flags that the version does not have."""
    for flag, rule in NEEDS.items():
        value = getattr(config, flag)
        if value and not rules[rule]:
            later = ", ".join(name for name, other in load_versions().items() if other[rule])
            raise ServelabError(
                f"engine.{flag}={value} does not exist in vLLM {config.version}; versions that have it: {later}"
            )


def check_parallel(config: EngineConfig, model: ModelSpec) -> None:
    """Heads and layers divide among the ranks."""
    tp, pp, heads, kv = (
        config.tensor_parallel_size,
        config.pipeline_parallel_size,
        model.attention_heads,
        model.kv_heads,
    )
    if heads % tp or (not model.mla and kv % tp and tp % kv):
        allowed = [n for n in range(1, heads + 1) if heads % n == 0 and (model.mla or kv % n == 0 or n % kv == 0)]
        raise ServelabError(
            f"engine.tensor_parallel_size={tp} does not divide the {heads} attention heads ({kv} KV heads) of "
            f"{model.name}; it may be {', '.join(map(str, allowed))}"
        )
    if pp > model.layers:
        raise ServelabError(f"engine.pipeline_parallel_size={pp} exceeds the {model.layers} layers of {model.name}")


def batch_limits(
    config: EngineConfig, rules: Rules, gpu: GpuSpec, max_model_len: int, chunked: bool
) -> tuple[int, int]:
    """max_num_batched_tokens [token] and max_num_seqs, by vLLM's defaults and checks."""
    tokens, seqs = batch_defaults(rules, gpu)
    seqs = config.max_num_seqs or seqs
    if config.max_num_batched_tokens is None:
        if not chunked:
            tokens = max(tokens, max_model_len)
        tokens = min(tokens, seqs * max_model_len)
    else:
        tokens = config.max_num_batched_tokens
    if config.max_num_seqs is None:
        seqs = min(seqs, tokens)
    if tokens < max_model_len and not chunked:
        raise ServelabError(
            f"engine.max_num_batched_tokens={tokens} is below max_model_len={max_model_len} while "
            "enable_chunked_prefill is off: raise the first to the second, or lower max_model_len"
        )
    if tokens < seqs:
        raise ServelabError(f"engine.max_num_batched_tokens={tokens} must be at least max_num_seqs={seqs}")
    active = config.max_num_active_seqs
    if active is not None and active > seqs:
        raise ServelabError(f"engine.max_num_active_seqs={active} must be at most max_num_seqs={seqs}")
    return tokens, seqs


def check_long_prefill(config: EngineConfig, max_model_len: int) -> None:
    threshold = config.long_prefill_token_threshold
    if threshold > max_model_len:
        raise ServelabError(
            f"engine.long_prefill_token_threshold={threshold} must be at most max_model_len={max_model_len}"
        )


def pool_blocks(
    config: EngineConfig, model: ModelSpec, gpu: GpuSpec, plan: MemoryPlan, rules: Rules, max_model_len: int
) -> tuple[Capacity, int, int]:
    """The memory breakdown, the blocks of vLLM's pool, and max_model_len (found where the flag is -1) [token].

    Raises ServelabError where no block fits, or not one request of max_model_len.
    """
    found = capacity(model, gpu, plan, rules)
    override = config.num_gpu_blocks_override
    if override is None and found.pool_blocks < 2:
        raise does_not_fit(model, gpu, plan, found, _remedies(config, model, gpu, plan, rules))
    pool = override or found.pool_blocks
    usable = pool - 1 if rules["null_block_reserved"] else pool
    need = found.group_blocks(max_model_len)
    if need <= usable:
        return found, pool, max_model_len
    fits = largest_model_len(found, usable, max_model_len)
    if config.max_model_len == -1 and fits:
        return found, pool, fits
    short = (need - usable) * found.bytes_per_block
    cause = (
        f"num_gpu_blocks_override={override}"
        if override
        else (f"gpu_memory_utilization={plan.gpu_memory_utilization:g} on {gpu.name}")
    )
    raise ServelabError(
        f"engine.max_model_len={max_model_len} does not fit: one request of that length needs {need} KV blocks of "
        f"{plan.block_size} tokens, the pool has {usable} ({cause}), short by {short / GB:.2f} GB per GPU; "
        f"the largest max_model_len that fits is {fits}"
    )


def _remedies(config: EngineConfig, model: ModelSpec, gpu: GpuSpec, plan: MemoryPlan, rules: Rules) -> list[str]:
    """Changes of one flag with which the model would fit."""
    found = []
    for tp in (2, 4, 8, 16):
        if tp <= plan.tensor_parallel_size or model.attention_heads % tp:
            continue
        if capacity(model, gpu, replace(plan, tensor_parallel_size=tp), rules).pool_blocks > 1:
            found.append(f"tensor_parallel_size={tp}")
            break
    for name in ("fp8", "awq"):
        if plan.quantization != "none":
            break
        if capacity(model, gpu, replace(plan, quantization=name), rules).pool_blocks > 1:
            found.append(f"quantization={name}")
            break
    if plan.max_num_seqs > 64:
        smaller = replace(plan, max_num_seqs=64, max_num_batched_tokens=2048, capture_sizes=())
        if capacity(model, gpu, smaller, rules).pool_blocks > 1:
            found.append("max_num_seqs=64, max_num_batched_tokens=2048, enforce_eager=true")
    return found
