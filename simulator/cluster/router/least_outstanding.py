"""The replica with the fewest requests in it."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict


class LeastOutstandingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["least_outstanding"] = "least_outstanding"


class LeastOutstanding:
    """Fewest requests sent and not ended; the first such replica at a tie. The count has no delay."""

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self.replicas = replicas

    def choose(self, row: int, outstanding: np.ndarray) -> int:
        return int(outstanding.argmin())
