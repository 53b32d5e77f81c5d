"""Replicas in turn."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict


class RoundRobinConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["round_robin"] = "round_robin"


class RoundRobin:
    """The i-th request that is sent goes to replica i modulo their number."""

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self.replicas = replicas
        self._sent = 0

    def choose(self, row: int, outstanding: np.ndarray) -> int:
        self._sent += 1
        return (self._sent - 1) % self.replicas

    def choose_all(self, requests: int) -> np.ndarray:
        return np.arange(requests) % self.replicas
