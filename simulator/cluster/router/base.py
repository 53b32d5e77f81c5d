"""What a router is, and what the configs of routers share."""

from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simulator.cluster.view import View


class Router(Protocol):
    """A routing policy."""

    def choose(self, row: int, view: View) -> int:
        """The pod for request ``row``: one of ``view.ready``, which is not empty."""


class RouterPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scraping(RouterPart):
    """A router that looks at the pods' metrics."""

    signal_age_s: float = Field(default=0.0, ge=0, description="interval at which the metrics are scraped [s]")


def first_least(values: np.ndarray, ready: np.ndarray) -> int:
    """The pod of ``ready`` with the least value, the first at a tie."""
    return int(ready[values[ready].argmin()])


class Drawn:
    """Even draws, one a request: request i always gets draw i."""

    def __init__(self, rng: np.random.Generator, each: int = 1) -> None:
        self._rng, self._each = rng, each
        self._drawn = np.zeros((0, each))

    def __getitem__(self, row: int) -> np.ndarray:
        self.upto(row + 1)
        return self._drawn[row]

    def upto(self, rows: int) -> np.ndarray:
        """The draws of requests 0 ... ``rows`` - 1, in [0, 1)."""
        while rows > len(self._drawn):
            more = self._rng.random((max(4096, len(self._drawn)), self._each))
            self._drawn = np.concatenate([self._drawn, more])
        return self._drawn[:rows]
