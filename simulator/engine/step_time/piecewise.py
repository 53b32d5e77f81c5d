"""When step time bends with the tokens of a batch: straight lines between measured points, batches padded to captured
CUDA graphs; `calibration.fit.piecewise.fit_piecewise` finds them.

``seconds = f(padded tokens) + decode_kv_s * KV read + decode_seq_s * decoding sequences + prefill_pair_s * query-key
pairs + prefill_seq_s * sequences in prefill``, f linear between ``tokens`` and straight on after the last.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from simulator.engine.compiled import compiled
from simulator.engine.step_time.base import PIECEWISE, StepTime, StepTimeConfig
from simulator.engine.step_time.interpolate import below, line

DECODE_KV_S, DECODE_SEQ_S, PREFILL_PAIR_S, PREFILL_SEQ_S, N_SIZES, N_KNOTS, SIZES = range(7)


@compiled
def piecewise_seconds(p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv):
    """GPU time of one batch [s]; the arguments of `config.gpu_seconds`."""
    if tokens <= 0:
        return 0.0
    rows, n = float(tokens), int(p[N_SIZES])
    if n > 0 and tokens <= p[SIZES + n - 1]:
        i = below(p, SIZES, n, rows) if n > 1 else 0
        rows = p[SIZES + (i if p[SIZES + i] >= rows else i + 1)]
    seconds = line(p, SIZES + n, int(p[N_KNOTS]), rows)
    seconds += p[DECODE_KV_S] * decode_kv + p[DECODE_SEQ_S] * decode_seqs
    return max(seconds + p[PREFILL_PAIR_S] * prefill_pairs + p[PREFILL_SEQ_S] * prefill_seqs, 0.0)


class PiecewiseStepTime(StepTimeConfig):
    """Straight lines by tokens of the padded batch, and terms for attention and sequences."""

    kind: Literal["piecewise"] = "piecewise"
    tokens: tuple[float, ...] = Field(min_length=2, description="tokens of a batch, padding included, rising")
    seconds: tuple[float, ...] = Field(description="time at each [s], not falling")
    decode_kv_s: float = Field(ge=0, description="per KV token that decoding sequences read [s]")
    decode_seq_s: float = Field(default=0.0, ge=0, description="per decoding sequence [s]")
    prefill_pair_s: float = Field(default=0.0, ge=0, description="per query-key pair of prefill chunks [s]")
    prefill_seq_s: float = Field(default=0.0, ge=0, description="per sequence in prefill [s]")
    host_s: float = Field(default=0.0, ge=0, description="host time before each batch [s]")

    @model_validator(mode="after")
    def _shapes(self) -> "PiecewiseStepTime":
        if len(self.tokens) != len(self.seconds):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.seconds)} seconds")
        if (np.diff(self.tokens) <= 0).any() or (np.diff(self.seconds) < 0).any() or self.seconds[0] < 0:
            raise ValueError("tokens must rise, seconds must not fall or be below 0")
        return self


def piecewise_params(config: PiecewiseStepTime, capture_sizes: Sequence[int]) -> np.ndarray:
    """Parameter array of `piecewise_seconds`."""
    c = config
    head = [c.decode_kv_s, c.decode_seq_s, c.prefill_pair_s, c.prefill_seq_s, len(capture_sizes), len(c.tokens)]
    return np.array([*head, *capture_sizes, *c.tokens, *c.seconds], float)


def build(config: PiecewiseStepTime, capture_sizes: Sequence[int]) -> StepTime:
    """For the compiled loop."""
    return StepTime(
        "piecewise", PIECEWISE, piecewise_params(config, capture_sizes), config.host_s, "user", "the scenario"
    )
