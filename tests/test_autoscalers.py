"""Autoscalers against tables worked by hand from the documentation of Kubernetes, KEDA and Knative."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from simulator.cluster.autoscaler import AUTOSCALERS, AutoscalerConfig, PodReading, Reading, make_autoscaler
from simulator.cluster.autoscaler.hpa import (
    HpaConfig,
    ScaleDown,
    ScaleUp,
    average_replicas,
    down_limit,
    largest,
    pods_replicas,
    stabilized,
    up_limit,
    value_replicas,
)
from simulator.cluster.autoscaler.keda import KedaConfig, cooled, due, polled
from simulator.cluster.autoscaler.kpa import KpaConfig, desired, panic_since, window_mean

ADAPTER = TypeAdapter(AutoscalerConfig)
UNREADY, MISSING = "unready", "missing"


def pods(*values, metric="concurrency"):
    """A pod for each value; "unready" and "missing" for pods that are not ready, or have no value yet."""
    return tuple(
        PodReading(
            i,
            0.0,
            v != UNREADY,
            None if v == UNREADY else 0.0,
            {} if v in (UNREADY, MISSING) else {metric: v},
        )
        for i, v in enumerate(values)
    )


def reading(now_s, replicas, values=(), metric="concurrency", **totals):
    return Reading(now_s, replicas, pods(*values, metric=metric), totals)


def config(kind, **fields):
    return ADAPTER.validate_python({"kind": kind, **fields})


def run(scaler, start, loads, metric="concurrency"):
    """The replicas after each decision; every pod is ready at once, ``loads`` are totals shared evenly."""
    replicas, out = start, []
    for i, load in enumerate(loads):
        values = [load / replicas] * replicas if replicas else []
        replicas = scaler.decide(
            reading(i * scaler.period_s, replicas, values, metric, **{metric: load})
        ).replicas
        out.append(replicas)
    return out


# ---------------------------------------------------------------- HPA: the ratio


@pytest.mark.parametrize(
    "values, target, current, wanted",
    [
        ([0.2, 0.2], 0.1, 2, 4),  # "200m against 100m doubles": 2 * 2.0
        ([0.05, 0.05], 0.1, 2, 1),  # "50m against 100m halves": 2 * 0.5
        ([90] * 10, 100, 10, 10),  # ratio 0.9: the lower edge is still within
        ([89] * 10, 100, 10, 9),  # 0.89 * 10 = 8.9 -> 9
        ([110] * 10, 100, 10, 10),  # 1.1: the upper edge is still within
        ([111] * 10, 100, 10, 12),  # 1.11 * 10 = 11.1 -> 12
        ([1.3, 1.3, 1.3], 1, 3, 4),  # 1.3 * 3 = 3.9 -> 4
        ([0.1, 0.2, 0.3], 0.2, 3, 3),  # mean 0.2 exactly, in thousandths: nothing to do
        ([300, 0], 100, 2, 3),  # mean 150: 1.5 * 2 = 3
        ([0, 0], 100, 2, 0),  # nothing at all (the bounds come later)
        # unready pods count 0 on a scale-up
        (
            [200, 200, UNREADY],
            100,
            3,
            4,
        ),  # ratio 2; (200 + 200 + 0) / 3 = 133.333 -> 1.33333 * 3 = 3.99999 -> 4
        ([150, 150, UNREADY], 100, 3, 3),  # ratio 1.5; 300 / 3 = 100: within, stay
        ([150, UNREADY, UNREADY], 100, 3, 3),  # ratio 1.5; 150 / 3 = 50: direction turned, stay
        ([400, UNREADY], 100, 2, 4),  # ratio 4; 400 / 2 = 200 -> 2 * 2
        # and are set aside on a scale-down
        ([50, 50, UNREADY], 100, 3, 1),  # ratio 0.5 over the two ready: 0.5 * 2 = 1
        # missing pods count 0 on a scale-up
        ([300, 300, MISSING], 100, 3, 6),  # ratio 3; 600 / 3 = 200 -> 2 * 3
        ([140, 140, MISSING], 100, 3, 3),  # ratio 1.4; 280 / 3 = 93.3: turned (and within), stay
        # and the target on a scale-down
        ([10, 10, MISSING], 100, 3, 2),  # ratio 0.1; (10 + 10 + 100) / 3 = 40 -> 0.4 * 3 = 1.2 -> 2
        ([80, 80, MISSING, MISSING], 100, 4, 4),  # ratio 0.8; 360 / 4 = 90: within, stay
        # both: on a scale-down only the missing one is filled in
        ([20, 20, UNREADY, MISSING], 100, 4, 2),  # (20 + 20 + 100) / 3 = 46.666 -> 0.46666 * 3 = 1.4 -> 2
        # on a scale-up both count 0
        ([600, UNREADY, MISSING], 100, 3, 6),  # 600 / 3 = 200 -> 2 * 3
        # pods of an earlier, larger size: more pods than are wanted; a proposal against the direction is dropped
        (
            [70, 70, 70, MISSING],
            100,
            2,
            2,
        ),  # 310 / 4 = 77.5 -> 0.775 * 4 = 3.1 -> 4 > 2 while ratio < 1: stay
        ([150, 150, UNREADY], 100, 5, 5),  # within after filling in: 5, not 3
        ([240, UNREADY], 100, 5, 5),  # 240 / 2 = 120 -> 1.2 * 2 = 2.4 -> 3 < 5 while ratio > 1: stay
        ([UNREADY, MISSING], 100, 2, None),  # no value of any ready pod
        ([], 100, 2, None),
    ],
)
def test_hpa_metric_of_pods(values, target, current, wanted):
    assert pods_replicas(pods(*values), "concurrency", target, current, 0.1) == wanted


def test_an_unready_pod_is_unready_whatever_its_value():
    busy = PodReading(1, 0.0, False, None, {"concurrency": 900.0})
    assert pods_replicas((*pods(200), busy), "concurrency", 100, 2, 0.1) == 2  # 200 / 2 = 100: within


@pytest.mark.parametrize(
    "total, target, ready, current, wanted",
    [
        (300, 100, 2, 2, 6),  # ratio 3 * 2 ready
        (300, 100, 2, 4, 6),  # two of four are ready: only they are multiplied
        (110, 100, 2, 4, 4),  # within: spec.replicas stay
        (111, 100, 2, 4, 3),  # 1.11 * 2 = 2.22 -> 3
        (50, 100, 5, 5, 3),  # 2.5 -> 3
    ],
)
def test_hpa_external_value(total, target, ready, current, wanted):
    assert value_replicas(total, target, ready, current, 0.1) == wanted


@pytest.mark.parametrize(
    "total, target, existing, wanted",
    [
        (100, 10, 4, 10),  # 100 / 10
        (44, 10, 4, 4),  # 44 / 40 = 1.1: within
        (45, 10, 4, 5),  # 1.125: 4.5 -> 5
        (36, 10, 4, 4),  # 0.9: within
        (35, 10, 4, 4),  # 0.875: 3.5 -> 4
        (21, 10, 4, 3),  # 2.1 -> 3
        (0, 10, 4, 0),
        (25, 10, 0, 3),  # no pods: no ratio, 2.5 -> 3
    ],
)
def test_hpa_external_average(total, target, existing, wanted):
    assert average_replicas(total, target, existing, 0.1) == wanted


@pytest.mark.parametrize(
    "proposals, current, wanted",
    [
        ([3, 7, 5], 4, 7),
        ([2, 3], 4, 3),
        ([2, None], 4, None),  # scale-down is forbidden by the missing one
        ([6, None], 4, 6),  # scale-up is not
        ([4, None], 4, 4),
        ([None, None], 4, None),
    ],
)
def test_hpa_several_metrics(proposals, current, wanted):
    assert largest(proposals, current) == wanted


def test_hpa_missing_metric_forbids_scale_down_only():
    # token_rate is missing; concurrency: mean 20 against 100 wants ceil(0.2 * 4) = 1, mean 200 wants 8
    metrics = [
        {"metric": "concurrency", "target_average_value": 100},
        {"metric": "token_rate", "target_average_value": 100, "external": True},
    ]
    down = {"stabilization_window_s": 0}
    fields = {"metrics": metrics, "max_replicas": 10, "scale_down": down}
    scaler = make_autoscaler(config("hpa", **fields))
    assert scaler.decide(reading(0, 4, [20] * 4)).replicas == 4
    assert scaler.decide(reading(15, 4, [200] * 4)).replicas == 8
    # with both: ceil(0.2 * 4) = 1 and ceil(250 / 100) = 3, the larger
    scaler = make_autoscaler(config("hpa", **fields))
    assert scaler.decide(reading(0, 4, [20] * 4, token_rate=250)).replicas == 3


# ---------------------------------------------------------------- HPA: behaviour


@pytest.mark.parametrize(
    "wanted, up_s, down_s, result",
    [
        # current 5 at time 100; recommendations: 8 at 0, 3 at 40, 6 at 80
        (9, 0, 0, 9),
        (9, 30, 0, 6),  # since 70: {6}; the lowest
        (9, 60, 0, 6),  # 40 is exactly 60 s ago: counts no more
        (9, 61, 0, 5),  # {3, 6}: the lowest is 3, but up never goes below the current 5
        (1, 0, 0, 1),
        (1, 0, 30, 5),  # {6}: the highest is 6, but down never goes above 5
        (4, 0, 10, 4),  # nothing in the window
    ],
)
def test_hpa_stabilization(wanted, up_s, down_s, result):
    assert stabilized(wanted, 5, 100, [(0, 8), (40, 3), (80, 6)], up_s, down_s) == result


def test_hpa_down_window_is_the_highest_of_it():
    # current 10; recommendations 4 and 7 in the window, now 2: down to 7
    assert stabilized(2, 10, 100, [(50, 4), (60, 7)], 0, 300) == 7


def policies(*of, select="max", rule=ScaleUp):
    return rule(
        policies=[dict(zip(("type", "value", "period_s"), p, strict=True)) for p in of], select=select
    )


@pytest.mark.parametrize(
    "current, events, rules, limit",
    [
        (1, [], ScaleUp(), 5),  # max(1 * 2, 1 + 4)
        (10, [], ScaleUp(), 20),  # max(10 * 2, 14)
        (10, [], policies(("percent", 100, 15), ("pods", 4, 15), select="min"), 14),
        (10, [], policies(("pods", 4, 15), select="disabled"), 10),
        (10, [], policies(("percent", 25, 15)), 13),  # 12.5 -> 13
        (8, [(90, 4)], policies(("pods", 4, 60)), 8),  # 4 of 4 were added in the period: 4 + 4
        (8, [(90, 3)], policies(("pods", 4, 60)), 9),  # start 5, + 4
        (8, [(40, 4)], policies(("pods", 4, 60)), 12),  # exactly a period ago: counts no more
        (8, [(90, -2)], policies(("pods", 4, 60)), 14),  # 2 were removed: start 10, + 4
        (8, [(90, 6)], policies(("percent", 50, 60)), 8),  # start 2, * 1.5 = 3, but not below 8
        (8, [(60, 4), (95, 2)], policies(("pods", 5, 30), ("pods", 6, 60)), 11),  # 6 + 5 = 11; 2 + 6 = 8
    ],
)
def test_hpa_up_limit(current, events, rules, limit):
    assert up_limit(current, 100, events, rules) == limit


@pytest.mark.parametrize(
    "current, events, rules, limit",
    [
        (10, [], ScaleDown(), 0),  # 100 %
        # the documentation's example: 10 % or 4 pods per 60 s, of 80 and of 10
        (80, [], policies(("pods", 4, 60), ("percent", 10, 60)), 72),
        (10, [], policies(("pods", 4, 60), ("percent", 10, 60)), 6),
        (80, [], policies(("pods", 4, 60), ("percent", 10, 60), select="min"), 76),
        (80, [], policies(("pods", 4, 60), select="disabled"), 80),
        (76, [(90, -4)], policies(("pods", 4, 60)), 76),  # 4 of 4 are gone: 80 - 4
        (76, [(90, -1)], policies(("pods", 4, 60)), 73),  # 77 - 4
        (76, [(40, -4)], policies(("pods", 4, 60)), 72),
        (10, [(90, 6)], policies(("percent", 50, 60)), 2),  # 6 were added: start 4, half of it
        (7, [], policies(("percent", 50, 60)), 3),  # 3.5 -> 3
    ],
)
def test_hpa_down_limit(current, events, rules, limit):
    assert down_limit(current, 100, events, rules) == limit


def hpa(**fields):
    metrics = [{"metric": "concurrency", "target_average_value": 10}]
    return make_autoscaler(config("hpa", **{"metrics": metrics, "max_replicas": 100, **fields}))


def test_hpa_default_scale_up_in_time():
    # total 1000 at target 10 wants 100; limits: 1 + 4 = 5, 5 * 2 = 10, 20, 40, 80, then all 100 of the bound
    assert run(hpa(), 1, [1000] * 7) == [5, 10, 20, 40, 80, 100, 100]


def test_hpa_scale_down_waits_for_its_window():
    # The first recommendation is the 10 there are, at time 0; 5 wants 1. It is 300 s old at the 21st decision.
    replicas = run(hpa(), 10, [5] * 22)
    assert replicas == [10] * 20 + [1, 1]


def test_hpa_scale_down_to_the_highest_recommendation():
    # at 0 s: 10 (and the total 100 agrees); from 15 s 62 wants 7 once, then 5 wants 1.
    # The 10 of time 0 leaves the window at 300 s, the 7 of 15 s at 315 s.
    replicas = run(hpa(), 10, [100, 62] + [5] * 21)
    assert replicas[19:23] == [10, 7, 1, 1]


def test_hpa_up_window_waits_too():
    # 60 s of up window: the current 2 stays the lowest until its recommendation at time 0 is 60 s old
    scaler = hpa(scale_up={"stabilization_window_s": 60})
    assert run(scaler, 2, [40] * 6) == [2, 2, 2, 2, 4, 4]


def test_hpa_events_limit_over_longer_periods():
    # 4 pods in 60 s, decisions each 15 s: 6 at 0, full until 60
    scaler = hpa(scale_up={"policies": [{"type": "pods", "value": 4, "period_s": 60}]})
    assert run(scaler, 2, [1000] * 6) == [6, 6, 6, 6, 10, 10]


def test_hpa_bounds_and_zero():
    assert hpa(max_replicas=6).decide(reading(0, 9, [10] * 9)).replicas == 6  # above the bound: at once
    assert hpa(min_replicas=3).decide(reading(0, 2, [10] * 2)).replicas == 3
    assert hpa().decide(reading(0, 0, concurrency=50)).replicas == 0  # set to zero by hand: disabled
    down = {"stabilization_window_s": 0}
    assert hpa(min_replicas=2, scale_down=down).decide(reading(0, 4, [0] * 4)).replicas == 2


# ---------------------------------------------------------------- KEDA


def keda(**fields):
    return make_autoscaler(config("keda", **{"metric": "queue_depth", "threshold": 5, **fields}))


@pytest.mark.parametrize(
    "now_s, last_s, is_due",
    [(0, None, True), (7, None, True), (15, 0, False), (30, 15, True), (31, 29, True), (59, 30, False)],
)
def test_keda_polls_at_multiples(now_s, last_s, is_due):
    assert due(now_s, last_s, 30) is is_due


def test_keda_cooldown_edges():
    assert not cooled(299.9, 0, 0, 300, 0)
    assert cooled(300, 0, 0, 300, 0)
    assert cooled(0, 0, None, 300, 0)  # never active: only the initial cooldown, none
    assert not cooled(59, 0, None, 300, 60)
    assert cooled(60, 0, None, 300, 60)


@pytest.mark.parametrize(
    "active, current, cool, fields, wanted",
    [
        (True, 0, True, {}, 1),
        (True, 0, True, {"min_replicas": 3}, 3),
        (True, 7, True, {}, 7),  # the HPA's business
        (False, 7, False, {}, 7),
        (False, 7, True, {}, 0),  # to zero from any number
        (False, 7, True, {"min_replicas": 1}, 7),  # never to zero
        (False, 0, True, {"min_replicas": 2}, 2),
        (False, 0, True, {}, 0),
        (False, 7, True, {"min_replicas": 2, "idle_replica_count": 0}, 0),
        (False, 0, True, {"min_replicas": 2, "idle_replica_count": 0}, 0),
        (True, 0, True, {"min_replicas": 2, "idle_replica_count": 0}, 2),
        (True, 1, True, {"min_replicas": 2, "idle_replica_count": 0}, 2),
    ],
)
def test_keda_poll(active, current, cool, fields, wanted):
    assert polled(active, current, cool, KedaConfig(metric="queue_depth", threshold=5, **fields)) == wanted


def test_keda_from_zero_and_up():
    # Polls at 0, 30, ...: the 22 waiting since 15 s are seen at 30 s, 0 -> 1; the HPA at 45 s: 22 / 5 -> 5
    assert run(keda(), 0, [0, 22, 22, 22, 22], "queue_depth") == [0, 0, 1, 5, 5]


def test_keda_activation_threshold_is_exceeded_not_met():
    assert run(keda(activation_threshold=3), 0, [3, 3, 3, 3, 4, 4], "queue_depth") == [0, 0, 0, 0, 1, 1]


def test_keda_cooldown_to_zero():
    # Active at 0 and never again. The HPA holds 2 for 300 s (its window, from time 0), and the poll at 300 s
    # finds the cooldown over. With a cooldown of 600 s the HPA goes to 1 at 300 s, and zero comes at 600 s.
    assert run(keda(), 2, [10] + [0] * 20, "queue_depth") == [2] * 20 + [0]
    late = run(keda(cooldown_period_s=600), 2, [10] + [0] * 40, "queue_depth")
    assert late == [2] * 20 + [1] * 20 + [0]


def test_keda_activity_restarts_the_cooldown():
    # Active polls at 0 and 150 s: zero at 450 s = 30 decisions later. The 1 waiting at 135 s is not polled.
    loads = [4] + [0] * 9 + [1] + [0] * 20
    assert run(keda(), 1, loads, "queue_depth") == [1] * 30 + [0]
    loads = [4] + [0] * 8 + [1] + [0] * 11
    assert run(keda(), 1, loads, "queue_depth") == [1] * 20 + [0]


def test_keda_never_to_zero_with_a_minimum():
    assert run(keda(min_replicas=1), 1, [0] * 60, "queue_depth") == [1] * 60


def test_keda_never_active_needs_no_cooldown():
    assert run(keda(), 2, [0] * 2, "queue_depth") == [0, 0]
    assert run(keda(initial_cooldown_period_s=60), 2, [0] * 5, "queue_depth") == [2, 2, 2, 2, 0]


def test_keda_missing_metric_keeps_all():
    scaler = keda(cooldown_period_s=0)
    assert [scaler.decide(reading(t, 3, [1] * 3)).replicas for t in (0, 15, 30)] == [3, 3, 3]


def test_keda_polls_between_syncs():
    scaler = keda(polling_interval_s=10)  # syncs each 15 s, so decisions each 5 s
    assert scaler.period_s == 5
    assert run(scaler, 0, [0, 9, 9, 9, 9], "queue_depth") == [
        0,
        0,
        1,
        2,
        2,
    ]  # poll at 10 s; sync at 15 s: 9 / 5
    assert keda().period_s == 15


# ---------------------------------------------------------------- KPA


def kpa(**fields):
    return make_autoscaler(config("kpa", **{"max_replicas": 1000, **fields}))


def test_kpa_window_mean():
    samples = [(0, 10.0), (2, 20.0), (4, 60.0)]
    assert window_mean(samples, 4, 60) == 30  # 90 / 3
    assert window_mean(samples, 6, 6) == 40  # the sample of time 0 is 6 s old: out; 80 / 2
    assert window_mean(samples, 70, 60) is None


@pytest.mark.parametrize(
    "value, ready, fields, wanted",
    [
        (70, 1, {}, 1),  # the goal is 100 * 0.7 = 70
        (71, 1, {}, 2),
        (700, 2, {}, 10),
        (140, 1, {"metric": "rps"}, 1),  # 200 * 0.7 = 140
        (141, 1, {"metric": "rps"}, 2),
        (700, 1, {"target": 10, "target_utilization": 1}, 70),
        (700, 2, {"max_scale_up_rate": 3}, 6),  # 10, but at most 3 * 2
        (210, 2, {"max_scale_up_rate": 1.1}, 3),  # ceil(1.1 * 2 = 2.2): one more is always possible
        (70, 9, {}, 4),  # floor(9 / 2) at least
        (70, 9, {"max_scale_down_rate": 10}, 1),
        (0, 1, {}, 0),  # floor(1 / 2)
        (0, 2, {}, 1),
        (70, 1, {"activation_scale": 3}, 3),
        (0, 1, {"activation_scale": 3}, 0),  # no traffic, no activation
        (700, 1, {"activation_scale": 3}, 10),
    ],
)
def test_kpa_desired(value, ready, fields, wanted):
    assert desired(value, ready, KpaConfig(max_replicas=1000, **fields)) == wanted


@pytest.mark.parametrize(
    "since, over, now_s, after",
    [
        (None, False, 10, None),
        (None, True, 10, 10),  # entry
        (10, True, 20, 20),  # still over: the stable window starts anew
        (20, False, 80, 20),  # exactly a window: not longer yet
        (20, False, 82, None),
    ],
)
def test_kpa_panic_state(since, over, now_s, after):
    assert panic_since(since, over, now_s, 60) == after


def test_kpa_panic_needs_twice_the_ready_pods():
    # One ready pod, steady for 60 s at 70 (wants 1). Then 210 in flight: the panic window (6 s, 3 samples) has
    # 350 / 3 = 117 -> 2 pods >= 2 * 1: panic; stable (29 * 70 + 210) / 30 = 74.7 -> 2 as well.
    scaler = kpa()
    replicas = run_fixed(scaler, 1, [70.0] * 30 + [210.0, 210.0, 210.0])
    # then (70 + 2 * 210) / 3 = 163 -> 3, then 210 -> 3
    assert replicas == [1] * 30 + [2, 3, 3]
    # With a threshold of 400 % there is no panic, only the stable window: 84 -> 2
    assert run_fixed(kpa(panic_threshold_percentage=400), 1, [70.0] * 30 + [210.0] * 3) == [1] * 30 + [
        2,
        2,
        2,
    ]


def run_fixed(scaler, ready, loads, metric="concurrency"):
    """As `run`, with ``ready`` pods whatever is decided."""
    out, replicas = [], ready
    for i, load in enumerate(loads):
        replicas = scaler.decide(
            reading(i * scaler.period_s, replicas, [0.0] * ready, **{metric: load})
        ).replicas
        out.append(replicas)
    return out


def test_kpa_panic_never_scales_down_and_ends_after_a_stable_window():
    # A burst of one sample, 700 at time 0: 10 pods >= 2 * 1, panic. Pods follow at once (10 ready), so from 2 s on
    # the panic window's 700 / 2 = 350 -> 5 pods is below 2 * 10. Panic lasts while now <= 0 + 60.
    # At 62 s: stable window 0 (the burst is 62 s old), so wants floor(10 / 2) = 5, then 2, 1, and 1 by scale to zero.
    replicas = run(kpa(), 1, [700.0] + [0.0] * 34)
    assert replicas == [10] * 31 + [5, 2, 1, 1]


def test_kpa_starts_in_panic_with_several_pods():
    # 4 ready at the start: held for 60 s though 70 in flight want max(1, floor(4 / 2)) = 2
    assert run(kpa(), 4, [70.0] * 33) == [4] * 31 + [2, 1]
    assert run(kpa(), 1, [70.0] * 3) == [1, 1, 1]


def test_kpa_to_zero_with_grace():
    # One pod, active at 0. No traffic. Zero is wanted at once, but 1 stays until it was active for 60 s; from then
    # (60 s) inactive; 30 s of grace: zero at 90 s, the 46th decision.
    assert run(kpa(), 1, [0.0] * 47) == [1] * 45 + [0, 0]
    assert run(kpa(scale_to_zero_grace_period_s=0), 1, [0.0] * 33) == [1] * 31 + [0, 0]
    assert run(kpa(min_replicas=1), 1, [0.0] * 60) == [1] * 60


def test_kpa_traffic_in_the_grace_period_keeps_the_pod():
    # Inactive at 60 s; a request at 80 s makes it active again. It leaves the stable window at 140 s, when it was
    # active for 60 s: inactive then, zero 30 s later, at 170 s.
    loads = [0.0] * 40 + [1.0] + [0.0] * 46
    assert run(kpa(), 1, loads) == [1] * 85 + [0, 0]


def test_kpa_from_zero_and_before_the_first_pod():
    scaler = kpa(initial_scale=0)
    assert scaler.decide(reading(0, 0, concurrency=0)).replicas == 0
    # 7 wait: two samples, mean 3.5 -> 1 pod
    assert scaler.decide(reading(2, 0, concurrency=7)).replicas == 1
    # the pod starts for 100 s, and traffic ends: it is not taken away before it was ready
    replicas = [scaler.decide(reading(t, 1, [UNREADY], concurrency=0)).replicas for t in range(4, 104, 2)]
    assert replicas == [1] * 50


def test_kpa_initial_scale_holds_until_it_was_reached():
    scaler = kpa(initial_scale=3)
    assert scaler.decide(reading(0, 1, [0], concurrency=10)).replicas == 3
    assert scaler.decide(reading(2, 3, [0, UNREADY, UNREADY], concurrency=10)).replicas == 3
    # reached: max(1, floor(3 / 2)) = 1
    assert scaler.decide(reading(4, 3, [0, 0, 0], concurrency=10)).replicas == 1


def test_kpa_no_data_keeps_all():
    scaler = kpa()
    assert scaler.decide(reading(0, 5, [0] * 5)).replicas == 5
    assert kpa(metric="rps").decide(reading(0, 1, [0], concurrency=9000, request_rate=300)).replicas == 3


# ---------------------------------------------------------------- scheduled, none


def test_schedule_over_midnight():
    schedule = [
        {"from": "08:30", "replicas": 6},
        {"from": 43200, "replicas": 9},
        {"from": "22:00", "replicas": 2},
    ]
    scaler = make_autoscaler(config("scheduled", schedule=schedule))
    times = {
        0: 2,  # before the first entry the last one holds
        30599: 2,
        30600: 6,  # 8.5 h * 3600
        43199: 6,
        43200: 9,
        79199: 9,
        79200: 2,  # 22 * 3600
        86400: 2,  # midnight
        86400 + 30600: 6,
        10 * 86400 + 50000: 9,
    }
    assert {t: scaler.decide(reading(t, 1)).replicas for t in times} == times


@pytest.mark.parametrize(
    "schedule, message",
    [
        ([], "at least 1"),
        ([{"from": "09:00", "replicas": 1}, {"from": "08:00", "replicas": 2}], "28800 s comes after 32400 s"),
        ([{"from": "09:00", "replicas": 1}, {"from": 32400, "replicas": 2}], "32400 s comes after 32400 s"),
        ([{"from": "24:00", "replicas": 1}], "'24:00'"),
        ([{"from": "noon", "replicas": 1}], "'noon'"),
        ([{"from": 86400, "replicas": 1}], "less than 86400"),
        ([{"from": 1080, "replicas": 1}], "'18:00' in quotes"),  # what YAML makes of 18:00
        ([{"from": 0, "replicas": 9}], "9 replicas from 0 s on .* max_replicas 8"),
        ([{"from": 0, "replicas": 0}], "greater than or equal to 1"),
    ],
)
def test_schedule_errors(schedule, message):
    with pytest.raises(ValidationError, match=message):
        config("scheduled", schedule=schedule, max_replicas=8)


def test_none_keeps():
    scaler = make_autoscaler(config("none"))
    assert scaler.decide(reading(0, 7, [500] * 7, concurrency=9e9)).replicas == 7
    assert scaler.period_s == math.inf


# ---------------------------------------------------------------- configs and properties

ONE = {
    "hpa": {"metrics": [{"metric": "kv_use", "target_average_value": 0.7}], "max_replicas": 9},
    "keda": {"metric": "queue_depth", "threshold": 4},
    "kpa": {"max_replicas": 9},
    "scheduled": {"schedule": [{"from": "00:18", "replicas": 3}]},
    "none": {},
}


@pytest.mark.parametrize("kind", AUTOSCALERS)
def test_configs_survive_json_and_have_bounds(kind):
    made = config(kind, **ONE[kind])
    assert ADAPTER.validate_python(json.loads(made.model_dump_json(exclude_none=True))) == made
    with pytest.raises(ValidationError, match="min_replicas 5 is above max_replicas 4"):
        config(kind, **{**ONE[kind], "min_replicas": 5, "max_replicas": 4})
    lowest = 0 if kind in ("keda", "kpa") else 1
    config(kind, **{**ONE[kind], "min_replicas": lowest})
    with pytest.raises(ValidationError, match="min_replicas"):
        config(kind, **{**ONE[kind], "min_replicas": lowest - 1})
    with pytest.raises(ValidationError, match="forbidden"):
        config(kind, **{**ONE[kind], "replicas": 4})


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        ("hpa", {"metrics": []}, "at least 1"),
        (
            "hpa",
            {"metrics": [{"metric": "kv_usage", "target_average_value": 1}]},
            "'kv_usage': the engine does not emit it .did you mean 'kv_use'",
        ),
        (
            "hpa",
            {"metrics": [{"metric": "cpu", "target_average_value": 1}]},
            "'cpu': the engine does not emit it",
        ),
        ("hpa", {"metrics": [{"metric": "kv_use"}]}, "exactly one"),
        (
            "hpa",
            {
                "metrics": [
                    {"metric": "kv_use", "target_value": 1, "target_average_value": 1, "external": True}
                ]
            },
            "exactly one",
        ),
        (
            "hpa",
            {"metrics": [{"metric": "kv_use", "target_value": 1}]},
            "target_value 1.0: that needs external",
        ),
        ("hpa", {"metrics": [{"metric": "kv_use", "target_average_value": 0}]}, "0.001"),
        ("hpa", {"scale_up": {"policies": []}}, "at least 1"),
        ("hpa", {"scale_up": {"policies": [{"type": "pods", "value": 1, "period_s": 1801}]}}, "1800"),
        ("hpa", {"scale_down": {"stabilization_window_s": 3601}}, "3600"),
        ("keda", {"metric": "requests"}, "engine does not emit it .did you mean 'request_rate'"),
        ("keda", {"idle_replica_count": 1, "min_replicas": 2}, "0"),
        ("keda", {"idle_replica_count": 0}, "idle_replica_count 0 is not below min_replicas 0"),
        ("kpa", {"metric": "kv_use"}, "'concurrency' or 'rps'"),
        ("kpa", {"initial_scale": 10}, "initial_scale 10 is above max_replicas 9"),
        ("kpa", {"activation_scale": 10}, "activation_scale 10 is above max_replicas 9"),
        ("kpa", {"max_scale_down_rate": 1}, "greater than 1"),
    ],
)
def test_config_errors(kind, fields, message):
    with pytest.raises(ValidationError, match=message):
        config(kind, **{**ONE[kind], **fields})


def test_partial_behaviour_keeps_the_other_defaults():
    down = HpaConfig(**ONE["hpa"], scale_down={"select": "min"}).scale_down
    assert (down.stabilization_window_s, down.policies[0].value, len(down.policies)) == (300, 100, 1)


@st.composite
def histories(draw):
    least, span = draw(st.integers(0, 4)), draw(st.integers(0, 8))
    bounds = {"min_replicas": least, "max_replicas": max(1, least + span)}
    loads = st.lists(st.one_of(st.none(), st.floats(0, 1e4)), min_size=1, max_size=60)
    states = st.lists(st.sampled_from(["ready", UNREADY, MISSING]), min_size=12, max_size=12)
    return bounds, draw(st.integers(0, 20)), draw(loads), draw(states), draw(st.integers(1, 5))


@pytest.mark.parametrize("kind", AUTOSCALERS)
@given(history=histories())
def test_always_within_the_bounds(kind, history):
    bounds, start, loads, states, factor = history
    least, most = bounds["min_replicas"], bounds["max_replicas"]
    if kind not in ("keda", "kpa"):
        least = bounds["min_replicas"] = max(1, least)
        start = max(1, start)
    if kind == "keda" and least > 0:
        start = max(1, start)
    fields = {**ONE[kind], **bounds}
    if kind == "scheduled":
        fields["schedule"] = [{"from": 0, "replicas": least}, {"from": 60, "replicas": most}]
    if kind == "hpa":
        external = {"metric": "queue_depth", "external": True}
        fields["metrics"] = [
            *ONE["hpa"]["metrics"],
            {**external, "target_average_value": 5},
            {**external, "target_value": 50},
        ]
    scaler = make_autoscaler(config(kind, **fields))
    step_s, replicas = (15 if math.isinf(scaler.period_s) else scaler.period_s) * factor, start
    for i, load in enumerate(loads):
        values = [load if s == "ready" and load is not None else s for s in states[: replicas + 1]]
        values = [MISSING if v == "ready" else v for v in values]
        totals = {} if load is None else dict.fromkeys(("queue_depth", "concurrency"), load)
        replicas = scaler.decide(reading(i * step_s, replicas, values, "kv_use", **totals)).replicas
        assert least <= replicas <= most
