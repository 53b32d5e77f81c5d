"""All autoscalers: their configs, bounds that always hold; the schedule, and none."""

import json
import math

import pytest
from autoscaling import ADAPTER, MISSING, UNREADY, config, reading
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simulator.cluster.autoscaler.config import AUTOSCALERS, make_autoscaler
from simulator.cluster.autoscaler.hpa import HpaConfig


def test_schedule_over_midnight():
    schedule = [{"from": "08:30", "replicas": 6}, {"from": 43200, "replicas": 9}, {"from": "22:00", "replicas": 2}]
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
        ("hpa", {"metrics": [{"metric": "cpu", "target_average_value": 1}]}, "'cpu': the engine does not emit it"),
        ("hpa", {"metrics": [{"metric": "kv_use"}]}, "exactly one"),
        (
            "hpa",
            {"metrics": [{"metric": "kv_use", "target_value": 1, "target_average_value": 1, "external": True}]},
            "exactly one",
        ),
        ("hpa", {"metrics": [{"metric": "kv_use", "target_value": 1}]}, "target_value 1.0: that needs external"),
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
