"""How fast the HorizontalPodAutoscaler moves: its windows and policies, worked by hand from the documentation."""

import pytest
from autoscaling import config, reading, run

from simulator.cluster.autoscaler.config import make_autoscaler
from simulator.cluster.autoscaler.hpa import ScaleDown, ScaleUp, down_limit, stabilized, up_limit


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
    return rule(policies=[dict(zip(("type", "value", "period_s"), p, strict=True)) for p in of], select=select)


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
        (75, [(90, -5)], policies(("pods", 4, 60)), 75),  # 80 - 4 = 76, but not above 75
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
