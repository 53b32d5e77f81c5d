"""KV cache blocks that fit on a GPU beside weights, activations and CUDA graphs, as vLLM's profiling finds them.

Approximated: activation peaks (data/memory_constants.csv says from which logs), and models that mix full and
sliding-window layers. Those get the block count of a single-group pool that holds as many requests of
``max_model_len`` as vLLM's pool of several groups: the figure of vLLM's line "GPU KV cache size".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from simulator.catalog import GpuSpec, ModelSpec, constants
from simulator.engine.model_memory import activation_bytes, dtype_bytes, pipeline_layers, rank_weights, weight_bytes
from simulator.engine.versions import Rules
from simulator.errors import ServelabError

GB = 1e9


@dataclass(frozen=True)
class MemoryPlan:
    """The flags that decide memory, all filled in."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    dtype: str
    quantization: str
    kv_cache_dtype: str
    gpu_memory_utilization: float
    block_size: int
    max_num_batched_tokens: int
    max_num_seqs: int
    batches_in_flight: int
    capture_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Capacity:
    """Memory of the rank that limits the pool [B], and the pool."""

    requested_bytes: int
    weight_bytes: int
    activation_bytes: int
    graph_bytes: int
    runtime_bytes: int
    available_bytes: int
    bytes_per_block: int
    pool_blocks: int  # of vLLM's pool, the null block included
    groups: int  # KV cache groups that draw on the pool
    group_blocks: Callable[[int], int]  # pool blocks of one request of that many tokens

    def equivalent_blocks(self, pool_blocks: int, block_size: int, max_model_len: int) -> int:
        """Blocks of a single-group pool of the same capacity at ``max_model_len``, null block included."""
        if self.groups == 1:
            return pool_blocks
        full = ceil(max_model_len / block_size)
        return 1 + int((pool_blocks - 1) / self.group_blocks(max_model_len) * full)


class KvFlags(Protocol):
    """What decides the width of a token in the KV cache."""

    @property
    def tensor_parallel_size(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def kv_cache_dtype(self) -> str: ...


def kv_bytes_per_token(model: ModelSpec, plan: KvFlags, layers: int | None = None) -> float:
    """KV cache of one token on one tensor-parallel rank [B], over ``layers`` (default: all)."""
    width = (
        1
        if plan.kv_cache_dtype.startswith("fp8")
        else dtype_bytes(plan.dtype if plan.kv_cache_dtype == "auto" else plan.kv_cache_dtype)
    )
    n = model.layers if layers is None else layers
    return n * model.kv_elements_per_token_layer(plan.tensor_parallel_size) * width


def kv_groups(model: ModelSpec) -> tuple[int, int, int]:
    """Layers per KV cache group, groups of full layers, groups of sliding layers (vLLM's grouping).

    >>> from simulator.catalog import find_model
    >>> kv_groups(find_model("gpt-oss-20b")), kv_groups(find_model("llama-3.1-8b"))
    ((12, 1, 1), (32, 1, 0))
    """
    full, sliding = model.full_layers, model.sliding_layers
    if not sliding or not full:
        return model.layers, 1 if full else 0, 1 if sliding else 0
    size, most = sorted((full, sliding))
    if most < 1.5 * size:
        size = most
    return size, ceil(full / size), ceil(sliding / size)


def _group_blocks(model: ModelSpec, plan: MemoryPlan, rules: Rules) -> Callable[[int], int]:
    _, full, sliding = kv_groups(model)
    in_flight = plan.max_num_batched_tokens * (plan.batches_in_flight if rules["window_batches_in_flight"] else 1)

    def blocks(tokens: int) -> int:
        window = min(model.sliding_window - 1 + in_flight, tokens)
        return full * ceil(tokens / plan.block_size) + sliding * (ceil(window / plan.block_size) + 1)

    return blocks


def graph_bytes(model: ModelSpec, plan: MemoryPlan, layers: int) -> int:
    """Memory of the captured CUDA graphs of ``layers`` [B]: piecewise ones, and full ones up to max_num_seqs."""
    graphs = len(plan.capture_sizes) + sum(n <= plan.max_num_seqs for n in plan.capture_sizes)
    return int(graphs * layers * constants("memory_constants")["graph_bytes_per_layer"])


def capacity(model: ModelSpec, gpu: GpuSpec, plan: MemoryPlan, rules: Rules) -> Capacity:
    """Memory of the rank with the fewest blocks; ``available_bytes`` may be negative."""
    c, tp, pp = constants("memory_constants"), plan.tensor_parallel_size, plan.pipeline_parallel_size
    requested = ceil(gpu.device_memory_bytes * plan.gpu_memory_utilization)
    runtime = int(c["non_torch_bytes"] + c["workspace_bytes"] + (c["parallel_bytes"] if tp * pp > 1 else 0))
    size, full, sliding = kv_groups(model)
    found = []
    for stage, layers in enumerate(pipeline_layers(model.layers, pp)):
        first, last = stage == 0, stage == pp - 1
        weights = weight_bytes(rank_weights(model, tp, layers, first, last), model, plan.quantization, plan.dtype)
        active = activation_bytes(model, tp, plan.max_num_batched_tokens, plan.max_num_seqs, plan.dtype, last)
        graphs = graph_bytes(model, plan, len(layers)) if rules["graph_memory_reserved"] else 0
        available = requested - weights - active - graphs - runtime
        share = ceil(size * len(layers) / model.layers)
        block = int(plan.block_size * kv_bytes_per_token(model, plan, share))
        found.append(
            Capacity(
                requested,
                weights,
                active,
                graphs,
                runtime,
                available,
                block,
                max(0, available) // block,
                full + sliding,
                _group_blocks(model, plan, rules),
            )
        )
    return min(found, key=lambda item: (item.pool_blocks, item.available_bytes))


def largest_model_len(found: Capacity, usable_blocks: int, limit: int) -> int:
    """The longest request [token] that ``usable_blocks`` hold, at most ``limit``; 0 if none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if found.group_blocks(middle) <= usable_blocks:
            low = middle
        else:
            high = middle - 1
    return low


def does_not_fit(
    model: ModelSpec, gpu: GpuSpec, plan: MemoryPlan, found: Capacity, remedies: Iterable[str]
) -> ServelabError:
    """The error of a model whose weights and activations leave no memory for KV blocks."""
    short = (found.bytes_per_block - found.available_bytes) / GB
    ranks = plan.tensor_parallel_size * plan.pipeline_parallel_size
    what = "; ".join(remedies) or "use a larger GPU"
    return ServelabError(
        f"model {model.name} does not fit on {gpu.name} x {ranks}: short by {short:.1f} GB per GPU: "
        f"weights {found.weight_bytes / GB:.1f}, activations {found.activation_bytes / GB:.1f}, "
        f"CUDA graphs {found.graph_bytes / GB:.1f}, runtime {found.runtime_bytes / GB:.1f} GB of "
        f"{found.requested_bytes / GB:.1f} GB (gpu_memory_utilization={plan.gpu_memory_utilization:g} of "
        f"{gpu.device_memory_bytes / GB:.1f} GB). It would fit with: {what}"
    )
