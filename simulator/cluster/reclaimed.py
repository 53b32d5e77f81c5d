"""Spot machines of pods that their provider takes back, in simulated time."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from simulator.cluster.reclaim import ReclaimConfig


class Held(Protocol):
    """What holds a machine."""

    slot: int


class Reclaims:
    """Draws how long each machine lasts, and calls ``take_back(life, now, notice_s)`` when its time has come."""

    def __init__(
        self,
        config: ReclaimConfig | None,
        rng: np.random.Generator,
        clock: Any,
        take_back: Callable[[Any, float, float], None],
    ) -> None:
        self._config, self._rng, self._clock, self._take_back = config, rng, clock, take_back

    def watch(self, life: Held, now: float) -> None:
        """The machine of ``life`` has begun at ``now`` [s]; the first ``keep`` places are not reclaimed."""
        spot = self._config
        if spot is not None and life.slot >= spot.keep:
            at = now + self._rng.exponential(spot.mean_hours * 3600)
            self._clock.at(at, self._take_back, life, at, spot.notice_s)
