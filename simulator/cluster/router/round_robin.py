"""Replicas in turn."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict


class RoundRobinConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["round_robin"] = "round_robin"


class RoundRobin:
    """Request i goes to replica i modulo their number."""

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self.replicas = replicas

    def choose(self, row: int, outstanding: np.ndarray) -> int:
        return row % self.replicas

    def choose_all(self, requests: int) -> np.ndarray:
        return np.arange(requests) % self.replicas
