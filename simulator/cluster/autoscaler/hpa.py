"""When replicas follow pod or external metrics on plain Kubernetes: the HorizontalPodAutoscaler (autoscaling/v2).

Sources: the Kubernetes documentation, page "Horizontal Pod Autoscaling" (sections "Algorithm details", "Support
for multiple metrics", "Configurable scaling behavior", "Default behavior"), and the controller behind it,
``pkg/controller/podautoscaler`` of Kubernetes 1.33 (``replica_calculator.go``, ``horizontal.go``).
"""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.cluster.autoscaler.base import Bounds, Decision, Metric, PodReading, Reading


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HpaMetric(_Part):
    """A metric and its target, in the metric's unit.

    ``target_average_value``: wanted for each pod. With ``external``, the metric is the deployment's total, and the
    target is its share for each pod (AverageValue) or, as ``target_value``, the total itself (Value).
    """

    metric: Metric
    external: bool = False
    target_average_value: float | None = Field(default=None, ge=0.001, allow_inf_nan=False)
    target_value: float | None = Field(default=None, ge=0.001, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_target(self) -> "HpaMetric":
        if (self.target_average_value is None) == (self.target_value is None):
            raise ValueError(
                f"metric {self.metric!r} has target_average_value {self.target_average_value} and target_value "
                f"{self.target_value}: expected exactly one of the two"
            )
        if self.target_value is not None and not self.external:
            raise ValueError(
                f"metric {self.metric!r} has target_value {self.target_value}: that needs external: true; a "
                "metric of pods has target_average_value"
            )
        return self


class ScalingPolicy(_Part):
    """At most ``value`` pods or percent of the replicas in any ``period_s`` [s] (1 to 1800, as in Kubernetes)."""

    type: Literal["percent", "pods"]
    value: int = Field(ge=1, le=2**31 - 1)
    period_s: float = Field(default=15.0, gt=0, le=1800)


class ScaleUp(_Part):
    """How fast replicas may be added; the defaults of the section "Default behavior".

    ``stabilization_window_s``: the lowest recommendation of that time holds [s]. ``select``: of the policies'
    limits, the one that allows the most change (max), the least (min), or no change at all (disabled).
    """

    stabilization_window_s: float = Field(default=0.0, ge=0, le=3600)
    policies: tuple[ScalingPolicy, ...] = Field(
        default=(ScalingPolicy(type="percent", value=100), ScalingPolicy(type="pods", value=4)), min_length=1
    )
    select: Literal["max", "min", "disabled"] = "max"


class ScaleDown(ScaleUp):
    """How fast replicas may be removed: as `ScaleUp`, but the highest recommendation of the window holds."""

    stabilization_window_s: float = Field(default=300.0, ge=0, le=3600)
    policies: tuple[ScalingPolicy, ...] = Field(default=(ScalingPolicy(type="percent", value=100),), min_length=1)


class HpaConfig(Bounds):
    """``sync_period_s``: time between decisions [s]. ``tolerance``: no action where |ratio - 1| is no more.

    Defaults: those of kube-controller-manager (sync 15 s, tolerance 0.1) and of the section "Default behavior".
    """

    kind: Literal["hpa"] = "hpa"
    metrics: tuple[HpaMetric, ...] = Field(min_length=1)
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    sync_period_s: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()


def milli(value: float) -> int:
    """A quantity of Kubernetes: thousandths. The controller's arithmetic starts from these whole numbers."""
    return round(value * 1000)


def within(ratio: float, tolerance: float) -> bool:
    """Whether ``ratio`` of value to target is too near 1 to act; both edges are."""
    return 1 - tolerance <= ratio <= 1 + tolerance


def pods_replicas(pods: Sequence[PodReading], metric: str, target: float, current: int, tolerance: float) -> int | None:
    """The proposal of a metric of pods with a target average (``calcPlainMetricReplicas``); None: no data.

    Pods that are not Ready are set aside; on a scale-up they count as 0. Ready pods without the metric count as
    at the target on a scale-down and as 0 on a scale-up. Where that turns the direction or brings the ratio
    within the tolerance, ``current`` stays. A pod is unready here when it is not Ready: the delays that
    Kubernetes has for starting pods (initial readiness 30 s, CPU initialisation 5 min) are for CPU only. The
    controller itself takes a Pending pod as unready, and a running one that is not Ready as missing until it
    has the metric and as any other from then on; a reading has no phases to tell them apart.
    """
    goal = milli(target)
    values = [milli(p.values[metric]) for p in pods if p.ready and metric in p.values]
    unready = sum(not p.ready for p in pods)
    missing = len(pods) - unready - len(values)
    if not values:
        return None
    ratio = sum(values) // len(values) / goal
    assumed = unready if ratio > 1 else 0
    if not assumed and not missing:
        return current if within(ratio, tolerance) else math.ceil(ratio * len(values))
    values += [goal if ratio < 1 else 0] * missing if ratio != 1 else []
    values += [0] * assumed
    again = sum(values) // len(values) / goal
    if within(again, tolerance) or ratio < 1 < again or again < 1 < ratio:
        return current
    wanted = math.ceil(again * len(values))
    turned = (again < 1 and wanted > current) or (again > 1 and wanted < current)
    return current if turned else wanted


def value_replicas(total: float, target: float, ready: int, current: int, tolerance: float) -> int:
    """The proposal of an external metric with a target Value: the ready pods times the ratio."""
    ratio = milli(total) / milli(target)
    return current if within(ratio, tolerance) else math.ceil(ratio * ready)


def average_replicas(total: float, target: float, pods: int, tolerance: float) -> int:
    """The proposal of an external metric with a target AverageValue: total / target, or ``pods``, which exist."""
    if pods and within(milli(total) / (milli(target) * pods), tolerance):
        return pods
    return math.ceil(milli(total) / milli(target))


def proposal(metric: HpaMetric, reading: Reading, tolerance: float) -> int | None:
    """The replicas that one metric proposes; None: the metric is missing altogether, or there are no pods."""
    if not metric.external:
        assert metric.target_average_value is not None
        target = metric.target_average_value
        return pods_replicas(reading.pods, metric.metric, target, reading.replicas, tolerance)
    total = reading.totals.get(metric.metric)
    if total is None:
        return None
    if metric.target_average_value is not None:
        return average_replicas(total, metric.target_average_value, len(reading.pods), tolerance)
    assert metric.target_value is not None
    if not reading.pods:
        return None
    return value_replicas(total, metric.target_value, reading.ready, reading.replicas, tolerance)


def largest(proposals: Sequence[int | None], current: int) -> int | None:
    """The largest proposal; None, to leave all as it is, if none is there or a missing one could forbid less."""
    known = [p for p in proposals if p is not None]
    if not known or (len(known) < len(proposals) and max(known) < current):
        return None
    return max(known)


def stabilized(
    wanted: int, current: int, now_s: float, past: Sequence[tuple[float, int]], up_s: float, down_s: float
) -> int:
    """``current`` moved no further than to the lowest (up) or highest (down) recommendation of the windows [s].

    ``past``: (time [s], recommendation). One that is a whole window old counts no more.
    """
    lowest = min([wanted, *(n for t, n in past if t > now_s - up_s)])
    highest = max([wanted, *(n for t, n in past if t > now_s - down_s)])
    return min(max(current, lowest), highest)


def _at_start(current: int, now_s: float, period_s: float, events: Sequence[tuple[float, int]]) -> int:
    """The replicas that there were a period ago: ``current`` less what was added, plus what was removed."""
    return current - sum(change for t, change in events if t > now_s - period_s)


def up_limit(current: int, now_s: float, events: Sequence[tuple[float, int]], rules: ScaleUp) -> int:
    """The most replicas that the policies allow; ``events``: (time [s], change of the replicas)."""
    if rules.select == "disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = _at_start(current, now_s, policy.period_s, events)
        grown = math.ceil(start * (1 + policy.value / 100))
        limits.append(start + policy.value if policy.type == "pods" else grown)
    return max(current, max(limits) if rules.select == "max" else min(limits))


def down_limit(current: int, now_s: float, events: Sequence[tuple[float, int]], rules: ScaleUp) -> int:
    """The fewest replicas that the policies allow; ``events``: (time [s], change of the replicas)."""
    if rules.select == "disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = _at_start(current, now_s, policy.period_s, events)
        shrunk = int(start * (1 - policy.value / 100))
        limits.append(start - policy.value if policy.type == "pods" else shrunk)
    return min(current, min(limits) if rules.select == "max" else max(limits))


class Hpa:
    """``ceil(current x ratio)``, the largest of several metrics; nothing within the tolerance; pods not ready and
    missing metrics count against the direction; stabilisation by the highest recommendation, then policies.

    Decides each sync period. History: recommendations and changes of the replicas, both with their times [s].
    """

    def __init__(self, config: HpaConfig) -> None:
        self.config, self.period_s = config, config.sync_period_s
        self._past: list[tuple[float, int]] | None = None
        self._events: list[tuple[float, int]] = []

    def decide(self, reading: Reading) -> Decision:
        decision = self._decision(reading)
        rules = (self.config.scale_up, self.config.scale_down)
        longest = max(policy.period_s for rule in rules for policy in rule.policies)
        self._events = [e for e in self._events if e[0] > reading.now_s - longest]
        if decision.replicas != reading.replicas:
            self._events.append((reading.now_s, decision.replicas - reading.replicas))
        return decision

    def _decision(self, reading: Reading) -> Decision:
        config, current, now_s = self.config, reading.replicas, reading.now_s
        past = [(now_s, current)] if self._past is None else self._past
        self._past = past
        if current == 0:
            return Decision(0, "disabled: replicas are 0")
        if config.clipped(current) != current:
            return Decision(config.clipped(current), f"{current} replicas are out of bounds")
        proposals = [proposal(m, reading, config.tolerance) for m in config.metrics]
        names = [m.metric for m in config.metrics]
        told = ", ".join(f"{n}: {'missing' if p is None else p}" for n, p in zip(names, proposals, strict=True))
        wanted = largest(proposals, current)
        if wanted is None:
            return Decision(current, f"{told}; a missing metric keeps {current}")
        up_s, down_s = config.scale_up.stabilization_window_s, config.scale_down.stabilization_window_s
        steady = stabilized(wanted, current, now_s, past, up_s, down_s)
        self._past = [(t, n) for t, n in past if t > now_s - max(up_s, down_s)] + [(now_s, wanted)]
        if steady != wanted:
            told += f"; stabilised at {steady}"
        most = min(config.max_replicas, up_limit(current, now_s, self._events, config.scale_up))
        least = max(config.min_replicas, down_limit(current, now_s, self._events, config.scale_down))
        allowed = min(max(steady, least), most)
        return Decision(allowed, told if allowed == steady else f"{told}; limited to {allowed}")
