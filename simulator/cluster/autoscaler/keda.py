"""When replicas should reach zero, or follow a metric from outside: KEDA, to zero and back by its own polls, from one
up by a HorizontalPodAutoscaler on an external metric.

Sources: the KEDA documentation, pages "ScaledObject specification" (pollingInterval, cooldownPeriod,
initialCooldownPeriod, idleReplicaCount, minReplicaCount, maxReplicaCount) and "Scaling Deployments, StatefulSets &
Custom Resources" (section "Activating and Scaling thresholds"), and KEDA's
``pkg/scaling/executor/scale_scaledobjects.go``.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from simulator.cluster.autoscaler.base import MOST_REPLICAS, Bounds, Decision, Metric, Reading
from simulator.cluster.autoscaler.hpa import Hpa, HpaConfig, HpaMetric, ScaleDown, ScaleUp


class KedaConfig(Bounds):
    """A ScaledObject with one trigger on ``metric``, a total of the deployment.

    ``threshold``: the total's target for each pod, in the metric's unit. ``activation_threshold``: the trigger is
    active above it. ``polling_interval_s``: between polls [s]. ``cooldown_period_s``: from the last active poll
    to zero [s]; ``initial_cooldown_period_s``: from the first decision, where no poll was active yet [s].
    ``idle_replica_count``: 0 (the only value that KEDA supports) for zero replicas while not active, and at
    least min_replicas while active. The other fields are those of the HPA that KEDA makes.
    """

    kind: Literal["keda"] = "keda"
    min_replicas: int = Field(default=0, ge=0, le=MOST_REPLICAS)
    max_replicas: int = Field(default=100, ge=1, le=MOST_REPLICAS)
    metric: Metric
    threshold: float = Field(ge=0.001, allow_inf_nan=False)
    activation_threshold: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    polling_interval_s: int = Field(default=30, ge=1)
    cooldown_period_s: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    initial_cooldown_period_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    idle_replica_count: Literal[0] | None = None
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    sync_period_s: int = Field(default=15, ge=1)
    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()

    @model_validator(mode="after")
    def _idle_below_min(self) -> "KedaConfig":
        if self.idle_replica_count is not None and self.idle_replica_count >= self.min_replicas:
            raise ValueError(
                f"idle_replica_count {self.idle_replica_count} is not below min_replicas {self.min_replicas}"
            )
        return self

    def hpa(self) -> HpaConfig:
        """The HorizontalPodAutoscaler that KEDA makes: it never wants less than one replica."""
        return HpaConfig(
            min_replicas=max(1, self.min_replicas),
            max_replicas=self.max_replicas,
            metrics=(HpaMetric(metric=self.metric, external=True, target_average_value=self.threshold),),
            tolerance=self.tolerance,
            sync_period_s=self.sync_period_s,
            scale_up=self.scale_up,
            scale_down=self.scale_down,
        )


def due(now_s: float, last_s: float | None, interval_s: float) -> bool:
    """Whether a multiple of ``interval_s`` lies in (last, now] (all [s]); always at first."""
    return last_s is None or math.floor(now_s / interval_s) > math.floor(last_s / interval_s)


def cooled(now_s: float, first_s: float, last_active_s: float | None, cooldown_s: float, initial_s: float) -> bool:
    """Whether the cooldown has passed since the last active poll, or, without any, the initial one since the start."""
    start, wait = (first_s, initial_s) if last_active_s is None else (last_active_s, cooldown_s)
    return now_s >= start + wait


def polled(active: bool, current: int, cool: bool, config: KedaConfig) -> int:
    """The replicas after a poll that found the trigger ``active`` or not; ``cool``: the cooldown is over."""
    idle = config.idle_replica_count is not None
    if active:
        asleep = current == 0 or (idle and current < config.min_replicas)
        return max(1, config.min_replicas) if asleep else current
    if current > 0 and (idle or config.min_replicas == 0):
        return 0 if cool else current
    return current if idle else max(current, config.min_replicas)


class Keda:
    """Its polls decide only between zero and one, after a cooldown; from one up the HPA decides on an external metric,
    without rules of readiness.

    Polls and HPA syncs, each at the multiples of its interval.
    """

    def __init__(self, config: KedaConfig) -> None:
        self.config, self._hpa = config, Hpa(config.hpa())
        self.period_s = float(math.gcd(config.sync_period_s, config.polling_interval_s))
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._last_active_s: float | None = None

    def decide(self, reading: Reading) -> Decision:
        now_s, last_s = reading.now_s, self._last_s
        self._last_s = now_s
        self._first_s = now_s if self._first_s is None else self._first_s
        if due(now_s, last_s, self.config.polling_interval_s):
            after = self._poll(reading, self._first_s)
            if after.replicas != reading.replicas:
                return after
        if due(now_s, last_s, self.config.sync_period_s):
            return self._hpa.decide(reading)
        return Decision(reading.replicas, "neither a poll nor a sync is due")

    def _poll(self, reading: Reading, first_s: float) -> Decision:
        config, current, now_s = self.config, reading.replicas, reading.now_s
        total = reading.totals.get(config.metric)
        if total is None:
            return Decision(current, f"poll: {config.metric} is missing")
        active = total > config.activation_threshold
        if active:
            self._last_active_s = now_s
        waits = config.cooldown_period_s, config.initial_cooldown_period_s
        wanted = polled(active, current, cooled(now_s, first_s, self._last_active_s, *waits), config)
        return Decision(wanted, f"poll: {config.metric} is {total:g}, {'active' if active else 'not active'}")
