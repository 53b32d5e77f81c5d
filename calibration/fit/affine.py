"""Coefficients of `simulator.engine.step_time.affine` from measured batches."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibration.fit.design import COLUMN, Design, Fit, fit_design, identify
from simulator.engine.step_time.affine import AffineStepTime

AFFINE = ("base_s", "prefill_token_s", "decode_seq_s", "decode_kv_s")
AFFINE_ALL = (*AFFINE, "prefill_pair_s", "prefill_seq_s")


def affine_design(parameters: Sequence[str]) -> Design:
    """The affine model with these of its parameters; the others are 0."""
    names = tuple(parameters)

    def columns(frame: pd.DataFrame) -> np.ndarray:
        parts = [np.ones(len(frame)) if n == "base_s" else frame[COLUMN[n]].to_numpy(float) for n in names]
        return np.column_stack(parts)

    def config(c: np.ndarray, host_s: float) -> AffineStepTime:
        return AffineStepTime.model_validate(
            {n: 0.0 for n in AFFINE} | dict(zip(names, map(float, c), strict=True)) | {"host_s": host_s}
        )

    return Design(f"affine, {len(names)} parameters", names, columns, config)


def fit_affine(frame: pd.DataFrame, host_s: float = 0.0, parameters: Sequence[str] = AFFINE) -> Fit:
    """Coefficients [s] of `AffineStepTime`, with `frame` as `clean` gives it. Raises ServelabError as `identify`."""
    identify(frame, parameters)
    return fit_design(frame, affine_design(parameters), host_s)
