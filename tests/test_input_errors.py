"""Bad input gets an error that gives the place, the value and the limit."""

import copy
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from simulator.core.yaml_text import overridden
from simulator.errors import ServelabError
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate
from tests.systems import scenario, table

BASE = scenario().to_mapping()


def refused(path, value, *words):
    """Setting ``path`` to ``value`` is an error whose message holds all ``words``."""
    mapping = overridden(
        copy.deepcopy(BASE), f"{path}={yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]}"
    )
    with pytest.raises(ServelabError) as caught:
        simulate(Scenario.of(mapping))
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("deployments.0.engine.max_num_seq", 3, ["deployments.0.engine.max_num_seq", "did you mean 'max_num_seqs'"]),
        ("worklaod", {}, ["worklaod: unknown field", "did you mean 'workload'"]),
        ("deployments.0.replicas", "four", ["deployments.0.replicas", "'four'"]),
        ("deployments.0.replicas", 0, ["deployments.0", "replicas=0 without an autoscaler"]),
        ("workload.rate_rps", -3.0, ["workload.rate_rps", "-3.0"]),
        ("workload.rate_rps", float("nan"), ["workload.rate_rps", "nan"]),
        ("workload.prompt_tokens", {"kind": "fixed", "tokens": 0}, ["workload.prompt_tokens.tokens", "1", "0"]),
        (
            "workload.prompt_tokens",
            {"kind": "fixed", "tokens": 5000},
            ["prompt_tokens=5000", "max_model_len - 1 = 1023"],
        ),
        ("workload.source", "poison", ["'poison'", "did you mean 'poisson'"]),
        ("router.kind", "least_outstandin", ["router", "did you mean 'least_outstanding'"]),
        ("deployments.0.gpu", "h1000", ["deployments.0", "'h1000'", "did you mean"]),
        ("deployments.0.model", "llama-3.1-8", ["deployments.0", "did you mean"]),
        ("deployments.0.engine.tensor_parallel_size", 3, ["tensor_parallel_size=3", "32"]),
        ("deployments.0.engine.num_gpu_blocks_override", 40, ["num_gpu_blocks_override=40", "64 KV blocks", "624"]),
        ("deployments.0.engine.version", "9.9", ["9.9", "0.32"]),
        ("deployments.0.engine.pipeline_parallel_size", 2, ["pipeline_parallel_size=2", "not simulated yet"]),
        ("deployments.0.engine.watermark", 1.5, ["watermark", "1.5"]),
        ("deployments.0.engine.max_num_batched_tokens", 8, ["max_num_batched_tokens", "max_num_seqs"]),
        ("slo.attainment", 1.5, ["slo.attainment", "1.5"]),
        ("schema_version", 2, ["schema_version", "2"]),
        ("deployments.0.replicas", -1, ["deployments.0.replicas", "greater than or equal to 0", "-1"]),
        ("path", "monolit", ["path", "'monolit'", "monolith"]),
        (
            "path",
            {"stages": [{"name": "a", "workers": 0}, {"name": "llm", "kind": "llm"}]},
            ["path.stages.0", "workers=0"],
        ),
        (
            "path",
            {"stages": [{"name": "a", "after": ["llm"]}, {"name": "llm", "kind": "llm", "after": ["a"]}]},
            ["path", "cycle", "a -> llm -> a"],
        ),
        (
            "path",
            {"stages": [{"name": "a", "branches": {"llm": 0.9}}, {"name": "llm", "kind": "llm"}]},
            ["path.stages.0", "sum to 0.9"],
        ),
        ("path", {"preset": "monolith", "without": ["gatway"]}, ["no stage 'gatway'", "did you mean 'gateway'"]),
        ("nodes", {"pools": [{"name": "p", "gpu": "l4", "nodes": 1}]}, ["'d'", "h100_sxm", "l4"]),
        (
            "deployments.0.autoscaler",
            {
                "kind": "hpa",
                "min_replicas": 5,
                "max_replicas": 2,
                "metrics": [{"metric": "concurrency", "target_average_value": 1}],
            },
            ["deployments.0.autoscaler", "min_replicas 5", "max_replicas 2"],
        ),
        (
            "deployments.0.autoscaler",
            {"kind": "hpa", "max_replicas": 2, "metrics": [{"metric": "cpu", "target_average_value": 1}]},
            ["cpu", "does not emit"],
        ),
        ("deployments.0.traffic_classes", ["nobody"], ["no class 'nobody'"]),
        ("router", {"kind": "weighted", "weights": {"e": 1.0}}, ["no weight for the deployment 'd'"]),
        ("admission", [{"kind": "shed", "from_outstanding": 5, "to_outstanding": 5}], ["admission.0", "must be below"]),
        ("client.timeout_s", -1, ["client.timeout_s", "-1"]),
    ],
)
def test_message(path, value, words):
    refused(path, value, *words)


def test_a_model_that_does_not_fit_says_by_how_much():
    big = scenario().to_mapping()
    big["deployments"][0] |= {"model": "llama-3.1-70b"}
    with pytest.raises(ServelabError, match=r"GB") as caught:
        simulate(Scenario.of(big))
    assert "does not fit" in str(caught.value) or "short" in str(caught.value)


def test_a_pool_too_small_for_one_request_of_the_table():
    system = scenario({"num_gpu_blocks_override": 66, "max_model_len": 1024})
    simulate(system, requests=table([0.0], [900], [100]))
    with pytest.raises(ServelabError, match="num_gpu_blocks_override=30"):
        simulate(scenario({"num_gpu_blocks_override": 30}), requests=table([0.0], [900], [100]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("arrival_s,prompt_tokens\n0,5\n", ["output_tokens"]),
        ("arrival_s,prompt_token,output_tokens\n0,5,5\n", ["prompt_token", "did you mean"]),
        ("arrival_s,prompt_tokens,output_tokens\n1,5,5\n0.5,5,5\n", ["0.5", "order"]),
        ("arrival_s,prompt_tokens,output_tokens\n0,0,5\n", ["prompt_tokens", "0"]),
        ("", ["empty"]),
    ],
)
def test_traces(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    mapping = BASE | {"workload": {"source": "trace", "path": "t.csv"}}
    with pytest.raises(ServelabError) as caught:
        simulate(Scenario.of(mapping, tmp_path))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_files(tmp_path):
    with pytest.raises(ServelabError, match="no such file"):
        Scenario.load(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ServelabError, match="is not YAML"):
        Scenario.load(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("workload: 1\nworkload: 2\n")
    with pytest.raises(ServelabError, match="twice"):
        Scenario.load(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ServelabError, match="expected a mapping"):
        Scenario.load(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "override", ["a", "deployments.7.replicas=1", "deployments.x=1", "schema_version.a=1", "slo=[1"]
)
def test_overrides(override):
    with pytest.raises(ServelabError, match="--set"):
        overridden(copy.deepcopy(BASE), override)


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding"])
def test_ctrl_c_keeps_what_was_reached(tmp_path, router):
    mapping = copy.deepcopy(BASE) | {"router": {"kind": router}}
    # lightly loaded: hundreds of batches a request, minutes in all
    mapping["workload"] |= {"requests": 1_000_000, "rate_rps": 0.2, "output_tokens": {"kind": "fixed", "tokens": 300}}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(mapping))
    code = "from simulator.command.app import app; app()"
    command = [sys.executable, "-c", code, "run", str(tmp_path / "long.yaml"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}
    ) as run:
        time.sleep(10)
        assert run.poll() is None, run.communicate()
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=120)
    assert run.returncode == 130
    result = Result.load(tmp_path / "out")
    assert result.partial and "partial" in said
    counts = result.counts()
    assert 0 < counts["arrived"] < mapping["workload"]["requests"]
    assert counts["arrived"] == sum(n for name, n in counts.items() if name != "arrived")
