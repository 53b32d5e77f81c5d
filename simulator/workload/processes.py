"""Arrival processes of the source ``synthetic``: a rate, and how irregular the intervals are.

Each is a renewal process of unit mean run on the clock of its rate (time change): Poisson where the intervals
are exponential. The first interval starts at 0 s.
"""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import gamma as gamma_function

from simulator.errors import ServelabError
from simulator.workload.arrivals import unit_intervals
from simulator.workload.fields import Config, Positive, Seconds, Weight
from simulator.workload.rate import PiecewiseRate

DAY_S, WEEK_S = 86_400.0, 604_800.0
DAY_KNOTS = 289  # every 5 minutes: the sine's mean is exact, its peak within 0.01 %
MAX_KNOTS = 10_000_000

Variation = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False, strict=True)]


class UserPopulation(Config):
    """People as a rate: ``active_users * requests_per_user_per_minute / 60 * peak_factor`` [request/s].

    ``peak_factor`` is how much busier the simulated hour is than the one that the figure per user is from.
    """

    active_users: Positive
    requests_per_user_per_minute: Positive
    peak_factor: Positive = 1.0

    @property
    def rate_rps(self) -> float:
        return self.active_users * self.requests_per_user_per_minute / 60.0 * self.peak_factor


class _Process(Config):
    """What every process can be asked for."""

    def rate(self, horizon_s: float) -> PiecewiseRate:
        """The rate up to at least ``horizon_s`` [s]."""
        raise NotImplementedError

    def intervals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` intervals of mean 1."""
        raise NotImplementedError

    def variation(self) -> float:
        """Coefficient of variation of the intervals, on the clock of the rate."""
        return 1.0


class _Steady(_Process):
    """A mean rate: give exactly one of ``rate_rps`` [request/s] and ``users``."""

    rate_rps: Positive | None = None
    users: UserPopulation | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> "_Steady":
        if (self.rate_rps is None) == (self.users is None):
            raise ValueError(
                f"give exactly one of rate_rps and users, got rate_rps={self.rate_rps}, users={self.users}"
            )
        return self

    @property
    def mean_rps(self) -> float:
        """The mean rate [request/s]."""
        return self.users.rate_rps if self.users is not None else self.rate_rps or 0.0

    def rate(self, horizon_s: float) -> PiecewiseRate:
        return PiecewiseRate(np.array([0.0, horizon_s]), np.full(2, self.mean_rps))

    def intervals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return unit_intervals(n, self.variation(), rng)


class PoissonArrivals(_Steady):
    """Exponential intervals."""

    kind: Literal["poisson"] = "poisson"


class GammaArrivals(_Steady):
    """Gamma intervals of this coefficient of variation: above 1 bursts, below 1 more regular than Poisson.

    ``--burstiness`` of ``vllm bench serve`` is the shape: ``1 / cv**2``.
    """

    kind: Literal["gamma"] = "gamma"
    cv: Variation

    def variation(self) -> float:
        return self.cv


class WeibullArrivals(_Steady):
    """Weibull intervals of this ``shape``: below 1 bursts, 1 Poisson, above 1 regular."""

    kind: Literal["weibull"] = "weibull"
    shape: Annotated[float, Field(ge=0.2, le=100, allow_inf_nan=False, strict=True)]

    def intervals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.weibull(self.shape, n) / gamma_function(1 + 1 / self.shape)

    def variation(self) -> float:
        first, second = gamma_function(1 + 1 / self.shape), gamma_function(1 + 2 / self.shape)
        return float(np.sqrt(second / first**2 - 1))


class ConstantArrivals(_Steady):
    """Equal intervals, the first request at 0 s."""

    kind: Literal["constant"] = "constant"

    def intervals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate(([0.0], np.ones(n - 1)))

    def variation(self) -> float:
        return 0.0


class Spike(Config):
    """The rate times ``factor`` for ``duration_s`` [s] from ``start_s`` [s] on; overlapping ones multiply."""

    start_s: Seconds
    duration_s: Positive
    factor: Weight


class ProfileArrivals(_Process):
    """A rate given by points ``(time [s], rate [request/s])``: steps, ramps, a recorded day.

    points         from time 0, times not falling; behind the last point its rate holds
    interpolation  ``linear``: ramps between points (two points at one time make a step); ``step``: each rate
                   holds until the next point
    period_s       the profile repeats after so long [s]; null: once
    spikes         on top, on the clock of the simulation (they do not repeat)
    cv             of the intervals on the clock of the rate: 1 is a non-homogeneous Poisson process
    """

    kind: Literal["profile"] = "profile"
    points: tuple[tuple[Weight, Weight], ...] = Field(min_length=1)
    interpolation: Literal["linear", "step"] = "linear"
    period_s: Positive | None = None
    spikes: tuple[Spike, ...] = ()
    cv: Variation = 1.0

    @model_validator(mode="after")
    def _usable(self) -> "ProfileArrivals":
        times = [t for t, _ in self.points]
        if times[0] != 0:
            raise ValueError(f"the first point must lie at 0 s, got {times[0]}")
        for before, after in pairwise(times):
            if after < before:
                raise ValueError(f"times of points must not fall, got {after} after {before}")
        if self.period_s is not None and self.period_s <= times[-1]:
            raise ValueError(f"period_s must lie behind the last point ({times[-1]} s), got {self.period_s}")
        if not any(rate > 0 for _, rate in self.points):
            raise ValueError("at least one rate must be greater than 0")
        return self

    def rate(self, horizon_s: float) -> PiecewiseRate:
        points = np.array(self.points, float)
        end_s = self.period_s or max(horizon_s, points[-1, 0] + 1.0)
        time_s, rate = np.append(points[:, 0], end_s), np.append(points[:, 1], points[-1, 1])
        if self.interpolation == "step":
            time_s, rate = np.repeat(time_s, 2)[1:-1], np.repeat(rate[:-1], 2)
        return _unrolled(PiecewiseRate(time_s, rate), self.period_s, horizon_s, self.spikes)

    def intervals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return unit_intervals(n, self.cv, rng)

    def variation(self) -> float:
        return self.cv


class DiurnalArrivals(_Steady):
    """Days and weeks: a sine over each day, times a factor for each day of the week.

    rate_rps, users  the mean over a week
    peak_to_mean     busiest moment of a day over that day's mean, from 1 (flat) to 2 (nothing at night)
    peak_s           when the day is busiest [s after midnight]
    day_factors      relative traffic of Monday to Sunday
    start_s          time of the week at which the simulation begins [s after Monday 00:00]
    spikes, cv       as in `ProfileArrivals`
    """

    kind: Literal["diurnal"] = "diurnal"
    peak_to_mean: Annotated[float, Field(ge=1, le=2, allow_inf_nan=False, strict=True)]
    peak_s: Annotated[float, Field(ge=0, lt=DAY_S, allow_inf_nan=False, strict=True)] = 54_000.0
    day_factors: Annotated[tuple[Weight, ...], Field(min_length=7, max_length=7)] = (1.0,) * 7
    start_s: Annotated[float, Field(ge=0, lt=WEEK_S, allow_inf_nan=False, strict=True)] = 0.0
    spikes: tuple[Spike, ...] = ()
    cv: Variation = 1.0

    @model_validator(mode="after")
    def _some_day(self) -> "DiurnalArrivals":
        if sum(self.day_factors) <= 0:
            raise ValueError(f"day_factors must add up to more than 0, got {list(self.day_factors)}")
        return self

    def rate(self, horizon_s: float) -> PiecewiseRate:
        day = np.linspace(0.0, DAY_S, DAY_KNOTS)
        wave = 1 + (self.peak_to_mean - 1) * np.cos(2 * np.pi * (day - self.peak_s) / DAY_S)
        factor = np.array(self.day_factors) / np.mean(self.day_factors) * self.mean_rps
        first, into_s = divmod(self.start_s, DAY_S)
        days = np.arange(8) if into_s else np.arange(7)  # begun within a day, a week touches eight
        time_s = (day + DAY_S * days[:, None]).ravel() - into_s
        rate = (wave * factor[(days + int(first)) % 7, None]).ravel()
        if into_s:
            inside = (time_s > 0) & (time_s < WEEK_S)
            ends = np.interp([0.0, WEEK_S], time_s, rate)
            time_s = np.concatenate(([0.0], time_s[inside], [WEEK_S]))
            rate = np.concatenate((ends[:1], rate[inside], ends[1:]))
        return _unrolled(PiecewiseRate(time_s, rate), WEEK_S, horizon_s, self.spikes)

    def intervals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return unit_intervals(n, self.cv, rng)

    def variation(self) -> float:
        return self.cv


ArrivalConfig = Annotated[
    PoissonArrivals | GammaArrivals | WeibullArrivals | ConstantArrivals | ProfileArrivals | DiurnalArrivals,
    Field(discriminator="kind"),
]


def draw_arrivals(config: ArrivalConfig, rng: np.random.Generator, horizon_s: float) -> np.ndarray:
    """All arrivals [s] before ``horizon_s``, rising. Longer runs begin with the arrivals of shorter ones.

    Raises ServelabError for a profile whose period is too short for the horizon.
    """
    rate = config.rate(horizon_s)
    mean = rate.integral(horizon_s)
    chunk = int(mean + 6 * config.variation() * np.sqrt(mean) + 16)
    unit = config.intervals(chunk, rng)
    count = np.cumsum(unit)
    while count[-1] < mean:  # rare: the first chunk exceeds the mean by six standard deviations
        unit = np.concatenate((unit, config.intervals(chunk, rng)))
        count = np.cumsum(unit)
    arrival_s = rate.invert(count[: np.searchsorted(count, mean, "left")])
    return arrival_s[: np.searchsorted(arrival_s, horizon_s, "left")]


def _unrolled(
    once: PiecewiseRate, period_s: float | None, horizon_s: float, spikes: tuple[Spike, ...]
) -> PiecewiseRate:
    """The rate up to at least ``horizon_s``, with its spikes."""
    if period_s is not None:
        times = int(np.ceil(horizon_s / period_s))
        if times * len(once.time_s) > MAX_KNOTS:
            raise ServelabError(
                f"period_s {period_s} repeats {times} times in {horizon_s:.0f} s: at most "
                f"{MAX_KNOTS // len(once.time_s)} times for {len(once.time_s)} points; make it longer"
            )
        once = once.repeated(period_s, max(times, 1))
    for spike in spikes:
        once = once.scaled_between(spike.start_s, spike.start_s + spike.duration_s, spike.factor)
    return once
