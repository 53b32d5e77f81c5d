"""A replica at random."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict


class RandomConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["random"] = "random"


class Random:
    """Each request goes to a replica drawn evenly; request i always gets draw i."""

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self.replicas, self.rng = replicas, rng
        self._drawn = np.zeros(0, np.int64)

    def choose(self, row: int, outstanding: np.ndarray) -> int:
        while row >= len(self._drawn):
            self._drawn = np.concatenate([self._drawn, self.rng.integers(0, self.replicas, 4096)])
        return int(self._drawn[row])

    def choose_all(self, requests: int) -> np.ndarray:
        if requests:
            self.choose(requests - 1, np.zeros(0))
        return self._drawn[:requests]
