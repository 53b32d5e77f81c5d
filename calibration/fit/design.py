"""Fits of step-time models to measured batches: relative, robust, non-negative, judged on batches left out.

``fit_affine`` and ``fit_piecewise`` return exactly the parameters of the models of the same name. Both models are
sums of non-negative coefficients times what a batch holds, so one solver serves: least squares of relative residuals
with a soft-l1 loss [1]_, then one factor that keeps the total time, since queues feel the mean and not the median.

.. [1] P. J. Huber, E. M. Ronchetti, "Robust Statistics", 2nd ed., 2009; scipy.optimize.least_squares, loss soft_l1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares, nnls

from simulator.catalog import GpuSpec, ModelSpec
from simulator.engine.piecewise import PiecewiseStepTime
from simulator.engine.step_time import AffineStepTime
from simulator.errors import ServelabError

SOFT = 0.3  # relative residual beyond which a batch counts less
BOOTSTRAP = 40
FOLDS = 5
LEAST_ROWS = 30
AFFINE = ("base_s", "prefill_token_s", "decode_seq_s", "decode_kv_s")
AFFINE_ALL = (*AFFINE, "prefill_pair_s", "prefill_seq_s")
COLUMN = {
    "prefill_token_s": "prefill_tokens",
    "decode_seq_s": "decode_seqs",
    "decode_kv_s": "decode_kv",
    "prefill_pair_s": "prefill_pairs",
    "prefill_seq_s": "prefill_seqs",
}


@dataclass(frozen=True)
class Design:
    """A model that is a sum of coefficients times columns: its parameters, columns of a frame, and config."""

    name: str
    parameters: tuple[str, ...]
    columns: Callable[[pd.DataFrame], np.ndarray]
    config: Callable[[np.ndarray, float], Any]


@dataclass(frozen=True)
class Fit:
    """``config`` is the step-time model; ``score`` and ``score_se`` the held-out relative error (root mean square over
    batches of a run taken together, and its standard error over folds), ``samples`` bootstrap draws of the
    coefficients.
    """

    design: Design
    config: Any
    coefficients: np.ndarray
    samples: np.ndarray
    score: float
    score_se: float
    held_out: np.ndarray

    def covariance(self) -> np.ndarray:
        """Of the coefficients, over bootstrap samples of whole runs."""
        return np.atleast_2d(np.cov(self.samples, rowvar=False))


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


def solve(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Non-negative coefficients of the relative, robust fit of ``y`` [s]; total time is kept."""
    scale = (x / y[:, None]).max(axis=0)
    scale[scale == 0] = 1.0
    a = x / y[:, None] / scale
    w = np.sqrt(weights)
    start, _ = nnls(a * w[:, None], w)
    found = least_squares(
        lambda c: (a @ c - 1.0) * w,
        start + 1e-9,
        bounds=(0.0, np.inf),
        loss="soft_l1",
        f_scale=SOFT,
        method="trf",
        jac=lambda c: a * w[:, None],
    )
    c = found.x / scale
    c[found.x < 1e-7] = 0.0
    ratio = y / np.maximum(x @ c, 1e-12)
    usual = (ratio > 1 / 3) & (ratio < 3)
    return c * (y[usual] @ weights[usual]) / ((x @ c)[usual] @ weights[usual])


def clean(steps: pd.DataFrame) -> pd.DataFrame:
    """Batches to fit: no warm-up, none after an idle engine. Raises ServelabError where too few are left."""
    kept = steps[~steps["idle"].astype(bool) & ~steps["run"].astype(str).str.startswith("warm-up")]
    kept = kept[kept["seconds"] > 0]
    if len(kept) < LEAST_ROWS:
        raise ServelabError(f"{len(kept)} measured batches are left of {len(steps)}, a fit needs {LEAST_ROWS}")
    return kept.reset_index(drop=True)


def identify(frame: pd.DataFrame, parameters: Sequence[str]) -> None:
    """Raise ServelabError naming the coefficients that these batches cannot tell, and why."""
    for name in parameters:
        column = COLUMN.get(name)
        if column is None:
            continue
        values = frame[column].to_numpy(float)
        if np.isnan(values).all():
            raise ServelabError(f"{name} cannot be known: the measurements do not say {column} of a batch")
        if np.ptp(values) == 0:
            raise ServelabError(
                f"{name} cannot be known: all {len(frame)} batches have {column} = {values[0]:g}; measure others too"
            )
    known = [COLUMN[n] for n in parameters if n in COLUMN]
    x = np.column_stack([np.ones(len(frame)), *(frame[c].to_numpy(float) for c in known)])
    x = x / np.linalg.norm(x, axis=0)
    _, singular, axes = np.linalg.svd(x, full_matrices=False)
    if singular[-1] < 1e-6 * singular[0]:
        mixed = [("base_s", *parameters[1:])[i] for i in np.flatnonzero(np.abs(axes[-1]) > 0.1)]
        raise ServelabError(f"{' and '.join(mixed)} cannot be told apart: they rise together in all batches")


def _weights(frame: pd.DataFrame) -> np.ndarray:
    """Batches that only decode and batches with prefill count as much as each other."""
    prefill = frame["prefill_tokens"].to_numpy() > 0
    share = np.where(prefill, prefill.mean(), 1 - prefill.mean())
    return 0.5 / np.maximum(share, 1e-9)


def fit_design(frame: pd.DataFrame, design: Design, host_s: float, seed: int = 0) -> Fit:
    """Fit ``design`` to clean batches, judge it on runs left out, and draw whole runs anew for its covariance."""
    x, y, w = design.columns(frame), frame["seconds"].to_numpy() - host_s, _weights(frame)
    y = np.maximum(y, 1e-6)
    rng = np.random.default_rng(seed)
    names, run = np.unique(frame["run"].astype(str), return_inverse=True)
    fold = rng.permutation(len(names)) % min(FOLDS, len(names))
    errors, per_fold = [], []
    for k in np.unique(fold):
        out = fold[run] == k
        if out.all():
            raise ServelabError("all batches belong to one run: none can be left out to judge the fit")
        c = solve(x[~out], y[~out], w[~out])
        relative = _by_run(x[out] @ c, y[out], run[out], frame["prefill_tokens"].to_numpy()[out] > 0)
        errors.append(relative)
        per_fold.append(np.sqrt(np.mean(relative**2)))
    c = solve(x, y, w)
    draws = []
    rows = [np.flatnonzero(run == i) for i in range(len(names))]
    for _ in range(BOOTSTRAP):
        picked = np.concatenate([rows[i] for i in rng.integers(0, len(names), len(names))])
        draws.append(solve(x[picked], y[picked], w[picked]))
    return Fit(
        design,
        design.config(c, host_s),
        c,
        np.array(draws),
        float(np.mean(per_fold)),
        float(np.std(per_fold, ddof=1) / np.sqrt(len(per_fold))),
        np.concatenate(errors),
    )


def _by_run(predicted: np.ndarray, y: np.ndarray, run: np.ndarray, prefill: np.ndarray) -> np.ndarray:
    """Relative error of the total time of each run's decoding batches, and of its batches with prefill."""
    frame = pd.DataFrame({"p": predicted, "y": y, "run": run, "prefill": prefill})
    sums = frame.groupby(["run", "prefill"])[["p", "y"]].sum()
    return (sums["p"] / sums["y"] - 1).to_numpy()


def fit_affine(frame: pd.DataFrame, host_s: float = 0.0, parameters: Sequence[str] = AFFINE) -> Fit:
    """Coefficients [s] of `AffineStepTime`, with `frame` as `clean` gives it. Raises ServelabError as `identify`."""
    identify(frame, parameters)
    return fit_design(frame, affine_design(parameters), host_s)


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
