"""A deployment as a vllm serve command, and a vllm serve command as a scenario."""

import csv
import shlex

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from simulator.catalog import data_folder, find_model, hub_id, load_models, load_serve_flags
from simulator.cluster.deployment import Deployment
from simulator.command.app import app
from simulator.engine.api_server import ApiServerConfig
from simulator.engine.config import EngineConfig, resolve
from simulator.engine.versions import load_versions
from simulator.errors import ServelabError
from simulator.export.from_vllm_serve import given_flags, scenario_from_serve
from simulator.export.vllm_serve import flag_of, serve_arguments, serve_command
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario

MODEL = "Qwen/Qwen3-8B"


def deployment(engine=None, **parts) -> Deployment:
    return Deployment.model_validate({"model": MODEL, "gpu": "h100", "engine": engine or {}} | parts)


def test_defaults_are_left_to_vllm():
    assert serve_arguments(deployment()) == [MODEL]


def test_what_is_set_is_written_even_where_it_is_the_default():
    flags = {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.85,
        "max_model_len": -1,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "scheduling_policy": "fcfs",
        "kv_cache_dtype": "fp8",
        "watermark": 1e-5,
    }
    assert serve_arguments(deployment(flags)) == [
        MODEL,
        "--tensor-parallel-size",
        "2",
        "--kv-cache-dtype",
        "fp8",
        "--gpu-memory-utilization",
        "0.85",
        "--max-model-len",
        "auto",
        "--scheduling-policy",
        "fcfs",
        "--watermark",
        "1e-05",
        "--no-enable-prefix-caching",
        "--enforce-eager",
    ]


def test_ranks_in_lockstep_are_written_as_they_are_simulated():
    d = deployment(model="Qwen/Qwen3-30B-A3B", data_parallel_size=4, expert_parallel=True)
    assert serve_arguments(d)[1:] == [
        "--no-async-scheduling",
        "--data-parallel-size",
        "4",
        "--enable-expert-parallel",
        "--api-server-count",
        "1",
    ]


def test_api_servers_are_written_where_vllm_would_start_another_number():
    def servers(ranks, processes):
        d = deployment(data_parallel_size=ranks, api_server={"processes": processes})
        return "--api-server-count" in serve_arguments(d)

    assert [servers(1, 1), servers(1, 2), servers(4, 4), servers(4, 1)] == [False, True, False, True]


def test_the_command_is_for_a_shell():
    text = serve_command(deployment({"max_num_seqs": 64}), "./my models/llama")
    assert text == "vllm serve './my models/llama' \\\n    --max-num-seqs 64"
    assert shlex.split(text.replace("\\\n", ""))[2] == "./my models/llama"


def test_model_ids_are_those_of_the_catalog_and_never_made_up():
    assert serve_arguments(deployment(model="llama-3.1-8b"))[0] == "meta-llama/Llama-3.1-8B"
    assert serve_arguments(deployment(model="META-llama/llama-3.3-70b-instruct"))[0].endswith("3.3-70B-Instruct")
    assert all(hub_id(name) == name for name in load_models())
    own = load_models()[MODEL].model_copy(update={"name": "ours"})
    with pytest.raises(ServelabError, match=r"no Hugging Face id for the model 'ours'.*--model-id org/name"):
        serve_arguments(deployment(model=own.model_dump()))
    assert serve_arguments(deployment(model=own.model_dump()), "acme/ours")[0] == "acme/ours"
    for bad in ("", " ", "--port"):
        with pytest.raises(ServelabError, match="model id"):
            serve_arguments(deployment(), bad)


@pytest.mark.parametrize(
    ("model", "quantization", "given", "flags"),
    [
        (MODEL, "fp8", None, ["--quantization", "fp8"]),  # vLLM quantizes while it loads
        (MODEL, "none", None, []),
        (MODEL, "awq", "Qwen/Qwen3-8B-AWQ", ["--quantization", "awq"]),
        (MODEL, "awq", None, None),
        ("Qwen/Qwen3-30B-A3B-FP8", None, None, []),
        ("Qwen/Qwen3-30B-A3B-FP8", "none", None, None),
    ],
)
def test_quantizations_that_need_other_weights_need_their_id(model, quantization, given, flags):
    d = deployment({"quantization": quantization} if quantization else {}, model=model)
    if flags is None:
        with pytest.raises(ServelabError, match=f"quantization={quantization!r} needs weights other than"):
            serve_arguments(d, given)
    else:
        assert serve_arguments(d, given)[1:] == flags


def test_only_continuous_serving_has_a_command():
    with pytest.raises(ServelabError, match="serving.kind='triton'.*only continuous"):
        serve_command(deployment(serving={"kind": "triton"}))


def test_every_flag_of_the_engine_is_in_the_table_and_no_other_is_called_simulated():
    ours = {flag_of(f) for f in EngineConfig.model_fields if f != "version"}
    others = {"--data-parallel-size", "--enable-expert-parallel", "--api-server-count", "--model"}
    assert {f for f, row in load_serve_flags().items() if row["effect"] == "simulated"} == ours | others


def test_the_table_is_sound():
    with open(data_folder() / "vllm_serve_flags.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["flag"] for row in rows}) == len(rows) > 300
    assert {row["takes"] for row in rows} == {"value", "values", "perhaps", "switch", "mark"}
    assert {row["effect"] for row in rows} == {"simulated", "not modelled", "none", "refused"}


SWITCH = st.booleans()
FLAGS = {
    "tensor_parallel_size": st.sampled_from([1, 2, 4, 8]),
    "pipeline_parallel_size": st.integers(1, 4),
    "dtype": st.sampled_from(["auto", "bfloat16", "half", "float32"]),
    "quantization": st.just("fp8"),
    "kv_cache_dtype": st.sampled_from(["auto", "fp8", "fp8_e4m3"]),
    "gpu_memory_utilization": st.floats(0.8, 1.0),
    "num_gpu_blocks_override": st.integers(3000, 9000),
    "block_size": st.sampled_from([16, 32, 64]),
    "max_model_len": st.one_of(st.just(-1), st.integers(64, 40960)),
    "max_num_seqs": st.integers(1, 1024),
    "max_num_active_seqs": st.integers(1, 64),
    "max_num_batched_tokens": st.integers(1024, 65536),
    "max_num_queued_reqs": st.integers(0, 99),
    "max_num_queued_tokens": st.integers(0, 10**6),
    "enable_chunked_prefill": SWITCH,
    "long_prefill_token_threshold": st.integers(0, 64),
    "long_prefill_token_threshold_adaptive": SWITCH,
    "scheduling_policy": st.sampled_from(["fcfs", "priority"]),
    "async_scheduling": SWITCH,
    "scheduler_reserve_full_isl": SWITCH,
    "watermark": st.floats(0, 0.99),
    "enable_prefix_caching": SWITCH,
    "enforce_eager": SWITCH,
    "max_cudagraph_capture_size": st.integers(1, 512),
}


@settings(max_examples=300, deadline=None)
@given(
    flags=st.fixed_dictionaries({}, optional=FLAGS),
    version=st.sampled_from(sorted(load_versions())),
    ranks=st.integers(1, 4),
    servers=st.integers(1, 4),
)
def test_there_and_back_gives_the_same_deployment(flags, version, ranks, servers):
    d = deployment({"version": version, **flags}, data_parallel_size=ranks, api_server={"processes": servers})
    try:
        wanted = resolve(d.engine, d.model_spec(), d.gpu_spec())
    except ServelabError:
        assume(False)
    back = scenario_from_serve(serve_command(d), "h100", version=version)
    (found,) = back.scenario.deployments
    assert found.engine == d.engine
    assert found.engine.model_fields_set == d.engine.model_fields_set | {"version"}
    assert (found.data_parallel_size, found.api_server or ApiServerConfig()) == (ranks, d.api_server)
    assert resolve(found.engine, find_model(found.model), found.gpu_spec()).flags() == wanted.flags()
    assert Scenario.of(yaml.safe_load(back.to_yaml())) == back.scenario


def test_every_field_of_the_engine_goes_there_and_back():
    """The property above draws each of them."""
    assert set(FLAGS) == set(EngineConfig.model_fields) - {"version"}


def test_lockstep_comes_back_with_the_same_settings():
    d = deployment(model="Qwen/Qwen3-30B-A3B", gpu="h200", data_parallel_size=2, expert_parallel=True)
    back = scenario_from_serve(serve_command(d), "h200").scenario
    first = back.model_copy(update={"deployments": (d,)})
    assert resolve_deployment(back, 0).settings.flags() == resolve_deployment(first, 0).settings.flags()
    assert back.deployments[0].expert_parallel


REAL = """CUDA_VISIBLE_DEVICES=0,1 VLLM_ATTENTION_BACKEND=FLASHINFER HF_TOKEN=hf_secret \\
  vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 2 --max_model_len=16K --max-num-batched-tokens 8.2k \\
  --host 0.0.0.0 --port=8001 --api-key sk-secret --served-model-name a b --trust-remote-code \\
  --no-enable-prefix-caching -O3 --compilation-config.mode=3 --speculative-config '{"method": "ngram"}' \\
  --enable-lora"""


def test_a_real_command_is_read():
    found = scenario_from_serve(REAL, "h100", name="chat")
    (d,) = found.mapping["deployments"]
    assert d == {
        "name": "chat",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "h100",
        "engine": {
            "version": "0.32",
            "tensor_parallel_size": 2,
            "max_model_len": 16384,
            "max_num_batched_tokens": 8200,
            "enable_prefix_caching": False,
        },
    }
    assert set(found.ignored) == {
        "--host",
        "--port",
        "--api-key",
        "--served-model-name",
        "--trust-remote-code",
        "CUDA_VISIBLE_DEVICES",
        "HF_TOKEN",
    }
    said = "\n".join(found.warnings)
    for name in (
        "--speculative-config",
        "--enable-lora",
        "--optimization-level",
        "--compilation-config",
        "VLLM_ATTENTION_BACKEND",
        "the workload is a placeholder",
    ):
        assert name in said
    assert "secret" not in found.to_yaml() and "--host" in found.to_yaml()


@pytest.mark.parametrize(
    "start",
    [
        "vllm serve Qwen/Qwen3-8B",
        "/opt/venv/bin/vllm serve Qwen/Qwen3-8B",
        "vllm serve --model Qwen/Qwen3-8B",
        "env A=1 python3.12 -m vllm.entrypoints.openai.api_server --model=Qwen/Qwen3-8B",
        "exec python -m vllm.entrypoints.cli.main serve Qwen/Qwen3-8B",
        "uv run vllm serve Qwen/Qwen3-8B",
        "uv run --with vllm vllm serve Qwen/Qwen3-8B",
        "sudo -E vllm serve Qwen/Qwen3-8B",
        "env -u X vllm serve Qwen/Qwen3-8B",
        "env A=1 vllm serve Qwen/Qwen3-8B",
    ],
)
def test_ways_to_start_vllm(start):
    (d,) = scenario_from_serve(f"{start} --max-num-seqs 8 --max-num-seqs 9", "h100").scenario.deployments
    assert (d.model, d.engine.max_num_seqs) == (MODEL, 9)  # as in vLLM, the last one holds


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("vllm serve Qwen/Qwen3-8B --max-num-seq 64", r"--max-num-seq: .*no such flag \(did you mean '--max-num-seqs'"),
        ("vllm serve Qwen/Qwen3-8B --max-num-seqs abc", "max_num_seqs='abc'.*integer"),
        ("vllm serve Qwen/Qwen3-8B --max-num-seqs", "--max-num-seqs: expected one argument"),
        ("vllm serve Qwen/Qwen3-8B --max-model-len 16.5K", "--max-model-len: expected a whole number.*'16.5K'"),
        ("vllm serve Qwen/Qwen3-8B --max-model-len 99999", "max_model_len=99999 must be between 1 and 40960"),
        ("vllm serve Qwen/Qwen3-8B -dp 0", "--data-parallel-size: expected a whole number from 1 on, got '0'"),
        ("vllm serve Qwen/Qwen3-8Z", r"'Qwen/Qwen3-8Z' is not in the catalog \(did you mean 'Qwen/Qwen3-8B'"),
        ("vllm serve Qwen/Qwen3-8B stray", "'stray' belongs to no flag"),
        ("vllm serve Qwen/Qwen3-8B --config a.yaml", "--config: config files are not read"),
        ("vllm serve --config c.yaml", "--config: config files are not read"),
        ("vllm serve Qwen/Qwen3-8B --headless", "--headless: give the leader's command"),
        ("vllm serve --port 1", "names no model"),
        ("vllm bench serve", "expected `vllm serve MODEL"),
        ("docker run image --model x", "expected `vllm serve MODEL"),
        ("", "expected `vllm serve MODEL"),
        ("vllm serve Qwen/Qwen3-8B | tee log", r"holds '\|'"),
        ("vllm serve Qwen/Qwen3-8B 2>&1", "holds '2>&1'"),
        ("vllm serve 'Qwen", "cannot be read as a shell would"),
    ],
)
def test_commands_that_cannot_be_read(command, message):
    with pytest.raises(ServelabError, match=message):
        scenario_from_serve(command, "h100")


def test_an_unknown_gpu_and_version_are_named():
    with pytest.raises(ServelabError, match="h10O"):
        scenario_from_serve("vllm serve Qwen/Qwen3-8B", "h10O")
    with pytest.raises(ServelabError, match="'0.5' is not modelled"):
        scenario_from_serve("vllm serve Qwen/Qwen3-8B", "h100", version="0.5")


def test_parallelism_that_is_not_simulated_is_warned_of():
    def said(flags, model=MODEL):
        return " ".join(scenario_from_serve(f"vllm serve {model} {flags}", "h200").warnings)

    assert "does not simulate it yet" in said("-pp 2")
    assert "simulated only with data_parallel_size above 1" in said("--enable-expert-parallel")
    assert "simulated as independent" in said("-dp 2 -tp 2", "Qwen/Qwen3-30B-A3B")
    assert scenario_from_serve("vllm serve Qwen/Qwen3-32B -tp 16", "h100").scenario.deployments[0].across_nodes


def test_flags_given_as_text_are_found_by_any_of_their_names():
    assert given_flags(["m", "-q", "fp8", "--device-memory-utilization", "0.5", "-ep"]) == {
        "model_tag": "m",
        "--quantization": "fp8",
        "--gpu-memory-utilization": "0.5",
        "--enable-expert-parallel": True,
    }


def test_the_commands(tmp_path):
    file, again = tmp_path / "scenario.yaml", tmp_path / "again.yaml"
    file.write_text(Scenario.of(scenario_from_serve(REAL, "h100", name="chat").mapping).to_yaml())
    shown = CliRunner().invoke(app, ["export", "serve", str(file)])
    assert shown.exit_code == 0 and shown.stdout.startswith("vllm serve meta-llama/Llama-3.1-8B-Instruct \\\n")
    arguments = ["from-serve", "-", "--gpu", "h100", "--out", str(again)]
    read = CliRunner().invoke(app, arguments, input=shown.stdout)
    assert read.exit_code == 0 and "wrote" in read.stdout and "placeholder" in read.stderr
    first, second = (Scenario.load(p).deployments[0].engine for p in (file, again))
    assert first == second
    before = again.read_text()
    refused = CliRunner().invoke(app, arguments, input="vllm serve Qwen/Qwen3-8B")
    assert (refused.exit_code, again.read_text()) == (2, before) and "exists already" in refused.stderr
    assert CliRunner().invoke(app, [*arguments, "--overwrite"], input="vllm serve Qwen/Qwen3-8B").exit_code == 0
    assert Scenario.load(again).deployments[0].model == "Qwen/Qwen3-8B"
    for bad in (
        ["from-serve", "vllm serv x", "--gpu", "h100"],
        ["from-serve", "vllm serve Qwen/Qwen3-8B", "--gpu", "h100", "--out", str(tmp_path / "no" / "x.yaml")],
        ["export", "serve", str(file), "--deployment", "chta"],
        ["export", "serve", str(tmp_path / "missing.yaml")],
    ):
        found = CliRunner().invoke(app, bad)
        assert found.exit_code == 2 and found.stderr.startswith("error: ") and len(found.stderr.splitlines()) == 1


def test_a_model_folder_is_named_from_the_folder_of_the_scenario(tmp_path, monkeypatch):
    (tmp_path / "here" / "llama").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "llama" / "config.json").write_text(
        '{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512, '
        '"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 1000, "max_position_embeddings": 2048}'
    )
    monkeypatch.chdir(tmp_path / "here")
    out = tmp_path / "there" / "s.yaml"
    made = CliRunner().invoke(app, ["from-serve", "vllm serve llama -tp 2", "--gpu", "h100", "--out", str(out)])
    assert made.exit_code == 0, made.stderr
    loaded = Scenario.load(out)
    assert loaded.deployments[0].model_spec(loaded.base_dir).layers == 2
