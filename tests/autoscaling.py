"""Readings of small deployments, and autoscalers run on them."""

from pydantic import TypeAdapter

from simulator.cluster.autoscaler.base import PodReading, Reading
from simulator.cluster.autoscaler.config import AutoscalerConfig

ADAPTER = TypeAdapter(AutoscalerConfig)
UNREADY, MISSING = "unready", "missing"


def pods(*values, metric="concurrency"):
    """A pod for each value; "unready" and "missing" for pods that are not ready, or have no value yet."""
    return tuple(
        PodReading(i, 0.0, v != UNREADY, None if v == UNREADY else 0.0, {} if v in (UNREADY, MISSING) else {metric: v})
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
        replicas = scaler.decide(reading(i * scaler.period_s, replicas, values, metric, **{metric: load})).replicas
        out.append(replicas)
    return out
