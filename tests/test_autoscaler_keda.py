"""KEDA: polls, activation, cooldown and the HPA above one replica, worked by hand from its documentation."""

import pytest
from autoscaling import config, reading, run

from simulator.cluster.autoscaler.config import make_autoscaler
from simulator.cluster.autoscaler.keda import KedaConfig, cooled, due, polled


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
    # poll at 10 s: 1; sync at 15 s: 9 / 5 -> 2; the 24 from 20 s on are seen by the sync at 30 s: 24 / 5 -> 5
    assert run(scaler, 0, [0, 9, 9, 9, 24, 24, 24], "queue_depth") == [0, 0, 1, 2, 2, 2, 5]
    assert keda().period_s == 15
