"""When you have measured an engine and batches stay small: a sum of coefficients times what a batch holds;
`calibration.fit.affine.fit_affine` finds them."""

from typing import Literal

import numpy as np
from pydantic import Field

from simulator.engine.compiled import compiled
from simulator.engine.step_time.base import AFFINE, StepTime, StepTimeConfig


@compiled
def affine_seconds(p, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv):
    """GPU time of one batch [s]; the arguments of `config.gpu_seconds`."""
    seconds = ((p[0] + p[1] * prefill_tokens) + p[2] * decode_seqs) + p[3] * decode_kv
    return seconds + p[4] * prefill_pairs + p[5] * prefill_seqs


class AffineStepTime(StepTimeConfig):
    """A sum of terms, each a coefficient times a count of the batch."""

    kind: Literal["affine"] = "affine"
    base_s: float = Field(gt=0, description="of every batch [s]")
    prefill_token_s: float = Field(ge=0, description="per prefill token [s]")
    decode_seq_s: float = Field(ge=0, description="per decoding sequence [s]")
    decode_kv_s: float = Field(ge=0, description="per KV token that decoding sequences read [s]")
    prefill_pair_s: float = Field(default=0.0, ge=0, description="per query-key pair of prefill chunks [s]")
    prefill_seq_s: float = Field(default=0.0, ge=0, description="per sequence in prefill [s]")
    host_s: float = Field(default=0.0, ge=0, description="host time before each batch [s]")


def build(config: AffineStepTime) -> StepTime:
    """For the compiled loop."""
    c = config
    params = np.array([c.base_s, c.prefill_token_s, c.decode_seq_s, c.decode_kv_s, c.prefill_pair_s, c.prefill_seq_s])
    return StepTime("affine", AFFINE, params, c.host_s, "user", "the scenario")
