"""The Knative Pod Autoscaler against tables worked by hand from its documentation and source."""

import pytest
from autoscaling import UNREADY, config, reading, run

from simulator.cluster.autoscaler.config import make_autoscaler
from simulator.cluster.autoscaler.kpa import KpaConfig, desired, panic_since, window_mean


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
    assert run_fixed(kpa(panic_threshold_percentage=400), 1, [70.0] * 30 + [210.0] * 3) == [1] * 30 + [2, 2, 2]


def run_fixed(scaler, ready, loads, metric="concurrency"):
    """As `run`, with ``ready`` pods whatever is decided."""
    out, replicas = [], ready
    for i, load in enumerate(loads):
        replicas = scaler.decide(reading(i * scaler.period_s, replicas, [0.0] * ready, **{metric: load})).replicas
        out.append(replicas)
    return out


def test_kpa_panic_never_scales_down_and_ends_after_a_stable_window():
    # A burst of one sample, 700 at time 0: 10 pods >= 2 * 1, panic. Pods follow at once (10 ready), so from 2 s on
    # the panic window's 700 / 2 = 350 -> 5 pods is below 2 * 10. Panic lasts while now <= 0 + 60.
    # At 62 s: stable window 0 (the burst is 62 s old), so wants floor(10 / 2) = 5, then 2, 1, and 1 by scale to zero.
    replicas = run(kpa(), 1, [700.0] + [0.0] * 34)
    assert replicas == [10] * 31 + [5, 2, 1, 1]
    # A second panic, of 200 at 70 s with one pod left: 200 / 3 = 67 -> 1 is none; of 420: 140 -> 2 is one, and it
    # does not remember the 10 of the first.
    assert run(kpa(), 1, [700.0] + [0.0] * 34 + [200.0])[-1] == 1
    assert run(kpa(), 1, [700.0] + [0.0] * 34 + [420.0])[-1] == 2


def test_kpa_panics_at_the_threshold_and_not_below():
    # 70 for 12 s, then 280 once: the panic window has (70 + 70 + 280) / 3 = 140 -> 2 pods, 200 % of the one ready.
    # At 60 s the stable window (all samples but the first) has (5 * 70 + 280) / 30 = 21 -> 1; panic keeps 2.
    loads = [70.0] * 6 + [280.0] + [0.0] * 30
    assert run_fixed(kpa(), 1, loads)[30] == 2
    assert run_fixed(kpa(panic_threshold_percentage=201), 1, loads)[30] == 1


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
