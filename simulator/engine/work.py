"""Arithmetic and memory traffic of a replica: what MFU and MBU are made of."""

from typing import NamedTuple

from simulator.catalog import ModelSpec
from simulator.engine.capacity import kv_bytes_per_token
from simulator.engine.config import EngineSettings
from simulator.engine.model_memory import rank_weights, weight_bytes_each


class Work(NamedTuple):
    """Arithmetic and memory traffic of a replica, all its GPUs together: a sum over a run is

    ``flops_per_token * tokens + flops_per_pair * (prefill_pairs + decode_kv) + flops_per_sample * sampled`` and
    ``weight_bytes_per_step * steps + kv_bytes_per_token * (prefill_kv + decode_kv)``.
    """

    flops_per_token: float
    flops_per_pair: float
    weight_bytes_per_step: float  # every expert of an MoE model; `weight_bytes` takes those that a batch loads
    kv_bytes_per_token: float
    flops_per_sample: float  # of the output head
    expert_bytes: float = 0.0  # of all experts, part of weight_bytes_per_step
    idle_experts: float = 0.0  # share of experts that one token leaves out


def weight_bytes(w: Work, tokens: float) -> float:
    """Weights moved in a step of ``tokens``: of experts under uniform routing 1 - (1 - k / E)^tokens.

    >>> weight_bytes(Work(0, 0, 100.0, 0, 0, 80.0, 0.5), 2)
    80.0
    """
    return w.weight_bytes_per_step - w.expert_bytes * w.idle_experts**tokens


def work(model: ModelSpec, settings: EngineSettings) -> Work:
    """Model FLOP and bytes, for MFU and MBU. Padding and recomputation are no useful work and not counted."""
    tp, p = settings.tensor_parallel_size, model.per_layer
    each = weight_bytes_each(settings.quantization, settings.dtype)
    w = rank_weights(model, tp, range(model.layers), True, True)
    dense = model.layers - model.moe_layers
    matrices = model.layers * p.attention + dense * p.dense_mlp
    matrices += model.moe_layers * (p.shared + p.router + model.experts_per_token * p.expert)
    width = model.qk_head_dim + (model.v_head_dim or model.head_dim)
    linear = (w.attention + w.mlp) * each.linear + w.experts * each.expert + w.other * each.other
    head = model.embedding_parameters
    return Work(
        flops_per_token=2.0 * matrices,
        flops_per_pair=2.0 * model.layers * model.attention_heads * width,
        weight_bytes_per_step=tp * linear + head * each.other,
        kv_bytes_per_token=tp * kv_bytes_per_token(model, settings),
        flops_per_sample=2.0 * head,
        expert_bytes=tp * w.experts * each.expert if model.moe_layers else 0.0,
        idle_experts=1 - model.experts_per_token / model.experts if model.moe_layers else 0.0,
    )
