"""Knots and coefficients of `simulator.engine.step_time.piecewise` from measured batches."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from calibration.fit.design import COLUMN, Design, Fit, fit_design
from simulator.engine.step_time.piecewise import PiecewiseStepTime
from simulator.errors import ServelabError


def piecewise_design(knots: Sequence[float], capture_sizes: Sequence[int] = ()) -> Design:
    """Straight lines between ``knots`` [token] of the padded batch, rising, and terms for attention and sequences."""
    knots = tuple(map(float, knots))
    terms = ("decode_kv_s", "decode_seq_s", "prefill_pair_s", "prefill_seq_s")
    sizes = np.array(capture_sizes, float)

    def columns(frame: pd.DataFrame) -> np.ndarray:
        tokens = (frame["prefill_tokens"] + frame["decode_seqs"]).to_numpy(float)
        if len(sizes):
            at = np.searchsorted(sizes, tokens).clip(0, len(sizes) - 1)
            tokens = np.where(tokens <= sizes[-1], sizes[at], tokens)
        rise = [np.ones(len(frame))]
        for low, high in pairwise(knots):
            last = high == knots[-1]
            rise.append(((tokens if last else tokens.clip(max=high)) - low).clip(min=0) / (high - low))
        return np.column_stack(rise + [frame[COLUMN[t]].to_numpy(float) for t in terms])

    def config(c: np.ndarray, host_s: float) -> PiecewiseStepTime:
        seconds = np.cumsum(c[: len(knots)])
        return PiecewiseStepTime.model_validate(
            {"tokens": knots, "seconds": tuple(map(float, seconds)), "host_s": host_s}
            | dict(zip(terms, map(float, c[len(knots) :]), strict=True))
        )

    names = (f"seconds[{knots[0]:.0f}]", *(f"rise[{k:.0f}]" for k in knots[1:]), *terms)
    return Design(f"piecewise, {len(names)} parameters", names, columns, config)


def fit_piecewise(frame: pd.DataFrame, host_s: float = 0.0, capture_sizes: Sequence[int] = ()) -> Fit:
    """Coefficients [s] of `PiecewiseStepTime`: knots at captured sizes that were measured, else at powers of two."""
    tokens = (frame["prefill_tokens"] + frame["decode_seqs"]).to_numpy()
    sizes = [s for s in capture_sizes if s <= tokens.max()]
    wanted = sizes[:: max(1, len(sizes) // 8)] if sizes else []
    top = int(tokens.max())
    wanted = sorted({1, *wanted, *(2**i for i in range(2, 20, 2) if 2**i < 0.8 * top), top})
    knots = [
        k for i, k in enumerate(wanted) if i == 0 or np.count_nonzero((tokens > wanted[i - 1]) & (tokens <= k)) >= 5
    ]
    if len(knots) < 2:
        raise ServelabError(
            f"a piecewise fit needs batches of different sizes, all have {tokens.min()} to {top} tokens"
        )
    return fit_design(frame, piecewise_design(knots, capture_sizes), host_s)
