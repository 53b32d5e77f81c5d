"""Service times of a stage."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class _Service(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ConstantService(_Service):
    kind: Literal["constant"] = "constant"
    mean_s: float = Field(ge=0, description="[s]")

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return np.full(n, self.mean_s)


class ExponentialService(_Service):
    kind: Literal["exponential"] = "exponential"
    mean_s: float = Field(ge=0, description="[s]")

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.exponential(self.mean_s, n)


class LognormalService(_Service):
    kind: Literal["lognormal"] = "lognormal"
    mean_s: float = Field(gt=0, description="[s]")
    cv: float = Field(gt=0, description="standard deviation over mean")

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        sigma2 = np.log1p(self.cv**2)
        return rng.lognormal(np.log(self.mean_s) - sigma2 / 2, np.sqrt(sigma2), n)


class GammaService(_Service):
    kind: Literal["gamma"] = "gamma"
    mean_s: float = Field(gt=0, description="[s]")
    cv: float = Field(gt=0, description="standard deviation over mean")

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        shape = 1 / self.cv**2
        return rng.gamma(shape, self.mean_s / shape, n)


class EmpiricalService(_Service):
    kind: Literal["empirical"] = "empirical"
    values_s: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1, description="measured [s], drawn evenly")

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.choice(np.array(self.values_s), n)


ServiceConfig = Annotated[
    ConstantService | ExponentialService | LognormalService | GammaService | EmpiricalService,
    Field(discriminator="kind"),
]
