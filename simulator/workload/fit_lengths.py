"""Which distribution describes recorded lengths: candidates fitted to half of the rows and judged on the other.

The judge is the log-likelihood of whole tokens. Of the candidates within one standard error of the best, the simplest
is taken [1]_ and fitted again to all rows.

.. [1] Breiman et al., "Classification and Regression Trees", 1984, 3.4.3 (the one standard error rule).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtr

BINS = 48
PARTS = (2, 3)
ROUNDS = 200
TAIL = (0.99, 0.995, 0.998, 0.999, 0.9995)  # further cuts: the last bins are wide, and means live there
SPREAD = 0.02  # smallest sigma of a part: narrower ones are point masses


def fit_length(train: np.ndarray, test: np.ndarray) -> tuple[dict[str, Any], dict[str, float]]:
    """The length config of the candidate chosen, and each candidate's mean log-likelihood on ``test`` [nat/request]."""
    if len(np.unique(np.concatenate([train, test]))) == 1:
        return {"kind": "fixed", "tokens": int(train[0])}, {"fixed": 0.0}
    fits: dict[str, Callable[[np.ndarray], dict[str, Any]]] = {"lognormal": partial(mixture, parts=1)}
    fits |= {f"mixture of {k}": partial(mixture, parts=k) for k in PARTS}
    fits["histogram"] = histogram
    found = {name: likelihood(fit(train), test) for name, fit in fits.items()}
    best = max(found, key=lambda name: found[name].mean())
    deficit = {name: found[best] - values for name, values in found.items()}
    chosen = next(name for name, d in deficit.items() if d.mean() <= d.std() / np.sqrt(len(test)))
    return fits[chosen](np.concatenate([train, test])), {name: float(v.mean()) for name, v in found.items()}


def mixture(tokens: np.ndarray, parts: int) -> dict[str, Any]:
    """Lognormals by expectation maximisation [1]_ on the logarithm, begun at quantiles; one part is plain lognormal.

    .. [1] Dempster, Laird, Rubin, JRSS B 39, 1977.
    """
    values, counts = np.unique(tokens, return_counts=True)
    x = np.log(values)
    mean = np.quantile(np.log(tokens), (np.arange(parts) + 0.5) / parts)
    sigma, weight = np.full(parts, max(np.log(tokens).std(), SPREAD)), np.full(parts, 1 / parts)
    for _ in range(ROUNDS if parts > 1 else 1):
        score = np.log(weight) - np.log(sigma) - 0.5 * ((x[:, None] - mean) / sigma) ** 2
        share = np.exp(score - logsumexp(score, axis=1, keepdims=True)) * counts[:, None]
        total = np.maximum(share.sum(axis=0), 1e-9)
        mean = (share * x[:, None]).sum(axis=0) / total
        sigma = np.maximum(np.sqrt((share * (x[:, None] - mean) ** 2).sum(axis=0) / total), SPREAD)
        weight = total / total.sum()
    top = int(values[-1])
    if parts == 1:
        return {"kind": "lognormal", "median": float(np.exp(mean[0])), "sigma": float(sigma[0]), "min": 1, "max": top}
    order = np.argsort(mean)
    return {
        "kind": "mixture",
        "min": 1,
        "max": top,
        "parts": [
            {"weight": float(weight[k]), "median": float(np.exp(mean[k])), "sigma": float(sigma[k])} for k in order
        ],
    }


def histogram(tokens: np.ndarray) -> dict[str, Any]:
    """Bins of about equally many requests, finer in the tail; a length that many have gets a bin of its own."""
    cuts = np.concatenate([np.linspace(0, 1, BINS + 1), TAIL])
    levels = np.unique(np.quantile(tokens, cuts, method="inverted_cdf").astype(np.int64))
    values, counts = np.unique(tokens, return_counts=True)
    often = values[counts > len(tokens) / BINS]
    edges = np.unique(np.concatenate([levels, often, often + 1, [levels[-1] + 1]]))
    found = np.histogram(tokens, edges)[0]
    found[-1] = np.count_nonzero(tokens >= edges[-2])
    return {"kind": "histogram", "edges": edges.tolist(), "counts": found.astype(float).tolist()}


def likelihood(config: dict[str, Any], tokens: np.ndarray) -> np.ndarray:
    """Log-probability of each length [nat]; one request in a million is taken to come from anywhere up to twice the
    longest."""
    floor = 1e-6 / (2 * float(tokens.max()))
    if config["kind"] == "histogram":
        edges, counts = np.array(config["edges"]), np.array(config["counts"])
        place = np.searchsorted(edges, tokens, "right") - 1
        inside = (place >= 0) & (place < len(counts))
        k = np.clip(place, 0, len(counts) - 1)
        p = np.where(inside, (counts / counts.sum() / np.diff(edges))[k], 0.0)
    else:
        parts = config.get("parts") or [{"weight": 1.0, **config}]
        whole = sum(part["weight"] for part in parts)
        p = np.zeros(len(tokens))
        for part in parts:
            z = [(np.log(np.maximum(tokens + d, 0.5)) - np.log(part["median"])) / part["sigma"] for d in (-0.5, 0.5)]
            p += part["weight"] / whole * (ndtr(z[1]) - ndtr(z[0]))
    return np.log((1 - 1e-6) * p + floor)
