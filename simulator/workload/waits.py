"""Distributions of the time between an answer and the request that follows it: thinking, or a tool at work [s]."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import ndtri

from simulator.workload.fields import Config, Positive, Seconds


class FixedWait(Config):
    """Always so long [s]."""

    kind: Literal["fixed"] = "fixed"
    seconds: Seconds = 0.0

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return np.full(len(u), self.seconds)


class ExponentialWait(Config):
    """Exponential of this mean [s], the think time of the classic closed network."""

    kind: Literal["exponential"] = "exponential"
    mean_s: Positive

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return -self.mean_s * np.log1p(-u)


class LognormalWait(Config):
    """Lognormal of this median [s] and ``sigma`` of the logarithm, at most ``max_s`` [s]."""

    kind: Literal["lognormal"] = "lognormal"
    median_s: Positive
    sigma: Positive
    max_s: Positive = 86_400.0

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return np.minimum(self.median_s * np.exp(self.sigma * ndtri(np.maximum(u, 1e-300))), self.max_s)


WaitConfig = Annotated[FixedWait | ExponentialWait | LognormalWait, Field(discriminator="kind")]
