"""Every model that measured batches can tell, the one that is chosen, and whether the hardware could be so fast."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from calibration.fit.affine import AFFINE_ALL, fit_affine
from calibration.fit.design import Fit, clean
from calibration.fit.piecewise import fit_piecewise
from simulator.catalog import GpuSpec, ModelSpec
from simulator.errors import ServelabError


def choose(fits: Sequence[Fit]) -> Fit:
    """The fit with the fewest parameters among those within one standard error of the best held-out score."""
    best = min(fits, key=lambda f: f.score)
    near = [f for f in fits if f.score <= best.score + best.score_se]
    return min(near, key=lambda f: (len(f.coefficients), f.score))


def fit_all(steps: pd.DataFrame, capture_sizes: Sequence[int] = ()) -> tuple[Fit, list[Fit]]:
    """The chosen fit and all candidates. Host time between batches is the median of what was measured."""
    frame = clean(steps)
    host = frame["host_s"].dropna()
    host_s = float(host.median()) if len(host) else 0.0
    fits = [
        fit_affine(frame, host_s),
        fit_affine(frame, host_s, AFFINE_ALL),
        fit_piecewise(frame, host_s, capture_sizes),
    ]
    return choose(fits), fits


def check_physics(config: Any, model: ModelSpec, gpu: GpuSpec, flops_per_token: float, kv_bytes: float) -> None:
    """Raise ServelabError where a coefficient is faster than the hardware.

    flops_per_token: of one token in all layers [FLOP]; kv_bytes: of one token in the KV cache [B], all ranks.
    """
    token_s = getattr(config, "prefill_token_s", None)
    if token_s and flops_per_token / token_s > 1.05 * gpu.bf16_flops:
        raise ServelabError(
            f"prefill_token_s = {token_s:.3g} s means {flops_per_token / token_s:.3g} FLOP/s for {model.name}, "
            f"{gpu.name} has {gpu.bf16_flops:.3g}: something else than prefill was measured"
        )
    kv_s = getattr(config, "decode_kv_s", None)
    if kv_s and kv_bytes / kv_s > 1.05 * gpu.memory_bandwidth_bytes_per_s:
        raise ServelabError(
            f"decode_kv_s = {kv_s:.3g} s means {kv_bytes / kv_s:.3g} B/s, {gpu.name} has "
            f"{gpu.memory_bandwidth_bytes_per_s:.3g}: the KV cache was not read"
        )
