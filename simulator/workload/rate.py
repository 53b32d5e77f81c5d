"""A rate that is linear between knots, with its exact integral and inverse."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class PiecewiseRate:
    """Rate [request/s] at knots [s], linear between them; two knots at one time make a step.

    time_s  knots, from 0, never falling
    rate    rate at each knot, at least 0
    area    integral of the rate up to each knot [request]
    """

    time_s: np.ndarray
    rate: np.ndarray
    area: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        steps = np.diff(self.time_s) * (self.rate[1:] + self.rate[:-1]) / 2
        object.__setattr__(self, "area", np.concatenate(([0.0], np.cumsum(steps))))

    def integral(self, time_s: float) -> float:
        """Expected count in [0, time_s], which must not lie behind the last knot."""
        k = min(int(np.searchsorted(self.time_s, time_s, "right")) - 1, len(self.time_s) - 2)
        width = self.time_s[k + 1] - self.time_s[k]
        x = time_s - self.time_s[k]
        slope = (self.rate[k + 1] - self.rate[k]) / width if width > 0 else 0.0
        return float(self.area[k] + x * (self.rate[k] + slope * x / 2))

    def invert(self, count: np.ndarray) -> np.ndarray:
        """Times [s] at which the integral reaches ``count`` (rising, below the last area)."""
        k = np.minimum(np.searchsorted(self.area, count, "right") - 1, len(self.time_s) - 2)
        width = np.diff(self.time_s)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(width > 0, np.diff(self.rate) / width, 0.0)[k]
            rest, first = count - self.area[k], self.rate[k]
            x = 2 * rest / (first + np.sqrt(np.maximum(first**2 + 2 * slope * rest, 0.0)))
        x = np.clip(np.nan_to_num(x, nan=0.0), 0.0, width[k])
        return np.maximum.accumulate(self.time_s[k] + x)  # rounding at a knot must not swap two arrivals

    def repeated(self, period_s: float, times: int) -> "PiecewiseRate":
        """This rate, played ``times`` times; its last knot must lie at ``period_s``."""
        shift = np.repeat(np.arange(times) * period_s, len(self.time_s))
        return PiecewiseRate(np.tile(self.time_s, times) + shift, np.tile(self.rate, times))

    def scaled_between(self, start_s: float, end_s: float, factor: float) -> "PiecewiseRate":
        """This rate times ``factor`` in [start_s, end_s)."""
        last = self.time_s[-1]
        start_s, end_s = min(start_s, last), min(end_s, last)
        if start_s >= end_s:
            return self
        a, b = np.searchsorted(self.time_s, start_s, "left"), np.searchsorted(self.time_s, end_s, "right")
        inside = (self.time_s > start_s) & (self.time_s < end_s)
        at_start, at_end = self._side(start_s), self._side(end_s)
        time_s = np.concatenate((self.time_s[:a], [start_s] * 2, self.time_s[inside], [end_s] * 2, self.time_s[b:]))
        rate = np.concatenate(
            (
                self.rate[:a],
                [at_start[0], at_start[1] * factor],
                self.rate[inside] * factor,
                [at_end[0] * factor, at_end[1]],
                self.rate[b:],
            )
        )
        return PiecewiseRate(time_s, rate)

    def _side(self, time_s: float) -> tuple[float, float]:
        """The rate just before and from this time on."""
        left = int(np.searchsorted(self.time_s, time_s, "left"))
        right = int(np.searchsorted(self.time_s, time_s, "right")) - 1
        if left <= right:  # one or more knots lie here
            return float(self.rate[left]), float(self.rate[right])
        value = float(np.interp(time_s, self.time_s[right : left + 1], self.rate[right : left + 1]))
        return value, value
