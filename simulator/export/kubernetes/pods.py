"""The spec of a pod that serves with vLLM: weights, probes with the times of the cold start, devices."""

import math
import re
from typing import Any

from simulator.cluster.cold_start import chain
from simulator.errors import ServelabError
from simulator.export.kubernetes.gpus import preferred_nodes, resource_of
from simulator.run.resolved import Resolved

PORT, PERIOD_S, MARGIN = 8000, 10, 1.5
MODELS, HUB = "/models", "/hub"  # where a claim is mounted; where downloads go, whoever runs in the image


def start_s(r: Resolved, download: bool = False) -> float:
    """From the start of its container, which is when a startup probe begins, to a pod's readiness, nothing cached [s].

    With ``download``, weights are written to the node's disk before they are read, at the same rate.
    """
    weights = r.config.pod.weights_bytes
    size = r.settings.capacity.weight_bytes * r.gpus if weights is None else weights
    return sum(
        s * (2 if download and phase == "weights" else 1)
        for phase, s in chain(r.config.pod, size)
        if phase not in ("node", "driver", "image_pull", "image_extract")
    )


def check_weights(r: Resolved, image: str | None, claim: str | None) -> None:
    inside = f"deployment {r.config.name!r}: pod.weights='image'"
    if claim is not None:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", claim):
            raise ServelabError(
                f"--weights-claim {claim!r}: expected the name of a PersistentVolumeClaim: a-z, 0-9, - and . only"
            )
        if r.config.pod.weights == "image":
            raise ServelabError(f"{inside}, so nothing would read --weights-claim {claim!r}; leave one out")
    elif r.config.pod.weights == "image" and image is None:
        raise ServelabError(f"{inside}: vLLM's own image has no weights; give one that has them (--image NAME)")


def weights_of(r: Resolved, claim: str | None) -> tuple[dict[str, Any] | None, dict[str, Any], bool]:
    """Where weights come from: a volume, what the container has for it, and whether it is a download."""
    if r.config.pod.weights == "image":
        return None, {}, False
    mount: dict[str, Any] = {"name": "weights", "mountPath": HUB}
    if claim is not None:
        mount |= {"mountPath": MODELS, "readOnly": True}
        source = {"name": "weights", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        return source, {"volumeMounts": [mount]}, False
    secret = {"name": "hf-token", "key": "token", "optional": True}
    env = [{"name": "HF_HOME", "value": HUB}, {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}]
    return {"name": "weights", "emptyDir": {}}, {"env": env, "volumeMounts": [mount]}, True


def pod_spec(r: Resolved, name: str, image: str, arguments: list[str], gpus: int, claim: str | None) -> dict[str, Any]:
    """The pod's spec: probes with the times of the cold start, weights, shared memory for tensor parallelism, time
    to drain."""
    volume, has, download = weights_of(r, claim)
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PERIOD_S}
    cold = MARGIN * start_s(r, download)
    devices = {resource_of(r.gpu.name): str(gpus)}
    container = {
        "name": "vllm",
        "image": image,
        "command": ["vllm", "serve"],
        "args": [*arguments, "--port", str(PORT)],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": devices, "requests": devices},
        "startupProbe": {**probe, "failureThreshold": max(3, math.ceil(cold / PERIOD_S))},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 6},
        **has,
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *has.get("volumeMounts", [])],
    }
    return {
        **preferred_nodes(r.gpu.name),
        "terminationGracePeriodSeconds": math.ceil(r.config.pod.drain_s),
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}, *([volume] if volume else [])],
    }
