"""Arrival times [s] of open-loop processes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RateProfile:
    """A rate that changes with time and repeats: linear between knots at the middle of equal cells.

    rate    relative or absolute rate at the middle of each cell
    cell_s  length of a cell [s]; the profile repeats after ``len(rate) * cell_s``
    """

    rate: np.ndarray
    cell_s: float

    STEPS = 64  # points per cell in the table of the integral

    @property
    def period_s(self) -> float:
        return len(self.rate) * self.cell_s

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """Rate at these times (the ends of the period lead into each other)."""
        knots = (np.arange(len(self.rate)) + 0.5) * self.cell_s
        return np.interp(time_s, knots, self.rate, period=self.period_s)

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Times over one period [s] and the integral of the rate up to each."""
        t = np.linspace(0.0, self.period_s, len(self.rate) * self.STEPS + 1)
        r = self.at(t)
        return t, np.concatenate(([0.0], np.cumsum((r[1:] + r[:-1]) / 2 * np.diff(t))))

    def integral(self, time_s: float) -> float:
        """Expected count in [0, time_s]."""
        t, area = self.table()
        turns, rest = divmod(time_s, self.period_s)
        return float(turns * area[-1] + np.interp(rest, t, area))

    def invert(self, count: np.ndarray) -> np.ndarray:
        """Times [s] at which the integral reaches ``count`` (rising)."""
        t, area = self.table()
        turns, rest = np.divmod(count, area[-1])
        time_s = turns * self.period_s + np.interp(rest, area, t)
        return np.maximum.accumulate(time_s)  # rounding at the seam of two periods must not swap two arrivals


def unit_intervals(n: int, cv: float, rng: np.random.Generator) -> np.ndarray:
    """``n`` independent intervals of mean 1 and this coefficient of variation: exponential at 1, else gamma."""
    if cv == 1.0:
        return rng.standard_exponential(n)
    shape = 1.0 / cv**2
    return rng.standard_gamma(shape, n) / shape


def renewal_arrivals(
    profile: RateProfile,
    rng: np.random.Generator,
    *,
    cv: float = 1.0,
    duration_s: float | None = None,
    requests: int | None = None,
) -> np.ndarray:
    """Arrivals of a renewal process run on the clock of ``profile``: Poisson with that rate when cv is 1.

    Give either ``duration_s`` (all arrivals before it) or ``requests`` (exactly so many). Longer runs
    begin with the arrivals of shorter ones.
    """
    if requests is not None:
        return profile.invert(np.cumsum(unit_intervals(requests, cv, rng)))
    assert duration_s is not None
    mean = profile.integral(duration_s)
    chunk = int(mean + 6 * cv * np.sqrt(mean) + 16)
    count = np.cumsum(unit_intervals(chunk, cv, rng))
    while count[-1] < mean:  # rare: the first chunk exceeds the mean by six standard deviations
        count = np.concatenate((count, count[-1] + np.cumsum(unit_intervals(chunk, cv, rng))))
    arrival_s = profile.invert(count[count < mean])
    return arrival_s[arrival_s < duration_s]


def poisson_arrivals(
    rate_rps: float, rng: np.random.Generator, *, duration_s: float | None = None, requests: int | None = None
) -> np.ndarray:
    """Arrivals [s] of a Poisson process of ``rate_rps``: before ``duration_s``, or exactly ``requests`` of them."""
    if requests is not None:
        return np.cumsum(rng.standard_exponential(requests)) / rate_rps
    assert duration_s is not None
    mean = rate_rps * duration_s
    chunk = int(mean + 6 * np.sqrt(mean) + 16)
    time_s = np.cumsum(rng.standard_exponential(chunk)) / rate_rps
    while time_s[-1] < duration_s:
        time_s = np.concatenate((time_s, time_s[-1] + np.cumsum(rng.standard_exponential(chunk)) / rate_rps))
    return time_s[time_s < duration_s]
