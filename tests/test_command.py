"""The command servelab, as users and scripts meet it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from simulator import Result, Scenario, simulate
from simulator.command.app import app
from tests.systems import scenario

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "s.yaml").write_text(scenario().to_yaml())
    return str(tmp_path / "s.yaml")


def run(*arguments, code=0):
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, list(arguments))
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_verdict_first_then_table_then_cost(path):
    lines = run("run", path, "--quiet").stdout.splitlines()
    assert lines[0].startswith("meets SLO: ")
    text = "\n".join(lines)
    assert text.index("arrived") < text.index("TTFT") < text.index("per hour") < text.index("trust: user")


def test_json(path):
    found = json.loads(run("run", path, "--json", "--seed", "3").stdout)
    for name in ("completed", "rejected", "timed_out", "failed", "cancelled"):
        assert isinstance(found[name], int)
    assert found["arrived"] == found["completed"] == 400
    rows = {(r["metric"], r["stat"]): r["value"] for r in found["summary"]}
    direct = simulate(Scenario.load(path), 3).summary()
    p99 = direct[(direct["metric"] == "ttft_s") & (direct["stat"] == "p99")]["value"].iloc[0]
    assert rows["ttft_s", "p99"] == pytest.approx(p99)
    assert found["cost"] and found["verdict"].startswith("meets SLO: ") and found["seeds"] == [3]


def test_replications_have_intervals(path):
    found = json.loads(run("run", path, "--json", "--replications", "3").stdout)
    row = next(r for r in found["summary"] if (r["metric"], r["stat"]) == ("ttft_s", "mean"))
    assert row["low"] < row["value"] < row["high"] and row["n"] == 3
    assert "+-" in run("run", path, "--quiet", "--replications", "3").stdout


def test_out_is_a_result_and_is_not_overwritten_by_chance(path, tmp_path):
    out = str(tmp_path / "out")
    run("run", path, "--quiet", "--out", out, "--steps", "full")
    result = Result.load(out)
    assert len(result.requests) == 400 and len(result.steps) > 400
    assert Scenario.load(Path(out) / "scenario.yaml").to_mapping() == Scenario.load(path).to_mapping()
    assert out in run("run", path, "--quiet", "--out", out, code=2).output.replace("\n", "")
    run("run", path, "--quiet", "--out", out, "--overwrite")


def test_set(path):
    found = json.loads(
        run("run", path, "--json", "--set", "deployments.0.replicas=3", "--set", "workload.requests=10").stdout
    )
    assert found["arrived"] == 10 and found["deployments"][0]["replicas"] == 3
    error = run("run", path, "--set", "deployments.0.replica=3", code=2)
    assert "did you mean 'replicas'" in error.stderr and "Traceback" not in error.output


def test_exit_code_of_a_missed_slo(path):
    run("run", path, "--quiet", "--fail-on-slo", "--set", "slo.ttft_s=0.000001", code=3)
    run("run", path, "--quiet", "--set", "slo.ttft_s=0.000001")


def test_init_writes_a_scenario_that_runs(tmp_path):
    target = str(tmp_path / "new.yaml")
    run("init", target)
    run("init", target, code=2)
    found = json.loads(
        run(
            "run", target, "--json", "--set", "workload={source: azure_conversation, rate_rps: 5, requests: 200}"
        ).stdout
    )
    assert found["arrived"] == 200


@pytest.mark.parametrize(
    ("what", "name"), [("gpus", "h100_sxm"), ("models", "Meta-Llama-3.1-8B"), ("prices", "p5.48xlarge")]
)
def test_list(what, name):
    assert name in run("list", what).stdout


def test_schema_knows_the_fields():
    schema = json.loads(run("schema").stdout)
    assert {"workload", "deployments", "slo"} <= set(schema["properties"])
    assert "max_num_batched_tokens" in schema["$defs"]["EngineConfig"]["properties"]
    assert json.loads((ROOT / "docs" / "scenario.schema.json").read_text()) == schema, "run: make schema"


EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.yaml") if p.stem != "plan")  # a question, not a scenario


def test_example_question():
    """The real-sized one takes a minute (benchmarks/planning.py); here with two minutes of traffic."""
    short = ("--set", "workload.duration_s=120", "--set", "workload.rate_rps=10", "--json")
    found = json.loads(run("plan", str(ROOT / "examples/plan.yaml"), *short).stdout)
    assert len(found["designs"]) == 432 and found["best"] and found["at_least"] >= 0.9


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_examples(example, shared_data):
    found = json.loads(run("run", str(example), "--json").stdout)
    assert found["arrived"] == found["completed"] > 15_000


def test_your_own_gpu_and_model(tmp_path):
    """Both as mappings in the file, and the model as a folder with a config.json."""
    mapping = scenario().to_mapping()
    gpu = {
        "name": "mine",
        "memory_bytes": 48 * 2**30,
        "memory_bandwidth_bytes_per_s": 1e12,
        "bf16_flops": 2e14,
        "tdp_w": 300,
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    mapping["deployments"][0] |= {"gpu": gpu, "model": "model", "step_time": {"kind": "roofline"}}
    mapping["prices"] = {"usd_per_gpu_hour": {"mine": 1.5}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(mapping))
    found = json.loads(run("run", str(tmp_path / "s.yaml"), "--json").stdout)
    assert found["deployments"][0]["gpu"] == "mine" and found["completed"] == 400
    per_hour = next(r["value"] for r in found["cost"] if r["metric"] == "usd_per_hour")
    assert per_hour == pytest.approx(1.5)


def test_the_scenario_beside_a_result_runs_again(tmp_path):
    """Its relative paths start from where it now lies."""
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0.0,50,5\n0.5,60,7\n")
    mapping = scenario().to_mapping() | {"workload": {"source": "trace", "path": "t.csv"}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(mapping))
    out = tmp_path / "deep" / "out"
    run("run", str(tmp_path / "s.yaml"), "--quiet", "--out", str(out))
    assert json.loads(run("run", str(out / "scenario.yaml"), "--json").stdout)["completed"] == 2
