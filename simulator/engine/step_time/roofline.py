"""When nothing was measured: step time from a GPU's and a model's figures, per kernel class the larger of arithmetic
and memory time; `calibration.fit.roofline.fit_roofline` finds its efficiencies.

Kernel classes: dense linear layers (qkv, output, MLP, shared experts; padded to captured CUDA graph sizes), routed
experts, prefill attention, decode attention, output head; then all-reduces of tensor parallelism, transfers of
pipeline parallelism, and a fixed time per layer. Two ranks compute one batch in step, so the time of one rank is
the time of the batch; pipeline stages run one after another.

Routing is taken as uniform: T tokens that each choose k of E experts load E (1 - (1 - k/E)^T) of them. A sliding
window is applied to the mean context of the decoding sequences. [1]_ With expert parallelism every rank waits for
the one that loads most experts: ``expert_imbalance`` times the spread that uniform routing gives.

How good it is, with the efficiencies of data/roofline.csv: median inter-token latency of vLLM on H100, batches whose
median step only decodes (ML.ENERGY v3, 125 rows, prompt length inferred). Dense bf16 models that the fit did not see
(Llama-3.1-8B, Llama-3.3-70B, Qwen3-32B on two GPUs; 25 rows): median error 5 %, largest 12 %; Llama-3.1-405B in fp8
22 % too fast; Qwen3-30B-A3B 5 %; larger MoE models, whose experts were spread over GPUs, 20 to 60 % too fast.
Against decode steps of two vLLM 0.19 runs (RTX 4090, 2 x RTX PRO 6000): median error 7 % and 6 %. Prefill was
not judged for want of data.

.. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
"""

from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import Field

from simulator.catalog import GpuSpec, ModelSpec, constants
from simulator.engine.capacity import kv_bytes_per_token
from simulator.engine.compiled import compiled
from simulator.engine.config import EngineSettings
from simulator.engine.model_memory import INT4, rank_weights, weight_bytes_each
from simulator.engine.step_time.base import ROOFLINE, StepTime, StepTimeConfig

# places in the parameter array; captured CUDA graph sizes follow from SIZES on
(
    LINEAR_FLOPS,  # per token
    LINEAR_BYTES,  # per step
    TOKEN_BYTES,  # activations read and written, per token
    EXPERT_FLOPS,  # per token
    EXPERT_BYTES,  # of one expert, over all its layers
    EXPERTS,
    EXPERTS_PER_TOKEN,
    FULL_PAIR_FLOPS,
    FULL_KV_BYTES,
    SLIDING_PAIR_FLOPS,
    SLIDING_KV_BYTES,
    WINDOW,
    HEAD_FLOPS,  # per sampled token
    HEAD_BYTES,
    COMM_S_PER_TOKEN,
    FIXED_S,
    SEQ_S,  # per sequence
    LAUNCH_S,  # the least time of a batch without CUDA graph
    LINEAR_RATE,  # FLOP/s
    EXPERT_RATE,
    ATTENTION_RATE,
    MEMORY_RATE,  # B/s
    KV_RATE,
    EXPERT_MEMORY_RATE,
    EXPERT_SPREAD,  # experts that the busiest rank loads beyond the mean, in standard deviations of all
    MIXED_S,  # of a batch with prefill
    N_SIZES,
    SIZES,
) = range(28)


class RooflineStepTime(StepTimeConfig):
    """From datasheets. None: the default of data/roofline.csv, which says how good it is."""

    kind: Literal["roofline"] = "roofline"
    compute_efficiency: float | None = Field(default=None, gt=0, le=1, description="of dense FLOP/s in linears")
    expert_efficiency: float | None = Field(default=None, gt=0, le=1, description="of dense FLOP/s in experts")
    attention_efficiency: float | None = Field(default=None, gt=0, le=1, description="of FLOP/s in attention")
    memory_efficiency: float | None = Field(default=None, gt=0, le=1, description="of bandwidth, weights")
    kv_efficiency: float | None = Field(default=None, gt=0, le=1, description="of bandwidth, KV cache")
    link_efficiency: float | None = Field(default=None, gt=0, le=1, description="of NVLink bandwidth")
    pcie_efficiency: float | None = Field(default=None, gt=0, le=1, description="the same without NVLink")
    all_reduce_s: float | None = Field(default=None, ge=0, description="latency of one all-reduce [s]")
    all_reduce_pcie_s: float | None = Field(default=None, ge=0, description="the same without NVLink [s]")
    layer_s: float | None = Field(default=None, ge=0, description="fixed GPU time per layer [s]")
    launch_s: float | None = Field(default=None, ge=0, description="least time per layer without CUDA graph [s]")
    seq_s: float | None = Field(default=None, ge=0, description="per sequence, synchronous scheduling [s]")
    seq_async_s: float | None = Field(default=None, ge=0, description="per sequence, asynchronous scheduling [s]")
    host_s: float | None = Field(default=None, ge=0, description="host time before each batch [s]")
    expert_memory_efficiency: float | None = Field(
        default=None, gt=0, le=1, description="of bandwidth, expert weights; None: memory_efficiency"
    )
    expert_imbalance: float | None = Field(
        default=None, ge=0, description="of experts spread over ranks: 1 is that of uniform routing; None: 0"
    )
    moe_layer_s: float | None = Field(
        default=None, ge=0, description="fixed GPU time per MoE layer, routing and launches; None: 0 [s]"
    )
    fp8_layer_s: float | None = Field(
        default=None, ge=0, description="fixed GPU time per layer to quantise activations; None: 0 [s]"
    )
    mixed_layer_s: float | None = Field(
        default=None, ge=0, description="fixed GPU time per layer of a batch with prefill; None: 0 [s]"
    )


@compiled
def padded(p, tokens):
    """``tokens`` padded to the next captured CUDA graph; unchanged above the largest."""
    n = int(p[N_SIZES])
    if n == 0 or tokens > p[SIZES + n - 1]:
        return float(tokens)
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        if p[SIZES + middle] < tokens:
            low = middle + 1
        else:
            high = middle
    return p[SIZES + low]


@compiled
def roofline_seconds(
    p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, prefill_kv, decode_seqs, decode_kv, sampled
):
    """GPU time of one batch [s]; the arguments of `config.gpu_seconds`."""
    if tokens <= 0:
        return 0.0
    rows = padded(p, tokens)
    captured = int(p[N_SIZES]) > 0 and tokens <= p[SIZES + int(p[N_SIZES]) - 1]
    seconds = max(p[LINEAR_FLOPS] * rows / p[LINEAR_RATE], (p[LINEAR_BYTES] + p[TOKEN_BYTES] * rows) / p[MEMORY_RATE])
    if p[EXPERTS] > 0.0:
        unused = (1.0 - p[EXPERTS_PER_TOKEN] / p[EXPERTS]) ** tokens
        loaded = p[EXPERTS] * (1.0 - unused)
        loaded = min(p[EXPERTS], loaded + p[EXPERT_SPREAD] * (loaded * unused) ** 0.5)
        seconds += max(p[EXPERT_FLOPS] * rows / p[EXPERT_RATE], p[EXPERT_BYTES] * loaded / p[EXPERT_MEMORY_RATE])
    seconds += max(p[HEAD_FLOPS] * sampled / p[LINEAR_RATE], p[HEAD_BYTES] / p[MEMORY_RATE])
    if prefill_tokens > 0:
        seconds += p[MIXED_S] + max(
            p[FULL_PAIR_FLOPS] * prefill_pairs / p[ATTENTION_RATE], p[FULL_KV_BYTES] * prefill_kv / p[KV_RATE]
        )
        if p[WINDOW] > 0.0:
            pairs = min(float(prefill_pairs), prefill_tokens * p[WINDOW])
            kv = min(float(prefill_kv), prefill_tokens + prefill_seqs * p[WINDOW])
            seconds += max(p[SLIDING_PAIR_FLOPS] * pairs / p[ATTENTION_RATE], p[SLIDING_KV_BYTES] * kv / p[KV_RATE])
    if decode_seqs > 0:
        seconds += max(p[FULL_PAIR_FLOPS] * decode_kv / p[ATTENTION_RATE], p[FULL_KV_BYTES] * decode_kv / p[KV_RATE])
        if p[WINDOW] > 0.0:
            kv = min(float(decode_kv), decode_seqs * p[WINDOW])
            seconds += max(p[SLIDING_PAIR_FLOPS] * kv / p[ATTENTION_RATE], p[SLIDING_KV_BYTES] * kv / p[KV_RATE])
    seconds += p[COMM_S_PER_TOKEN] * rows + p[FIXED_S] + p[SEQ_S] * (prefill_seqs + decode_seqs)
    return seconds if captured else max(seconds, p[LAUNCH_S])


def roofline_params(
    model: ModelSpec, gpu: GpuSpec, settings: EngineSettings, efficiency: dict[str, float]
) -> np.ndarray:
    """Parameter array of `roofline_seconds`; ``efficiency`` holds the fields of `RooflineStepTime`, filled in."""
    tp, pp, h = settings.tensor_parallel_size, settings.pipeline_parallel_size, model.hidden_size
    each = weight_bytes_each(settings.quantization, settings.dtype)
    w = rank_weights(model, tp, range(model.layers), True, True)
    head = model.embedding_parameters / tp
    rate = gpu.flops(8 if settings.quantization == "fp8" else 16)
    heads = model.attention_heads / tp
    # MLA in its latent form: scores over kv_lora_rank + rope elements, values over kv_lora_rank
    elements = 2 * model.kv_lora_rank + model.qk_rope_head_dim if model.mla else 2 * model.head_dim
    pair_flops = 2 * heads * elements  # per layer
    kv_layer = kv_bytes_per_token(model, settings, 1)
    moe = model.moe_layers
    # activations in 16 bit: each linear reads its input and writes its output; norms and residual pass h thrice each
    attention = 2 * h + (2 * model.attention_heads * model.qk_head_dim + model.kv_elements_per_token_layer()) / tp
    inner = model.intermediate_size * (model.layers - moe)
    inner += moe * model.moe_intermediate_size * (model.experts_per_token + model.shared_experts)
    token_bytes = 2 * (model.layers * (8 * h + attention) + 5 * inner / tp)
    nvlink = gpu.link_bytes_per_s > gpu.pcie_bytes_per_s
    link = gpu.link_bytes_per_s * efficiency["link_efficiency" if nvlink else "pcie_efficiency"]
    reduces = 2 * model.layers + 1 if tp > 1 else 0
    reduce_s = efficiency["all_reduce_s" if nvlink else "all_reduce_pcie_s"]
    comm = reduces * 2 * h * 2 * (tp - 1) / tp / link + (pp - 1) * 2 * h / link
    fixed = model.layers * efficiency["layer_s"] + (reduces + pp - 1) * reduce_s
    fixed += moe * efficiency.get("moe_layer_s", 0.0)
    if settings.quantization == "fp8":
        fixed += model.layers * efficiency.get("fp8_layer_s", 0.0)
    sizes = settings.capture_sizes
    p = np.zeros(SIZES + len(sizes))
    p[LINEAR_FLOPS] = 2 * (w.attention + w.mlp + moe * model.per_layer.router)
    p[LINEAR_BYTES] = (w.attention + w.mlp) * each.linear + w.other * each.other
    p[TOKEN_BYTES] = token_bytes
    if moe:
        one = w.experts / model.experts
        p[EXPERT_FLOPS] = 2 * one * model.experts_per_token
        p[EXPERT_BYTES] = one * each.expert
        if tp > 1:  # expected largest of tp normal deviates (Blom)
            spread = NormalDist().inv_cdf((tp - 0.375) / (tp + 0.25)) * tp**0.5
            p[EXPERT_SPREAD] = efficiency.get("expert_imbalance", 0.0) * spread
        p[EXPERTS], p[EXPERTS_PER_TOKEN] = model.experts, model.experts_per_token
    p[FULL_PAIR_FLOPS], p[FULL_KV_BYTES] = model.full_layers * pair_flops, model.full_layers * kv_layer
    p[SLIDING_PAIR_FLOPS], p[SLIDING_KV_BYTES] = (model.sliding_layers * pair_flops, model.sliding_layers * kv_layer)
    p[WINDOW] = model.sliding_window if model.sliding_layers else 0
    p[HEAD_FLOPS], p[HEAD_BYTES] = 2 * head, head * each.other
    p[COMM_S_PER_TOKEN], p[FIXED_S] = comm, fixed
    p[SEQ_S] = efficiency["seq_async_s" if settings.async_scheduling else "seq_s"]
    p[MIXED_S] = model.layers * efficiency.get("mixed_layer_s", 0.0)
    p[LAUNCH_S] = model.layers * efficiency["launch_s"]
    p[LINEAR_RATE] = rate * efficiency["compute_efficiency"]
    quantized = settings.quantization in INT4 or settings.quantization == "mxfp4"
    p[EXPERT_RATE] = (gpu.bf16_flops if quantized else rate) * efficiency["expert_efficiency"]
    p[ATTENTION_RATE] = gpu.bf16_flops * efficiency["attention_efficiency"]
    p[MEMORY_RATE] = gpu.memory_bandwidth_bytes_per_s * efficiency["memory_efficiency"]
    p[KV_RATE] = gpu.memory_bandwidth_bytes_per_s * efficiency["kv_efficiency"]
    share = efficiency.get("expert_memory_efficiency", efficiency["memory_efficiency"])
    p[EXPERT_MEMORY_RATE] = gpu.memory_bandwidth_bytes_per_s * share
    p[N_SIZES], p[SIZES:] = len(sizes), sizes
    return p


def build(config: RooflineStepTime, model: ModelSpec, gpu: GpuSpec, settings: EngineSettings) -> StepTime:
    """For the compiled loop; what ``config`` leaves open is taken from data/roofline.csv."""
    filled = dict(constants("roofline"))
    own = {k: v for k, v in config.model_dump(exclude={"kind"}).items() if v is not None}
    params = roofline_params(model, gpu, settings, filled | own)
    source = "datasheet roofline, efficiencies of data/roofline.csv"
    if own:
        source += f"; the scenario sets {', '.join(own)}"
    return StepTime("roofline", ROOFLINE, params, (filled | own)["host_s"], "roofline", source)
