"""Distributions of prompt and output lengths [token]."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import ndtr, ndtri

from simulator.workload.fields import Config, Level, Positive, Tokens, Weight


def _ordered(config: Any) -> Any:
    if config.max < config.min:
        raise ValueError(f"max must be at least min ({config.min}), got {config.max}")
    return config


class FixedLength(Config):
    """Every request the same length."""

    kind: Literal["fixed"] = "fixed"
    tokens: Tokens

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return np.full(len(u), self.tokens, np.int32)


class UniformLength(Config):
    """Whole numbers from ``min`` to ``max``, both included, equally likely."""

    kind: Literal["uniform"] = "uniform"
    min: Tokens
    max: Tokens

    _check = model_validator(mode="after")(_ordered)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return (self.min + np.floor(u * (self.max - self.min + 1))).astype(np.int32)


class NormalLength(Config):
    """Normal with this ``mean`` and ``std_dev`` [token], rounded, held to [min, max] as benchmark tools do it."""

    kind: Literal["normal"] = "normal"
    mean: Positive
    std_dev: Weight
    min: Tokens = 1
    max: Tokens = 1_000_000

    _check = model_validator(mode="after")(_ordered)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        raw = self.mean + self.std_dev * (ndtri(u) if self.std_dev else np.zeros(len(u)))
        return np.clip(np.rint(raw), self.min, self.max).astype(np.int32)


class LognormalLength(Config):
    """Lognormal with this ``median`` [token] and ``sigma`` of the logarithm, rounded, held to [min, max].

    What falls outside is set to the bound it crossed, so both bounds carry a point mass.
    """

    kind: Literal["lognormal"] = "lognormal"
    median: Positive
    sigma: Weight
    min: Tokens = 1
    max: Tokens = 1_000_000

    _check = model_validator(mode="after")(_ordered)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            raw = np.rint(self.median * np.exp(self.sigma * ndtri(u))) if self.sigma else np.full(len(u), self.median)
        return np.clip(np.rint(raw), self.min, self.max).astype(np.int32)


class EmpiricalLength(Config):
    """Observed lengths: either ``values`` with optional ``weights``, or a table ``levels`` -> ``values``.

    With ``levels`` (rising from 0 to 1) the values are quantiles, interpolated linearly and rounded.
    """

    kind: Literal["empirical"] = "empirical"
    values: tuple[Tokens, ...] = Field(min_length=1)
    weights: tuple[Weight, ...] | None = None
    levels: tuple[Level, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "EmpiricalLength":
        if self.weights is not None and self.levels is not None:
            raise ValueError("give weights or levels, not both")
        for name, other in (("weights", self.weights), ("levels", self.levels)):
            if other is not None and len(other) != len(self.values):
                raise ValueError(f"{name} must have one entry per value ({len(self.values)}), got {len(other)}")
        if self.weights is not None and sum(self.weights) <= 0:
            raise ValueError(f"weights must add up to more than 0, got {sum(self.weights)}")
        if self.levels is not None:
            rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
            if not rising or self.levels[0] != 0 or self.levels[-1] != 1:
                raise ValueError(f"levels must rise from 0 to 1, got {list(self.levels)}")
            if list(self.values) != sorted(self.values):
                raise ValueError(f"values of a quantile table must not fall, got {list(self.values)}")
        return self

    def quantile(self, u: np.ndarray) -> np.ndarray:
        values = np.asarray(self.values)
        if self.levels is not None:
            return np.rint(np.interp(u, self.levels, values)).astype(np.int32)
        weights = np.ones(len(values)) if self.weights is None else np.asarray(self.weights, float)
        edges = np.cumsum(weights) / weights.sum()
        edges[np.flatnonzero(weights)[-1] :] = 1.0
        return values[np.searchsorted(edges, u, side="right")].astype(np.int32)


class HistogramLength(Config):
    """Counts per bin, as a dashboard shows them: bin k holds ``edges[k]`` to ``edges[k + 1]`` (excluded).

    Within a bin every whole number is equally likely. ``counts`` are per bin, not cumulative.
    """

    kind: Literal["histogram"] = "histogram"
    edges: tuple[Tokens, ...] = Field(min_length=2)
    counts: tuple[Weight, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "HistogramLength":
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"edges must be one more than counts ({len(self.counts) + 1}), got {len(self.edges)}")
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"edges must rise, got {list(self.edges)}")
        if sum(self.counts) <= 0:
            raise ValueError(f"counts must add up to more than 0, got {sum(self.counts)}")
        return self

    def quantile(self, u: np.ndarray) -> np.ndarray:
        used = np.flatnonzero(self.counts)  # empty bins must not be met at the edge of a full one
        counts, edges = np.asarray(self.counts)[used], np.asarray(self.edges)
        level = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
        k = np.clip(np.searchsorted(level, u, "right") - 1, 0, len(used) - 1)
        low, high = edges[used][k], edges[used + 1][k]
        within = (u - level[k]) / (level[k + 1] - level[k])
        return np.clip(low + np.floor(within * (high - low)), low, high - 1).astype(np.int32)


class ParetoLength(Config):
    """Bounded Pareto on [min, max], rounded: P(X > x) falls as ``x**-alpha``, the smaller the heavier."""

    kind: Literal["pareto"] = "pareto"
    alpha: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False, strict=True)]
    min: Tokens
    max: Tokens

    _check = model_validator(mode="after")(_ordered)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        tail = -np.expm1(self.alpha * np.log(self.min / self.max))  # 1 - (min / max)**alpha
        raw = self.min * (1 - u * tail) ** (-1 / self.alpha)
        return np.clip(np.rint(raw), self.min, self.max).astype(np.int32)


class MixturePart(Config):
    """One lognormal of a mixture: its ``weight``, ``median`` [token] and ``sigma`` of the logarithm."""

    weight: Positive
    median: Positive
    sigma: Positive


class MixtureLength(Config):
    """A mixture of lognormals, rounded and held to [min, max] as `LognormalLength` is."""

    kind: Literal["mixture"] = "mixture"
    parts: tuple[MixturePart, ...] = Field(min_length=1)
    min: Tokens = 1
    max: Tokens = 1_000_000

    _check = model_validator(mode="after")(_ordered)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        log_tokens = np.linspace(np.log(max(self.min - 0.5, 0.5)), np.log(self.max + 0.5), 8192)
        level = np.zeros(len(log_tokens))
        for part in self.parts:
            level += part.weight * ndtr((log_tokens - np.log(part.median)) / part.sigma)
        level /= sum(part.weight for part in self.parts)
        raw = np.exp(np.interp(u, level, log_tokens))
        return np.clip(np.rint(raw), self.min, self.max).astype(np.int32)


LengthConfig = Annotated[
    FixedLength
    | UniformLength
    | NormalLength
    | LognormalLength
    | EmpiricalLength
    | HistogramLength
    | ParetoLength
    | MixtureLength,
    Field(discriminator="kind"),
]


def draw_lengths(config: LengthConfig, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` lengths [token], one uniform draw each, so row i does not depend on how many follow."""
    return config.quantile(rng.random(n))


def draw_joint_lengths(
    prompt: LengthConfig, output: LengthConfig, correlation: float, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``n`` pairs of lengths [token] with this rank correlation (Spearman), by a Gaussian copula.

    The prompts do not depend on ``correlation``. Ties of discrete lengths pull the rank correlation towards 0.
    """
    z = rng.standard_normal((n, 2))
    r = 2 * np.sin(np.pi * correlation / 6)
    second = r * z[:, 0] + np.sqrt(1 - r * r) * z[:, 1]
    top = np.nextafter(1.0, 0.0)  # the tables are defined below 1
    return prompt.quantile(np.minimum(ndtr(z[:, 0]), top)), output.quantile(np.minimum(ndtr(second), top))
