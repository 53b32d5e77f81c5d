"""Bytes of a model's weights and of one batch's activations on a rank of a tensor and pipeline parallel group."""

from typing import NamedTuple

from simulator.catalog import ModelSpec, constants
from simulator.errors import ServelabError, nearest

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4, "auto": 2}
INT4 = ("awq", "awq_marlin", "gptq", "gptq_marlin")
QUANTIZATIONS = ("none", "fp8", "mxfp4", *INT4)


def pipeline_layers(layers: int, stages: int) -> tuple[range, ...]:
    """Layers of every pipeline stage, as vLLM's ``get_pp_indices`` splits them.

    >>> [len(stage) for stage in pipeline_layers(30, 4)]
    [7, 8, 8, 7]
    """
    sizes = [layers // stages] * stages
    for i in range(2, layers % stages + 2):
        sizes[-i] += 1
    ends = [sum(sizes[: i + 1]) for i in range(stages)]
    return tuple(range(end - size, end) for size, end in zip(sizes, ends, strict=True))


def moe_layers(model: ModelSpec, layers: range) -> int:
    """MoE layers among ``layers``."""
    if not model.experts:
        return 0
    first, step = model.first_dense_layers, model.moe_layer_step
    return sum(i >= first and (i - first) % step == step - 1 for i in layers)


def dtype_bytes(dtype: str) -> int:
    if dtype not in DTYPE_BYTES:
        raise ServelabError(
            f"engine.dtype={dtype!r} is not one of {', '.join(DTYPE_BYTES)}{nearest(dtype, DTYPE_BYTES)}"
        )
    return DTYPE_BYTES[dtype]


class WeightBits(NamedTuple):
    """Bytes of one weight, by kind [B]."""

    linear: float
    expert: float
    other: float  # embeddings, output head, router, norms


def weight_bytes_each(quantization: str, dtype: str) -> WeightBits:
    """Bytes of one weight. Embeddings, output head, router and norms stay in ``dtype``."""
    c, plain = constants("memory_constants"), dtype_bytes(dtype)
    if quantization == "none":
        return WeightBits(plain, plain, plain)
    if quantization == "fp8":
        return WeightBits(c["fp8_bytes"], c["fp8_bytes"], plain)
    if quantization in INT4:
        return WeightBits(c["int4_bytes"], c["int4_bytes"], plain)
    if quantization == "mxfp4":  # gpt-oss: only the experts
        return WeightBits(plain, c["mxfp4_bytes"], plain)
    raise ServelabError(
        f"engine.quantization={quantization!r} is not one of {', '.join(QUANTIZATIONS)}"
        f"{nearest(quantization, QUANTIZATIONS)}"
    )


class RankWeights(NamedTuple):
    """Parameters on one tensor-parallel rank, of a range of layers. Counts, not bytes."""

    attention: float
    mlp: float  # dense layers and shared experts
    experts: float
    other: float  # router, norms
    embedding: float
    head: float


def rank_weights(model: ModelSpec, tensor_parallel_size: int, layers: range, first: bool, last: bool) -> RankWeights:
    """Parameters of ``layers`` on one of ``tensor_parallel_size`` ranks; KV heads and MLA latents replicated."""
    tp, p = tensor_parallel_size, model.per_layer
    if model.mla:
        down = model.hidden_size * (model.q_lora_rank + model.kv_lora_rank + model.qk_rope_head_dim)
        attention = down + (p.attention - down) / tp
    else:
        kv = 2 * model.hidden_size * model.kv_heads * model.head_dim
        attention = (p.attention - kv) / tp + kv / min(tp, model.kv_heads)
    moe = moe_layers(model, layers)
    table = model.embedding_parameters / tp
    return RankWeights(
        attention=len(layers) * attention,
        mlp=((len(layers) - moe) * p.dense_mlp + moe * p.shared) / tp,
        experts=moe * model.experts * p.expert / tp,
        other=len(layers) * p.norms + moe * p.router + model.hidden_size,
        embedding=table if first or (last and model.tie_word_embeddings) else 0,
        head=table if last and not (first and model.tie_word_embeddings) else 0,
    )


def weight_bytes(w: RankWeights, model: ModelSpec, quantization: str, dtype: str) -> int:
    """Memory of the weights ``w`` [B], the rotary table included."""
    c, each = constants("memory_constants"), weight_bytes_each(quantization, dtype)
    padding = 1.0
    if quantization == "mxfp4" and model.moe_intermediate_size:
        step, width = int(c["mxfp4_padding"]), model.moe_intermediate_size
        padding = -(-width // step) * step / width
    total = (w.attention + w.mlp) * each.linear + w.experts * padding * each.expert
    # a tied table serves as both embedding and head, once
    head = 0 if model.tie_word_embeddings and w.embedding else w.head
    total += (w.other + w.embedding + head) * each.other
    rope = model.max_position_embeddings * (model.qk_rope_head_dim or model.head_dim)
    return int(total + rope * c["rope_bytes_per_element"])


def activation_bytes(
    model: ModelSpec, tensor_parallel_size: int, tokens: int, seqs: int, dtype: str, last: bool
) -> int:
    """Peak transient memory of vLLM's profiling run: the larger of forward pass and sampler [B].

    The forward pass of ``tokens`` holds hidden states and residual beside the widest part of a layer; the sampler
    (on the ``last`` stage) holds the logits of ``seqs`` sequences.
    """
    c, tp, h = constants("memory_constants"), tensor_parallel_size, model.hidden_size
    heads = model.attention_heads
    wide = max(
        (2 * heads * model.qk_head_dim + model.kv_elements_per_token_layer()) / tp,
        3 * model.intermediate_size / tp,
        model.experts_per_token * (3 * model.moe_intermediate_size / tp + h) if model.experts else 0,
    )
    forward = tokens * (3 * h + wide) * dtype_bytes(dtype)
    if not last:
        return int(forward)
    rows = min(seqs, tokens)
    sampler = rows * c["sampler_bytes_per_logit"] + min(c["sampler_buffer_rows"], rows) * 4
    return int(max(forward, sampler * model.vocab_size))
