"""Kubernetes manifests of a deployment: what is simulated, to be applied.

Deployment (or LeaderWorkerSet where a pod's GPUs span nodes), Service, HorizontalPodAutoscaler or KEDA ScaledObject,
PodDisruptionBudget. The startup probe gives a container `MARGIN` times the simulated start; what the simulation does
not know (image, namespace, where Prometheus is) is an argument.
"""

import math
import shlex
from typing import Any

import yaml

from simulator.cluster.autoscaler.hpa import HpaConfig
from simulator.cluster.autoscaler.keda import KedaConfig
from simulator.errors import ServelabError
from simulator.export.kubernetes.autoscalers import hpa, keda
from simulator.export.kubernetes.gpus import is_amd
from simulator.export.kubernetes.pods import MODELS, PORT, check_weights, pod_spec
from simulator.export.kubernetes.schemas import validate
from simulator.export.vllm_serve import serve_arguments
from simulator.run.resolved import Resolved, resolve_deployment
from simulator.scenario import Scenario

DOWNLOADS = (
    "Every new pod downloads the weights from the Hugging Face Hub; for a gated model with the token in the Secret "
    "hf-token, key token:\n"
    "kubectl create secret generic hf-token --from-literal=token=hf_...\n"
    "--weights-claim has them read from a volume instead."
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
    check_weights(r, image, weights_claim)
    image = image or f"vllm/vllm-openai{'-rocm' if is_amd(r.gpu.name) else ''}:v{r.settings.version}.0"
    per_node = _gpus_per_node(scenario, r)
    nodes, join = _nodes(r, per_node)
    arguments = [*serve_arguments(r.config, model_id), *join]
    if weights_claim is not None and not arguments[0].startswith("/"):
        model = arguments[0].removeprefix("./")
        arguments = [f"{MODELS}/{model}", *arguments[1:], "--served-model-name", model]
    pod = pod_spec(r, name, image, arguments, math.ceil(r.gpus / nodes), weights_claim)
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
        made.append(hpa(scaler, meta, target))
    elif isinstance(scaler, KedaConfig):
        made.append(keda(scaler, meta, target, name, prometheus))
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
