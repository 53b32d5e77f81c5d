"""Roofline efficiencies from closed-loop runs: a robust least-squares fit of relative errors, and its hold-outs.

Residuals are the logarithms of predicted over measured median inter-token latency and mean step. A weak prior holds
efficiencies that the rows hardly tell near the usual. The asynchronous scheduler of the source hides host time behind
the GPU, so no ``host_s`` is fitted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import least_squares

from calibration.measure.steady_rows import SteadyRow, joining_tokens, predict
from simulator.catalog import constants
from simulator.engine.step_time.base import ROOFLINE
from simulator.engine.step_time.roofline import RooflineStepTime, roofline_params
from simulator.errors import ServelabError

DENSE = ("compute_efficiency", "memory_efficiency", "kv_efficiency", "layer_s", "seq_async_s", "mixed_layer_s")
EXPERTS = ("expert_memory_efficiency", "moe_layer_s", "expert_imbalance", "fp8_layer_s")
START = {
    "compute_efficiency": 0.75,
    "memory_efficiency": 0.82,
    "kv_efficiency": 0.75,
    "expert_efficiency": 0.4,
    "expert_memory_efficiency": 0.6,
    "expert_imbalance": 1.0,
    "mixed_layer_s": 3e-5,
    "layer_s": 1e-5,
    "seq_async_s": 2e-5,
    "moe_layer_s": 3e-5,
    "fp8_layer_s": 2e-5,
    "all_reduce_s": 1.2e-5,
    "attention_efficiency": 0.5,
    "link_efficiency": 0.6,
}
PRIOR = 0.1  # standard deviation of ln(efficiency) around START, which is about what data/roofline.csv holds
NOISE = 0.05  # relative error of a row against which the prior is weighed
LOSS_SCALE = 0.05  # relative error above which a residual counts linearly
FLAT = 1e-6  # singular value of the scaled Jacobian, over the largest, below which a combination is unknown


@dataclass(frozen=True)
class RooflineFit:
    """Fitted fields of `RooflineStepTime`, their covariance, and relative errors (n, 2) on the fitted rows."""

    values: dict[str, float]
    covariance: np.ndarray  # in the order of ``values``
    errors: np.ndarray
    base: dict[str, float]

    @property
    def every(self) -> dict[str, float]:
        """Fitted values and those held fixed."""
        return self.base | self.values

    def step_time(self) -> RooflineStepTime:
        return RooflineStepTime.model_validate(self.every)


@lru_cache(maxsize=4096)
def _joining(rate: float) -> np.ndarray:
    return joining_tokens(rate)


def log_ratios(rows: Sequence[SteadyRow], values: dict[str, float]) -> np.ndarray:
    """ln(predicted / measured) of median inter-token latency and mean step, one row each."""
    filled = dict(constants("roofline")) | values
    found = np.empty((len(rows), 2))
    for i, row in enumerate(rows):
        params = roofline_params(row.model, row.gpu, row.settings, filled)
        times = predict(row, ROOFLINE, params, 0.0, _joining(row.batch / row.output_tokens))
        found[i] = np.log(times / (row.itl_s, row.batch / row.throughput))
    return found


def relative_errors(rows: Sequence[SteadyRow], values: dict[str, float]) -> np.ndarray:
    """Predicted over measured less one, of median inter-token latency and of output tokens/s."""
    ratios = log_ratios(rows, values)
    return np.column_stack([np.expm1(ratios[:, 0]), np.expm1(-ratios[:, 1])])


def applicable(rows: Sequence[SteadyRow]) -> tuple[str, ...]:
    """Parameters that rows of this kind can tell: of MoE models only `EXPERTS`, beside those of a dense fit."""
    if any(row.model.experts for row in rows):
        return EXPERTS
    names = list(DENSE)
    ranks = {row.settings.tensor_parallel_size for row in rows}
    if max(ranks) > 1:
        names.append("all_reduce_s")
    if any(row.settings.quantization == "fp8" for row in rows):
        names.append("fp8_layer_s")
    return tuple(names)


def fit_roofline(
    rows: Sequence[SteadyRow],
    parameters: Sequence[str] | None = None,
    base: dict[str, float] | None = None,
    prior: float = PRIOR,
) -> RooflineFit:
    """Efficiencies and times that make `RooflineStepTime` match ``rows``.

    ``base`` holds values of parameters that are not fitted, such as those of a dense fit when the rows are of MoE
    models; the rest stays at data/roofline.csv. ``prior`` is the standard deviation of ln(efficiency).

    Raises ServelabError naming a parameter that the rows cannot tell, or that leaves its physical bounds.
    """
    if not rows:
        raise ServelabError("roofline fit: no rows")
    names = tuple(parameters or applicable(rows))
    unknown = [name for name in names if name not in START]
    if unknown:
        raise ServelabError(f"roofline fit: {unknown[0]!r} is not one of {', '.join(START)}")
    if 2 * len(rows) <= len(names):
        raise ServelabError(f"roofline fit: {len(rows)} rows cannot tell {len(names)} parameters")
    start = np.array([START[name] for name in names])
    residuals = lambda x: log_ratios(rows, (base or {}) | dict(zip(names, x * start, strict=True))).ravel()
    _check_known(names, _jacobian(residuals, np.ones(len(names))))
    weighed = np.array([NOISE / prior if name.endswith("efficiency") else 0.0 for name in names])
    with_prior = lambda x: np.concatenate([residuals(x), weighed * np.log(np.maximum(x, 1e-9))])
    lower = np.array([0.02 if n.endswith("y") else 0.0 for n in names])
    solved = least_squares(
        with_prior,
        np.ones(len(names)),
        bounds=(lower / start, np.inf),
        loss="soft_l1",
        f_scale=LOSS_SCALE,
        x_scale=1.0,
        diff_step=1e-3,
        max_nfev=60,
        ftol=1e-5,
        xtol=1e-5,
    )
    found = solved.x * start
    for name, value in zip(names, found, strict=True):
        if name.endswith("efficiency") and value > 1:
            raise ServelabError(f"roofline fit: {name}={value:.3g} is above 1, beyond what the hardware can do")
    jacobian = _jacobian(with_prior, solved.x)
    spread = 1.4826 * np.median(np.abs(residuals(solved.x)))
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    covariance = spread**2 * inverse * np.outer(start, start)
    values = {name: float(value) for name, value in zip(names, found, strict=True)}
    return RooflineFit(values, covariance, relative_errors(rows, (base or {}) | values), base or {})


def _jacobian(residuals: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    step, at = 1e-3, residuals(x)
    return np.column_stack([(residuals(x + step * unit) - at) / step for unit in np.eye(len(x))])


def _check_known(names: Sequence[str], jacobian: np.ndarray) -> None:
    """Raises ServelabError naming the parameters of a combination that no row depends on."""
    _, sizes, right = np.linalg.svd(jacobian, full_matrices=False)
    flat = sizes < FLAT * sizes[0]
    if flat.any():
        vector = np.abs(right[flat]).max(axis=0)
        blind = [name for name, part in zip(names, vector, strict=True) if part > 0.1]
        raise ServelabError(
            f"roofline fit: {', '.join(blind)} cannot be known from these rows: vary batch size, model or GPUs"
        )


def leave_one_model_out(
    rows: Sequence[SteadyRow], fit: Callable[[Sequence[SteadyRow]], RooflineFit] = fit_roofline
) -> dict[str, np.ndarray]:
    """Relative errors (n, 2) of each architecture, all its sizes and precisions unseen, by its name."""
    errors = {}
    for group in sorted({row.group for row in rows}):
        values = fit([row for row in rows if row.group != group]).every
        errors[group] = relative_errors([row for row in rows if row.group == group], values)
    return errors


def leave_largest_third_out(
    rows: Sequence[SteadyRow], fit: Callable[[Sequence[SteadyRow]], RooflineFit] = fit_roofline
) -> dict[str, np.ndarray]:
    """Relative errors (n, 2) of the largest third of the batch sizes of each series, fitted on the others."""
    seen, unseen = [], []
    for series in sorted({row.series for row in rows}):
        ordered = sorted((row for row in rows if row.series == series), key=lambda row: row.batch)
        cut = len(ordered) - -(-len(ordered) // 3)
        seen += ordered[:cut]
        unseen += ordered[cut:]
    values = fit(seen).every
    return {
        series: relative_errors([row for row in unseen if row.series == series], values)
        for series in sorted({row.series for row in unseen})
    }


def summary(errors: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of the absolute relative errors, by metric."""
    joined = np.abs(np.vstack(list(errors.values())))
    return {
        metric: {
            "median": float(np.median(joined[:, i])),
            "p90": float(np.quantile(joined[:, i], 0.9)),
            "rows": len(joined),
        }
        for i, metric in enumerate(("itl", "throughput"))
    }
