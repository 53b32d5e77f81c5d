"""Kubernetes manifests of a deployment: what is simulated, to be applied.

Deployment (or LeaderWorkerSet where a pod's GPUs span nodes), Service, HorizontalPodAutoscaler or KEDA ScaledObject,
PodDisruptionBudget. The startup probe gives a container `MARGIN` times the simulated start; what the simulation does
not know (image, namespace, where Prometheus is) is an argument.
"""

import math
import re
import shlex
from typing import Any

import yaml

from simulator.cluster.autoscaler.hpa import HpaConfig, HpaMetric, ScaleUp
from simulator.cluster.autoscaler.keda import KedaConfig
from simulator.cluster.cold_start import chain
from simulator.errors import ServelabError
from simulator.export.validate_manifests import validate
from simulator.export.vllm_serve import serve_arguments
from simulator.run.resolved import Resolved, resolve_deployment
from simulator.scenario import Scenario

PORT, PERIOD_S, MARGIN = 8000, 10, 1.5
MODELS, HUB = "/models", "/hub"  # where a claim is mounted; where downloads go, whoever runs in the image
DOWNLOADS = (
    "Every new pod downloads the weights from the Hugging Face Hub; for a gated model with the token in the Secret "
    "hf-token, key token:\n"
    "kubectl create secret generic hf-token --from-literal=token=hf_...\n"
    "--weights-claim has them read from a volume instead."
)
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

# what NVIDIA's GPU feature discovery writes into the label nvidia.com/gpu.product, by catalog name; a slice has that of
# its GPU
PRODUCTS = {
    "a100_pcie": "NVIDIA-A100-80GB-PCIe",
    "a100_sxm": "NVIDIA-A100-SXM4-80GB",
    "a100_sxm_40gb": "NVIDIA-A100-SXM4-40GB",
    "a30": "NVIDIA-A30",
    "a6000": "NVIDIA-RTX-A6000",
    "b200_sxm": "NVIDIA-B200",
    "h100_pcie": "NVIDIA-H100-PCIe",
    "h100_sxm": "NVIDIA-H100-80GB-HBM3",
    "h200_sxm": "NVIDIA-H200",
    "l4": "NVIDIA-L4",
    "l40s": "NVIDIA-L40S",
    "rtx_4090": "NVIDIA-GeForce-RTX-4090",
}


def _amd(gpu: str) -> bool:
    """Whether a GPU of that name is AMD's: an Instinct.

    >>> _amd("mi300x"), _amd("AMD Instinct MI325X"), _amd("h100_sxm"), _amd("h100_sxm:3g.40gb")
    (True, True, False, False)
    """
    return re.search(r"(?i)\bamd\b|(?<![a-z])mi\d{3}", gpu) is not None


def resource_of(gpu: str) -> str:
    """The name by which a device plugin offers that GPU.

    >>> resource_of("h100_sxm"), resource_of("h100_sxm:3g.40gb"), resource_of("mi300x")
    ('nvidia.com/gpu', 'nvidia.com/mig-3g.40gb', 'amd.com/gpu')
    """
    _, _, profile = gpu.partition(":")
    return "amd.com/gpu" if _amd(gpu) else f"nvidia.com/mig-{profile}" if profile else "nvidia.com/gpu"


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


def manifests(
    scenario: Scenario,
    index: int = 0,
    *,
    image: str | None = None,
    model_id: str | None = None,
    namespace: str = "default",
    prometheus: str | None = None,
    weights_claim: str | None = None,
) -> list[dict[str, Any]]:
    """Manifests of deployment ``index``, validated.

    Args:
        image: of the container; None: vllm/vllm-openai of the deployment's vLLM version, for AMD GPUs
            vllm/vllm-openai-rocm.
        model_id: what vLLM loads, where the catalog knows no Hugging Face id.
        prometheus: its address, for KEDA.
        weights_claim: a PersistentVolumeClaim with the weights, a folder named as the model is; None: each pod
            downloads them.

    Raises ServelabError for what cannot be deployed so: a serving kind that is not vLLM's, autoscalers without a
    Kubernetes object (kpa needs Knative, scheduled a CronJob), a KEDA trigger without ``prometheus`` or from zero
    replicas, a rollout that can replace no pod, weights in an image that is not given, a manifest that its schema
    refuses.
    """
    r = resolve_deployment(scenario, index)
    name = _dns(r.config.name)
    _check_weights(r, image, weights_claim)
    image = image or f"vllm/vllm-openai{'-rocm' if _amd(r.gpu.name) else ''}:v{r.settings.version}.0"
    per_node = _gpus_per_node(scenario, r)
    nodes, join = _nodes(r, per_node)
    arguments = [*serve_arguments(r.config, model_id), *join]
    if weights_claim is not None and not arguments[0].startswith("/"):
        model = arguments[0].removeprefix("./")
        arguments = [f"{MODELS}/{model}", *arguments[1:], "--served-model-name", model]
    pod = _pod(r, name, image, arguments, math.ceil(r.gpus / nodes), weights_claim)
    meta = {"name": name, "namespace": namespace, "labels": {"app": name}}
    made = [
        _group(r, meta, pod, nodes, name) if nodes > 1 else _deployment(r, meta, pod, name),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "selector": {"app": name, **({"role": "leader"} if nodes > 1 else {})},
                "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta,
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}},
        },
    ]
    target = {"apiVersion": made[0]["apiVersion"], "kind": made[0]["kind"], "name": name}
    scaler = r.config.autoscaler
    if isinstance(scaler, HpaConfig):
        made.append(_hpa(scaler, meta, target))
    elif isinstance(scaler, KedaConfig):
        made.append(_keda(scaler, meta, target, name, prometheus))
    elif scaler.kind != "none":
        needs = {"kpa": "Knative Serving", "scheduled": "a CronJob or KEDA's cron trigger"}.get(
            scaler.kind, "something else"
        )
        raise ServelabError(
            f"deployments.{index} ({name}): autoscaler kind {scaler.kind!r} needs {needs}, which is not written; "
            "use hpa or keda"
        )
    for manifest in made:
        validate(manifest)
    return made


def to_yaml(made: list[dict[str, Any]], about: str = "") -> str:
    """Several manifests as one file, with a comment on top."""
    head = "".join(f"# {line}\n" for line in about.splitlines())
    return head + "---\n".join(yaml.dump(m, Dumper=_Plain, sort_keys=False) for m in made)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: everything is written out where it stands."""
        return True


def _dns(name: str) -> str:
    """A name that Kubernetes takes.

    >>> _dns("My chat_70B")
    'my-chat-70b'
    """
    found = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")[:50].strip("-")
    if not found:
        raise ServelabError(f"deployment name {name!r} has no letter or digit that Kubernetes takes")
    return found if found[0].isalpha() else f"llm-{found}"


def _gpus_per_node(scenario: Scenario, r: Resolved) -> int:
    pools = scenario.nodes.pools if scenario.nodes is not None else ()
    mine = [p.slots for p in pools if p.spec.name == r.gpu.name]
    return max(mine) if mine else r.gpu.gpus_per_node


def _nodes(r: Resolved, per_node: int) -> tuple[int, list[str]]:
    """How many nodes a pod's GPUs span, all with as many of them, and the flags with which vLLM does so through Ray.

    Raises ServelabError where ranks of data parallelism cannot be spread so: vLLM packs whole ranks, as many on each
    node.
    """
    ranks, each = r.config.data_parallel_size, r.settings.gpus
    if ranks == 1:
        nodes = math.ceil(r.gpus / per_node)
        return nodes, ["--distributed-executor-backend", "ray"] if nodes > 1 else []
    most = per_node // each
    nodes = math.ceil(ranks / most) if most else 0
    if not most or ranks % nodes:
        reason = f"a node has {per_node}" if not most else f"{nodes} nodes would not have as many ranks each"
        raise ServelabError(
            f"deployment {r.config.name!r}: data_parallel_size={ranks} of {each} GPUs each: {reason}; only whole "
            "ranks, as many on each node, are written"
        )
    if nodes == 1:
        return 1, []
    return nodes, ["--data-parallel-size-local", str(ranks // nodes), "--data-parallel-backend", "ray"]


def _check_weights(r: Resolved, image: str | None, claim: str | None) -> None:
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


def _weights(r: Resolved, claim: str | None) -> tuple[dict[str, Any] | None, dict[str, Any], bool]:
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


def _pod(r: Resolved, name: str, image: str, arguments: list[str], gpus: int, claim: str | None) -> dict[str, Any]:
    """The pod's spec: probes with the times of the cold start, weights, shared memory for tensor parallelism, time
    to drain."""
    volume, has, download = _weights(r, claim)
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
        **_product(r.gpu.name),
        "terminationGracePeriodSeconds": math.ceil(r.config.pod.drain_s),
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}, *([volume] if volume else [])],
    }


def _product(gpu: str) -> dict[str, Any]:
    """Prefers nodes of that GPU; not more than that, as a cluster may lack the label."""
    product = PRODUCTS.get(gpu.partition(":")[0])
    if product is None:
        return {}
    wanted = {"key": "nvidia.com/gpu.product", "operator": "In", "values": [product]}
    term = {"weight": 100, "preference": {"matchExpressions": [wanted]}}
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}}


def _replicas(r: Resolved) -> dict[str, int]:
    """None where an autoscaler sets them: each apply would undo it."""
    return {"replicas": r.config.replicas} if r.config.autoscaler.kind == "none" else {}


def _deployment(r: Resolved, meta: dict[str, Any], pod: dict[str, Any], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        **_replicas(r),
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }
    roll = r.config.rollout
    if roll is not None:
        surge, unavailable = (f"{x:.0%}" if x < 1 else int(x) for x in (roll.max_surge, roll.max_unavailable))
        if surge == unavailable == "0%":
            raise ServelabError(
                f"deployment {r.config.name!r}: rollout.max_surge={roll.max_surge:g} and rollout.max_unavailable="
                f"{roll.max_unavailable:g} are both 0 %: Kubernetes refuses that; one must be 0.01 or more"
            )
        spec["strategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
        }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def _group(r: Resolved, meta: dict[str, Any], pod: dict[str, Any], nodes: int, name: str) -> dict[str, Any]:
    """A pod over several nodes: a leader that serves and workers that join it through Ray, as vLLM's multi-node
    image does."""
    leader, worker = (dict(pod, containers=[dict(pod["containers"][0])]) for _ in range(2))
    start = "/vllm-workspace/examples/online_serving/multi-node-serving.sh"
    command = shlex.join(["vllm", "serve", *pod["containers"][0]["args"]])
    leader["containers"][0] |= {
        "command": ["sh", "-c"],
        "args": [f"bash {start} leader --ray_cluster_size=$(LWS_GROUP_SIZE); {command}"],
    }
    worker["containers"][0] = {
        k: v
        for k, v in worker["containers"][0].items()
        if k not in ("ports", "startupProbe", "readinessProbe", "livenessProbe")
    } | {"command": ["sh", "-c"], "args": [f"bash {start} worker --ray_address=$(LWS_LEADER_ADDRESS)"]}
    label = lambda role: {"metadata": {"labels": {"app": name, "role": role}}}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": meta,
        "spec": {
            **_replicas(r),
            "leaderWorkerTemplate": {
                "size": nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": {**label("leader"), "spec": leader},
                "workerTemplate": {**label("worker"), "spec": worker},
            },
        },
    }


def _quantity(value: float) -> str:
    """A number as Kubernetes writes quantities.

    >>> _quantity(16.0), _quantity(0.75)
    ('16', '750m')
    """
    return str(int(value)) if value == int(value) else f"{math.ceil(value * 1000)}m"


def _hpa(c: HpaConfig, meta: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
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


def _keda(
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
