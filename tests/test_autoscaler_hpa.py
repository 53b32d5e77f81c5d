"""The HorizontalPodAutoscaler against tables worked by hand from its documentation and controller source."""

import pytest
from autoscaling import MISSING, UNREADY, config, pods, reading

from simulator.cluster.autoscaler.base import PodReading
from simulator.cluster.autoscaler.config import make_autoscaler
from simulator.cluster.autoscaler.hpa import average_replicas, largest, pods_replicas, value_replicas


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
        ([200, 200, UNREADY], 100, 3, 4),  # ratio 2; (200 + 200 + 0) / 3 = 133.333 -> 1.33333 * 3 = 3.99999 -> 4
        ([150, 150, UNREADY], 100, 3, 3),  # ratio 1.5; 300 / 3 = 100: within, stay
        ([150, UNREADY, UNREADY], 100, 3, 3),  # ratio 1.5; 150 / 3 = 50: direction turned, stay
        ([400, UNREADY], 100, 2, 4),  # ratio 4; 400 / 2 = 200 -> 2 * 2
        # and are set aside on a scale-down
        ([50, 50, UNREADY], 100, 3, 1),  # ratio 0.5 over the two ready: 0.5 * 2 = 1
        ([95, UNREADY], 100, 2, 2),  # 0.95 over the ready one: within
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
        ([70, 70, 70, MISSING], 100, 2, 2),  # 310 / 4 = 77.5 -> 0.775 * 4 = 3.1 -> 4 > 2 while ratio < 1: stay
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
        (2.007, 0.223, 4, 9),  # 2007 / 223 = 9 in thousandths, where floats of them give 9.000000000000002
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
