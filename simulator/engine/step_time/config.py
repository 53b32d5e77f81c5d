"""How long the GPU works on one batch: constant, affine in the batch, piecewise, tables of kernels, or a roofline.

Models are chosen inside the compiled loop by an integer and a parameter array. Times in seconds.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog import GpuSpec, ModelSpec, constants
from simulator.catalog.profile import Trust
from simulator.engine.capacity import kv_bytes_per_token
from simulator.engine.compiled import compiled
from simulator.engine.config import EngineSettings
from simulator.engine.kernels import KernelStepTime, kernel_params, kernel_seconds
from simulator.engine.model_memory import rank_weights, weight_bytes_each
from simulator.engine.piecewise import PiecewiseStepTime, piecewise_params, piecewise_seconds
from simulator.engine.roofline import roofline_params, roofline_seconds

CONSTANT, AFFINE, ROOFLINE, PIECEWISE, KERNELS = range(5)


@compiled
def gpu_seconds(
    code,
    p,
    tokens,
    prefill_tokens,
    prefill_seqs,
    prefill_pairs,
    prefill_kv,
    decode_seqs,
    decode_kv,
    sampled,
    least=0,
    most=0,
):
    """GPU time of one batch [s].

    tokens: all tokens of the batch; prefill_tokens: of sequences in prefill; prefill_pairs: query-key pairs of the
    chunks, the sum of n (start + (n + 1) / 2); prefill_kv: the sum of start + n; decode_kv: KV tokens that the
    decoding sequences read; sampled: sequences that emit a token; least, most: shortest and longest context of the
    decoding sequences, known to tables of kernels only (else 0).
    """
    if code == CONSTANT:
        return p[0]
    if code == AFFINE:
        seconds = ((p[0] + p[1] * prefill_tokens) + p[2] * decode_seqs) + p[3] * decode_kv
        return seconds + p[4] * prefill_pairs + p[5] * prefill_seqs
    if code == PIECEWISE:
        return piecewise_seconds(p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv)
    if code == KERNELS:
        return kernel_seconds(
            p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv, sampled, least, most
        )
    return roofline_seconds(
        p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, prefill_kv, decode_seqs, decode_kv, sampled
    )


class _StepTime(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ConstantStepTime(_StepTime):
    """Every batch takes as long. A textbook server, with ``max_num_seqs: 1``."""

    kind: Literal["constant"] = "constant"
    seconds: float = Field(gt=0, description="[s]")
    host_s: float = Field(default=0.0, ge=0, description="host time before each batch [s]")


class AffineStepTime(_StepTime):
    """A sum of terms, each a coefficient times a count of the batch."""

    kind: Literal["affine"] = "affine"
    base_s: float = Field(gt=0, description="of every batch [s]")
    prefill_token_s: float = Field(ge=0, description="per prefill token [s]")
    decode_seq_s: float = Field(ge=0, description="per decoding sequence [s]")
    decode_kv_s: float = Field(ge=0, description="per KV token that decoding sequences read [s]")
    prefill_pair_s: float = Field(default=0.0, ge=0, description="per query-key pair of prefill chunks [s]")
    prefill_seq_s: float = Field(default=0.0, ge=0, description="per sequence in prefill [s]")
    host_s: float = Field(default=0.0, ge=0, description="host time before each batch [s]")


class RooflineStepTime(_StepTime):
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


GivenStepTime = Annotated[
    ConstantStepTime | AffineStepTime | PiecewiseStepTime | KernelStepTime | RooflineStepTime,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class StepTime:
    """A step-time model ready for the compiled loop."""

    kind: str
    code: int
    params: np.ndarray
    host_s: float
    trust: Trust
    source: str
    notes: tuple[str, ...] = ()


def build_step_time(config: GivenStepTime, model: ModelSpec, gpu: GpuSpec, settings: EngineSettings) -> StepTime:
    """The model that ``config`` describes, with its trust level and source."""
    if isinstance(config, ConstantStepTime):
        return StepTime("constant", CONSTANT, np.array([config.seconds]), config.host_s, "user", "the scenario")
    if isinstance(config, AffineStepTime):
        c = config
        params = np.array(
            [c.base_s, c.prefill_token_s, c.decode_seq_s, c.decode_kv_s, c.prefill_pair_s, c.prefill_seq_s]
        )
        return StepTime("affine", AFFINE, params, c.host_s, "user", "the scenario")
    if isinstance(config, PiecewiseStepTime):
        params = piecewise_params(config, settings.capture_sizes)
        return StepTime("piecewise", PIECEWISE, params, config.host_s, "user", "the scenario")
    if isinstance(config, KernelStepTime):
        params = kernel_params(config, settings.capture_sizes)
        return StepTime("kernels", KERNELS, params, config.host_s, "user", "the scenario")
    filled = dict(constants("roofline"))
    own = {k: v for k, v in config.model_dump(exclude={"kind"}).items() if v is not None}
    params = roofline_params(model, gpu, settings, filled | own)
    source = "datasheet roofline, efficiencies of data/roofline.csv"
    if own:
        source += f"; the scenario sets {', '.join(own)}"
    return StepTime("roofline", ROOFLINE, params, (filled | own)["host_s"], "roofline", source)


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
