"""The solver of all fits to measured batches: relative, robust, non-negative, judged on batches left out.

Each model has a file beside this one, and ``fit_<model>`` returns exactly its parameters. The models are sums of
non-negative coefficients times what a batch holds, so one solver serves: least squares of relative residuals with a
soft-l1 loss [1]_, then one factor that keeps the total time, since queues feel the mean and not the median.

.. [1] P. J. Huber, E. M. Ronchetti, "Robust Statistics", 2nd ed., 2009; scipy.optimize.least_squares, loss soft_l1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares, nnls

from simulator.errors import ServelabError

SOFT = 0.3  # relative residual beyond which a batch counts less
BOOTSTRAP = 40
FOLDS = 5
LEAST_ROWS = 30
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
