"""The kinds of step-time models: ``step_time:`` of a scenario, and the one function that the compiled loop calls.

A model is chosen there by an integer and a parameter array. Times in seconds.
"""

from typing import Annotated

from pydantic import Field

from simulator.catalog import GpuSpec, ModelSpec
from simulator.engine.compiled import compiled
from simulator.engine.config import EngineSettings
from simulator.engine.step_time import affine, constant, kernels, piecewise, roofline
from simulator.engine.step_time.affine import AffineStepTime, affine_seconds
from simulator.engine.step_time.base import AFFINE, CONSTANT, KERNELS, PIECEWISE, StepTime
from simulator.engine.step_time.constant import ConstantStepTime
from simulator.engine.step_time.kernels import KernelStepTime, kernel_seconds
from simulator.engine.step_time.piecewise import PiecewiseStepTime, piecewise_seconds
from simulator.engine.step_time.roofline import RooflineStepTime, roofline_seconds


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
        return affine_seconds(p, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv)
    if code == PIECEWISE:
        return piecewise_seconds(p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv)
    if code == KERNELS:
        return kernel_seconds(
            p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv, sampled, least, most
        )
    return roofline_seconds(
        p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, prefill_kv, decode_seqs, decode_kv, sampled
    )


GivenStepTime = Annotated[
    ConstantStepTime | AffineStepTime | PiecewiseStepTime | KernelStepTime | RooflineStepTime,
    Field(discriminator="kind"),
]


def build_step_time(config: GivenStepTime, model: ModelSpec, gpu: GpuSpec, settings: EngineSettings) -> StepTime:
    """The model that ``config`` describes, with its trust level and source."""
    if isinstance(config, ConstantStepTime):
        return constant.build(config)
    if isinstance(config, AffineStepTime):
        return affine.build(config)
    if isinstance(config, PiecewiseStepTime):
        return piecewise.build(config, settings.capture_sizes)
    if isinstance(config, KernelStepTime):
        return kernels.build(config, settings.capture_sizes)
    return roofline.build(config, model, gpu, settings)
