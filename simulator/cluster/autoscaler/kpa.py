"""When Knative serves, and bursts must be met in seconds: the Knative Pod Autoscaler.

Sources: the Knative Serving documentation, pages "Configuring concurrency", "Configuring targets" (requests per
second), "Additional autoscaling configuration for Knative Pod Autoscaler" (stable window, panic mode, scale rates),
"Configuring scale bounds" and "Configuring scale to zero", and Knative's
``pkg/autoscaler/scaling/autoscaler.go`` and ``pkg/reconciler/autoscaling/kpa``.
"""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from simulator.cluster.autoscaler.base import MOST_REPLICAS, Bounds, Decision, Reading

TOTALS = {"concurrency": "concurrency", "rps": "request_rate"}
TARGETS = {"concurrency": 100.0, "rps": 200.0}


class KpaConfig(Bounds):
    """``target``: of ``metric`` for each pod, requests or requests/s; left out: 100 or 200, Knative's defaults.

    ``target_utilization``: the share of the target that is aimed at. ``stable_window_s`` [s], of which the panic
    window is ``panic_window_percentage`` (%). ``panic_threshold_percentage``: panic from that many % of the ready
    pods on. ``max_scale_up_rate``, ``max_scale_down_rate``: the most pods wanted, and the fewest, as a
    multiple and a fraction of the ready ones. ``scale_to_zero_grace_period_s``: how long the last pods stay
    once traffic has ended [s]. ``initial_scale``: the least until so many pods have been ready once.
    ``activation_scale``: the least while there is any traffic. ``tick_s``: time between decisions [s].
    """

    kind: Literal["kpa"] = "kpa"
    min_replicas: int = Field(default=0, ge=0, le=MOST_REPLICAS)
    metric: Literal["concurrency", "rps"] = "concurrency"
    target: float | None = Field(default=None, ge=0.01, allow_inf_nan=False)
    target_utilization: float = Field(default=0.7, gt=0, le=1)
    stable_window_s: float = Field(default=60.0, ge=6, le=3600)
    panic_window_percentage: float = Field(default=10.0, ge=1, le=100)
    panic_threshold_percentage: float = Field(default=200.0, ge=110, le=1000)
    max_scale_up_rate: float = Field(default=1000.0, gt=1, allow_inf_nan=False)
    max_scale_down_rate: float = Field(default=2.0, gt=1, allow_inf_nan=False)
    tick_s: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    scale_to_zero_grace_period_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    initial_scale: int = Field(default=1, ge=0)
    activation_scale: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _scales_in_bounds(self) -> "KpaConfig":
        for name in ("initial_scale", "activation_scale"):
            if getattr(self, name) > self.max_replicas:
                raise ValueError(f"{name} {getattr(self, name)} is above max_replicas {self.max_replicas}")
        return self

    @property
    def goal(self) -> float:
        """What is aimed at for each pod: the target times the utilization."""
        target = TARGETS[self.metric] if self.target is None else self.target
        return target * self.target_utilization

    @property
    def panic_window_s(self) -> float:
        return self.stable_window_s * self.panic_window_percentage / 100


def window_mean(samples: Sequence[tuple[float, float]], now_s: float, window_s: float) -> float | None:
    """The mean of the samples (time [s], value) that are less than ``window_s`` old; None without any."""
    values = [v for t, v in samples if t > now_s - window_s]
    return sum(values) / len(values) if values else None


def desired(value: float, ready: int, config: KpaConfig) -> int:
    """The pods for a window's mean, between the limits of the scale rates; ``ready``: at least 1.

    Traffic wants at least the activation scale. (The documentation says that this holds until the scale is
    reached once; Knative's code has no such memory, and neither has this.)
    """
    pods = math.ceil(value / config.goal)
    most = math.ceil(config.max_scale_up_rate * ready)
    least = math.floor(ready / config.max_scale_down_rate)
    limited = min(max(pods, least), most)
    return max(limited, config.activation_scale) if pods > 0 and config.activation_scale > 1 else limited


def panic_since(since_s: float | None, over: bool, now_s: float, stable_window_s: float) -> float | None:
    """When the threshold was last passed [s], or None once a stable window went by below it."""
    if over:
        return now_s
    return None if since_s is not None and now_s > since_s + stable_window_s else since_s


class Kpa:
    """The mean over a stable window and, in panic (load beyond a multiple of the target over the short window), over
    that one; panic never scales down; at most so many times up or down at once; to zero after a grace period.

    Decides each tick. History: samples, the panic and its most pods, and since when there is traffic or none.
    """

    def __init__(self, config: KpaConfig) -> None:
        self.config, self.period_s = config, config.tick_s
        self._samples: list[tuple[float, float]] = []
        self._panic_s: float | None = None
        self._panic_pods = 0
        self._started = self._initialised = False
        self._state, self._since_s = "activating", 0.0

    def decide(self, reading: Reading) -> Decision:
        self._start(reading)
        wanted, why = self._wanted(reading)
        least = self.config.min_replicas
        if not self._initialised:
            least = max(least, self.config.initial_scale)
        bounds = (least, self.config.max_replicas)
        held = _clip(reading.replicas, *bounds)
        if wanted is None:
            self._mark(None, reading, least)
            return Decision(held, why)
        wanted = _clip(wanted, *bounds)
        if wanted == 0:
            wanted, applied, note = self._to_zero(reading.now_s, held)
            self._mark(wanted, reading, least)
            return Decision(applied, f"{why}; {note}")
        self._mark(wanted, reading, least)
        return Decision(wanted, why)

    def _start(self, reading: Reading) -> None:
        config, now_s = self.config, reading.now_s
        if not self._started:
            self._started = True
            if reading.ready > 1:
                self._panic_s, self._panic_pods = now_s, reading.ready
        self._initialised = self._initialised or reading.ready >= config.initial_scale
        value = reading.totals.get(TOTALS[config.metric])
        self._samples = [s for s in self._samples if s[0] > now_s - config.stable_window_s]
        if value is not None:
            self._samples.append((now_s, value))

    def _wanted(self, reading: Reading) -> tuple[int | None, str]:
        """The pods of the two windows, before bounds and scale to zero; None: no data yet."""
        config, now_s = self.config, reading.now_s
        stable = window_mean(self._samples, now_s, config.stable_window_s)
        if stable is None:
            return None, f"no {TOTALS[config.metric]} in the stable window"
        panic = window_mean(self._samples, now_s, config.panic_window_s) or 0.0
        ready = max(1, reading.ready)
        over = math.ceil(panic / config.goal) / ready >= config.panic_threshold_percentage / 100
        self._panic_s = panic_since(self._panic_s, over, now_s, config.stable_window_s)
        pods = desired(stable, ready, config)
        why = f"{config.metric} {stable:g} (stable), {panic:g} (panic)"
        if self._panic_s is None:
            self._panic_pods = 0
            return pods, f"{why} wants {pods}"
        self._panic_pods = max(self._panic_pods, pods, desired(panic, ready, config))
        return self._panic_pods, f"{why} wants {self._panic_pods} in panic"

    def _to_zero(self, now_s: float, held: int) -> tuple[int | None, int, str]:
        """What is wanted where no pod is needed, what is applied, and why.

        One pod until the deployment was active for a stable window, then the grace period, then zero.
        """
        idle_s = now_s - self._since_s
        if self._state == "activating":
            return None, held, "no pod has been ready yet"
        if self._state == "active":
            if idle_s >= self.config.stable_window_s:
                return 0, held, "inactive from now on, grace period starts"
            return 1, 1, f"active for {idle_s:g} s only"
        if idle_s >= self.config.scale_to_zero_grace_period_s:
            return 0, 0, "grace period is over"
        return 0, held, f"grace period, {idle_s:g} s of it gone"

    def _mark(self, wanted: int | None, reading: Reading, least: int) -> None:
        """The state after a tick that wanted so many pods; None: it did not know (``computeActiveCondition``)."""
        state = self._state
        if wanted == 0:
            state = "inactive"
        elif wanted is not None or state != "inactive":
            state = "active" if reading.ready >= max(1, least) else "activating"
        if state != self._state:
            self._state, self._since_s = state, reading.now_s


def _clip(replicas: int, least: int, most: int) -> int:
    return min(max(replicas, least), most)
