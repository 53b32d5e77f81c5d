"""HorizontalPodAutoscaler and KEDA ScaledObject of a deployment's autoscaler."""

import math
from typing import Any

from simulator.cluster.autoscaler.hpa import HpaConfig, HpaMetric, ScaleUp
from simulator.cluster.autoscaler.keda import KedaConfig
from simulator.errors import ServelabError

# what Prometheus has of vLLM and DCGM; the adapter must offer the name on the left for pods, the query is for totals
SERIES = {
    "concurrency": (
        "vllm_requests_in_pod",
        "sum(vllm:num_requests_running{{{0}}}) + sum(vllm:num_requests_waiting{{{0}}})",
    ),
    "queue_depth": ("vllm_num_requests_waiting", "sum(vllm:num_requests_waiting{{{0}}})"),
    "kv_use": ("vllm_kv_cache_usage_perc", "sum(vllm:kv_cache_usage_perc{{{0}}})"),
    "request_rate": ("vllm_request_rate", "sum(rate(vllm:request_success_total{{{0}}}[1m]))"),
    "token_rate": ("vllm_generation_token_rate", "sum(rate(vllm:generation_tokens_total{{{0}}}[1m]))"),
    "duty_cycle": ("dcgm_fi_dev_gpu_util_share", "sum(DCGM_FI_DEV_GPU_UTIL{{{0}}}) / 100"),
}


def _quantity(value: float) -> str:
    """A number as Kubernetes writes quantities.

    >>> _quantity(16.0), _quantity(0.75)
    ('16', '750m')
    """
    return str(int(value)) if value == int(value) else f"{math.ceil(value * 1000)}m"


def hpa(c: HpaConfig, meta: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta,
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": c.min_replicas,
            "maxReplicas": c.max_replicas,
            "metrics": [_metric(m) for m in c.metrics],
            "behavior": {"scaleUp": _rules(c.scale_up, c.tolerance), "scaleDown": _rules(c.scale_down, c.tolerance)},
        },
    }


def _metric(m: HpaMetric) -> dict[str, Any]:
    name = SERIES[m.metric][0]
    if m.target_average_value is not None:
        target = {"type": "AverageValue", "averageValue": _quantity(m.target_average_value)}
    else:
        assert m.target_value is not None
        target = {"type": "Value", "value": _quantity(m.target_value)}
    kind = "External" if m.external else "Pods"
    return {"type": kind, kind.lower(): {"metric": {"name": name}, "target": target}}


def _rules(s: ScaleUp, tolerance: float) -> dict[str, Any]:
    out: dict[str, Any] = {
        "stabilizationWindowSeconds": int(s.stabilization_window_s),
        "selectPolicy": s.select.capitalize(),
        "policies": [
            {"type": p.type.capitalize(), "value": p.value, "periodSeconds": int(p.period_s)} for p in s.policies
        ],
    }
    if tolerance != 0.1:  # the controller's own default
        out["tolerance"] = _quantity(tolerance)
    return out


def keda(
    c: KedaConfig, meta: dict[str, Any], target: dict[str, Any], name: str, prometheus: str | None
) -> dict[str, Any]:
    if prometheus is None:
        raise ServelabError("KEDA asks Prometheus for its metric: give its address (--prometheus http://...)")
    for field in ("min_replicas", "idle_replica_count"):
        if getattr(c, field) == 0:
            raise ServelabError(
                f"{name}: autoscaler.{field}=0: pods themselves write {c.metric!r}, so at zero replicas KEDA finds no "
                "series and never wakes them; keep at least one (min_replicas from 1 on, no idle_replica_count)"
            )
    spec: dict[str, Any] = {
        "scaleTargetRef": target,
        "minReplicaCount": c.min_replicas,
        "maxReplicaCount": c.max_replicas,
        "pollingInterval": c.polling_interval_s,
        "cooldownPeriod": int(c.cooldown_period_s),
        "initialCooldownPeriod": int(c.initial_cooldown_period_s),
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {"scaleUp": _rules(c.scale_up, c.tolerance), "scaleDown": _rules(c.scale_down, c.tolerance)}
            }
        },
        "triggers": [
            {
                "type": "prometheus",
                "metadata": {
                    "serverAddress": prometheus,
                    "query": SERIES[c.metric][1].format(f'app="{name}"'),
                    "threshold": f"{c.threshold:g}",
                    "activationThreshold": f"{c.activation_threshold:g}",
                },
            }
        ],
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": meta, "spec": spec}
