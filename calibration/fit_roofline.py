"""Efficiencies of the roofline from closed-loop runs that only say batch size, inter-token latency and tokens/s.

In such a run a request that ends is replaced at once, so a step holds Poisson many new prompts of mean batch / output length; the
mean step gives tokens/s, the median step the median inter-token latency. Prompt lengths were not published with the rows at hand:
`PROMPT_TOKENS` is assumed. Relative soft-l1 least squares over both figures; parameters stay within what hardware can do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import block_diag
from scipy.optimize import least_squares
from scipy.stats import poisson

from simulator.catalog import GpuSpec, ModelSpec, constants, find_gpu, find_model
from simulator.engine.config import EngineSettings, parse, resolve
from simulator.engine.roofline import roofline_params
from simulator.engine.step_time import ROOFLINE, RooflineStepTime, gpu_seconds
from simulator.errors import ServelabError
from simulator.metrics import rows_of

PROMPT_TOKENS = 120
CONTEXT_SHARE = 0.85  # of the mean output length: longer answers stay longer, so the mean context has more than half of it
LIMITS = {
    "memory_efficiency": (0.1, 1.0), "kv_efficiency": (0.05, 1.0), "compute_efficiency": (0.1, 1.0),
    "routing_spread": (0.05, 1.0), "fp8_layer_s": (0.0, 1e-3), "expert_efficiency": (0.02, 1.0), "expert_layer_s": (0.0, 1e-3),
    "seq_s": (0.0, 2e-4), "host_s": (0.0, 1e-2), "all_reduce_s": (0.0, 2e-4), "layer_s": (0.0, 1e-4),
}  # fmt: skip
DENSE = ("memory_efficiency", "seq_s", "host_s", "all_reduce_s")
FP8 = ("fp8_layer_s",)
EXPERTS = ("expert_layer_s", "routing_spread")
SOFT = 0.1


class Row(NamedTuple):
    """One run: ``itl_s`` the median inter-token latency [s], ``tokens_per_s`` output tokens of all requests."""

    series: str
    model: ModelSpec
    gpu: GpuSpec
    settings: EngineSettings
    batch: float
    output: float
    itl_s: float
    tokens_per_s: float


@dataclass(frozen=True)
class RooflineFit:
    """``values`` by name; ``covariance`` from the Jacobian, in the same order."""

    values: dict[str, float]
    covariance: np.ndarray

    def config(self) -> RooflineStepTime:
        """The step-time model with these parameters."""
        return RooflineStepTime.model_validate(self.values)


def read_rows(path: Path, gpu: str) -> tuple[list[Row], list[str]]:
    """Rows of ``gpu`` in ML.ENERGY's table, and why the others of that GPU are left out.

    Rows of one series (model, precision, GPUs) that contradict each other are screened: a larger batch whose tokens/s are below 85 %
    of a smaller one's, or whose median inter-token latency is below 90 % of a smaller one's; and rows whose
    latency times tokens/s differs from their batch by more than a third.
    """
    frame = pd.read_csv(path)
    frame = frame[frame["gpu_model"] == gpu].sort_values("avg_batch_size")
    keys = ["model_id", "weight_precision", "num_gpus"]
    kept: list[Row] = []
    said: list[str] = []
    for (name, precision, gpus), part in frame.groupby(keys):
        series = f"{name} {precision} x{gpus}"
        try:
            model = find_model(str(name))
        except ServelabError:
            said.append(f"{series}: {len(part)} rows, its architecture is not in the catalog")
            continue
        best_rate = best_itl = 0.0
        for r in rows_of(part):
            ratio = r.median_itl_ms * 1e-3 * r.output_throughput_tokens_per_sec / r.avg_batch_size
            wrong = ""
            if r.output_throughput_tokens_per_sec < 0.85 * best_rate:
                wrong = "tokens/s below 85 % of a smaller batch"
            elif r.median_itl_ms < 0.9 * best_itl:
                wrong = "inter-token latency below 90 % of a smaller batch"
            elif not 2 / 3 < ratio < 4 / 3:
                wrong = f"latency x tokens/s is {ratio:.2f} of the batch"
            if wrong:
                said.append(f"{series}, batch {r.avg_batch_size:.0f}: {wrong}")
                continue
            best_rate, best_itl = (
                max(best_rate, r.output_throughput_tokens_per_sec),
                max(best_itl, r.median_itl_ms),
            )
            seqs = int(r.max_num_seqs)
            flags: dict[str, Any] = {
                "version": "0.19", "async_scheduling": False, "tensor_parallel_size": int(str(gpus)), "max_num_seqs": seqs,
                "quantization": "fp8" if precision == "fp8" else "none", "max_num_batched_tokens": max(8192, seqs),
                "num_gpu_blocks_override": 10**7,
            }  # fmt: skip
            spec = find_gpu(gpu)
            kept.append(Row(series, model, spec, resolve(parse(flags), model, spec), r.avg_batch_size, r.avg_output_len,
                            r.median_itl_ms * 1e-3, r.output_throughput_tokens_per_sec))  # fmt: skip
    return kept, said


@lru_cache(4096)
def arrivals(per_step: float) -> tuple[tuple[float, ...], int]:
    """Probabilities of 0, 1, 2, ... new prompts in a step, and their median."""
    most = int(poisson.ppf(0.999, per_step)) + 1
    return tuple(map(float, poisson.pmf(np.arange(most + 1), per_step))), int(poisson.median(per_step))


def predict(values: dict[str, float], rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Median inter-token latency [s] and tokens/s of each row."""
    filled = dict(constants("roofline")) | values
    params: dict[str, np.ndarray] = {}
    itl, rate = [], []
    for r in rows:
        if r.series not in params:
            params[r.series] = roofline_params(r.model, r.gpu, r.settings, filled)
        p, n = params[r.series], round(r.batch)
        kv = int(r.batch * (PROMPT_TOKENS + CONTEXT_SHARE * r.output))
        per_step = r.batch / r.output

        def step(k: int, p: np.ndarray = p, n: int = n, kv: int = kv) -> float:
            tokens = k * PROMPT_TOKENS
            pairs = k * PROMPT_TOKENS * (PROMPT_TOKENS + 1) / 2
            return (
                gpu_seconds(ROOFLINE, p, n + tokens, tokens, k, pairs, tokens, n, kv, n + k)
                + filled["host_s"]
            )

        shares, middle = arrivals(per_step)
        mean = sum(share * step(k) for k, share in enumerate(shares))
        itl.append(step(middle))
        rate.append(r.batch / mean)
    return np.array(itl), np.array(rate)


def errors(values: dict[str, float], rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of inter-token latency and of tokens/s."""
    itl, rate = predict(values, rows)
    return itl / np.array([r.itl_s for r in rows]) - 1, rate / np.array([r.tokens_per_s for r in rows]) - 1


def fit_roofline(
    rows: Sequence[Row], names: Sequence[str], fixed: dict[str, float] | None = None
) -> RooflineFit:
    """Parameters ``names`` of `RooflineStepTime` from ``rows``; ``fixed`` are given.

    Raises ServelabError with fewer rows than parameters, batches all alike, or a parameter at the end of what is physical.
    """
    fixed = fixed or {}
    if len(rows) < len(names) + 1:
        raise ServelabError(f"{len(rows)} rows cannot tell {len(names)} parameters: {', '.join(names)}")
    batches = {round(r.batch) for r in rows}
    if len(batches) == 1 and "seq_s" in names:
        raise ServelabError(
            f"seq_s cannot be known: all rows have a batch of {batches.pop()}; measure others too"
        )
    low = np.array([LIMITS[n][0] for n in names])
    high = np.array([LIMITS[n][1] for n in names])
    defaults = constants("roofline")
    start = np.clip([defaults[n] for n in names], low + 0.01 * (high - low), high - 0.01 * (high - low))

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.log1p(np.concatenate(errors(fixed | dict(zip(names, x, strict=True)), rows)))

    found = least_squares(
        residuals, start, bounds=(low, high), x_scale=high - low, loss="soft_l1", f_scale=SOFT, diff_step=1e-3
    )
    for name, value, top in zip(names, found.x, high, strict=True):
        if name.endswith("efficiency") and value > 0.999 * top:
            raise ServelabError(
                f"{name} = {value:.3f}: the rows are faster than the data sheet of the GPU allows"
            )
    freedom = max(1, 2 * len(rows) - len(names))
    spread = np.linalg.pinv(found.jac.T @ found.jac) * (2 * found.cost / freedom)
    return RooflineFit(fixed | dict(zip(names, map(float, found.x), strict=True)), spread)


def fit_gpu(rows: Sequence[Row]) -> RooflineFit:
    """All parameters of one GPU, in three stages: those of dense models in 16 bit, of experts, and of fp8, each from the rows that hold them.

    A stage without rows keeps the defaults. Covariances of the stages are taken as independent.
    """
    stages = [
        (DENSE, [r for r in rows if not r.model.moe_layers and r.settings.quantization == "none"]),
        (EXPERTS, [r for r in rows if r.model.moe_layers and r.settings.quantization == "none"]),
        (FP8, [r for r in rows if r.settings.quantization == "fp8"]),
    ]
    values: dict[str, float] = {}
    blocks = []
    for names, mine in stages:
        if len(mine) > len(names):
            fit = fit_roofline(mine, names, values)
            values = fit.values
            blocks.append(fit.covariance)
    return RooflineFit(values, block_diag(*blocks))


def leave_model_out(
    rows: Sequence[Row], fit: Callable[[Sequence[Row]], RooflineFit] = fit_gpu
) -> list[tuple[Row, float, float]]:
    """Errors of each row by a fit that has seen no row of its model."""
    out = []
    for name in sorted({r.model.name for r in rows}):
        values = fit([r for r in rows if r.model.name != name]).values
        mine = [r for r in rows if r.model.name == name]
        out += list(zip(mine, *errors(values, mine), strict=True))
    return out


def leave_large_out(
    rows: Sequence[Row], fit: Callable[[Sequence[Row]], RooflineFit] = fit_gpu
) -> list[tuple[Row, float, float]]:
    """Errors of the third of each series with the largest batches by a fit that has not seen them."""
    kept: list[Row] = []
    left: list[Row] = []
    for series in sorted({r.series for r in rows}):
        mine = sorted((r for r in rows if r.series == series), key=lambda r: r.batch)
        cut = len(mine) - max(1, round(len(mine) / 3))
        kept += mine[:cut]
        left += mine[cut:]
    return list(zip(left, *errors(fit(kept).values, left), strict=True))
