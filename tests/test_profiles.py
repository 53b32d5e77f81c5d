"""Profiles: written and read back, found by what they are of, stretched with a warning, refused when they are none."""

import datetime
import json

import pytest
from typer.testing import CliRunner

from simulator import Scenario, simulate
from simulator.catalog.profile import find_profile, load_profiles, match_profile, read_profile
from simulator.command.app import app
from simulator.errors import ServelabError

AFFINE = {"kind": "affine", "base_s": 0.01, "prefill_token_s": 1e-4, "decode_seq_s": 1e-4, "decode_kv_s": 1e-7}


def document(**changes):
    return {
        "schema": "servelab.profile/1",
        "name": "mine",
        "models": ["llama-3.1-8b"],
        "gpu": "h100",
        "engine_version": "0.32",
        "step_time": AFFINE,
        "api_server": {"base_s": 0.005},
        "provenance": {"date": "2026-11-24"},
        "domain": {"decode_seqs": [1, 4], "prefill_tokens": [0, 512], "context": [1, 100000]},
        "errors": [{"what": "load 50%", "metric": "ttft_s", "error": 0.04, "count": 600}],
    } | changes


def scenario(step_time, folder, **engine):
    s = Scenario.of(
        {
            "workload": {"source": "azure_conversation", "rate_rps": 2.0, "requests": 40},
            "deployments": [
                {
                    "model": "llama-3.1-8b",
                    "gpu": "h100",
                    "step_time": step_time,
                    "engine": {"version": "0.32", "max_model_len": 16384, **engine},
                }
            ],
        },
        folder,
    )
    return s


def test_a_profile_from_a_file_gives_its_step_times_and_its_api_server(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document()))
    own = simulate(scenario({"kind": "profile", "name": "p.json"}, tmp_path))
    given = scenario(AFFINE, tmp_path).model_dump(exclude_none=True)
    given["deployments"][0]["api_server"] = {"base_s": 0.005}
    same = simulate(Scenario.of(json.loads(json.dumps(given))))
    assert (own.requests["end_s"] == same.requests["end_s"]).all()
    facts = own.meta["deployments"][0]
    assert facts["trust"] == "fitted" and facts["source"] == "profile mine of 2026-11-24"
    said = " ".join(own.meta["notes"])
    assert "measured up to decode_seqs = 4" in said and "measured up to prefill_tokens = 512" in said
    assert "context" not in said and "ttft_s mean +4.0% (load 50%)" in said and "API server takes no time" not in said


def test_an_api_server_of_the_scenario_goes_before_the_profiles(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document()))
    s = scenario({"kind": "profile", "name": "p.json"}, tmp_path).to_mapping()
    s["deployments"][0]["api_server"] = {"base_s": 0.5}
    assert (
        simulate(Scenario.of(s, tmp_path))
        .requests["first_token_s"]
        .sub(simulate(Scenario.of(s, tmp_path)).requests["arrival_s"])
        .min()
        > 0.5
    )


def test_other_flags_than_measured_are_said_aloud(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document(engine_version="0.19", models=["qwen3-8b"])))
    result = simulate(scenario({"kind": "profile", "name": "p.json"}, tmp_path, tensor_parallel_size=2))
    said = " ".join(result.meta["notes"])
    assert "another model" in said and "another tensor_parallel_size 2" in said and "another vLLM 0.32" in said
    assert result.meta["deployments"][0]["trust"] == "extrapolated"


def test_the_nearest_shipped_profile_is_found():
    profile, differ = match_profile("Qwen/Qwen3-32B", "rtx_pro_6000_server", "bfloat16", "none", 2, "0.32")
    assert profile.name == "rtxpro6000-qwen3-32b-tp2" and [d[:9] for d in differ] == ["vLLM 0.32"]
    with pytest.raises(
        ServelabError, match="no profile of Qwen/Qwen3-8B on rtx_4090; of this GPU there are rtx4090-llama-3.1-8b"
    ):
        match_profile("Qwen/Qwen3-8B", "rtx_4090", "bfloat16", "none", 1, "0.19")
    with pytest.raises(ServelabError, match="did you mean 'rtx4090-llama-3.1-8b'"):
        find_profile("rtx4090-lama-3.1-8b")


def test_round_trip_and_age(tmp_path):
    for profile in load_profiles().values():
        (tmp_path / "p.json").write_text(profile.to_json())
        assert read_profile(tmp_path / "p.json") == profile
    assert read_profile(tmp_path / "p.json").age_days(datetime.date(2100, 1, 1)) > 20000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        (
            '{"schema": "servelab.profile/9"}',
            "schema is 'servelab.profile/9', this servelab reads 'servelab.profile/1'",
        ),
        ("[]", "schema is None"),
        (json.dumps(document(gpus=3)), "gpus: Extra inputs"),
        (json.dumps(document(engine_version=None)), "engine_version"),
    ],
)
def test_files_that_are_no_profile(tmp_path, text, said):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ServelabError, match=said):
        read_profile(tmp_path / "p.json")


def test_a_profile_whose_step_time_is_none(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document(step_time={"kind": "affine", "base_s": -1})))
    with pytest.raises(ServelabError, match="profile mine: step_time.affine"):
        simulate(scenario({"kind": "profile", "name": "p.json"}, tmp_path))


def test_list_profiles_shows_error_and_age():
    out = CliRunner().invoke(app, ["list", "profiles"])
    assert (
        out.exit_code == 0
        and "rtx4090-llama-3.1-8b" in out.output
        and "days" in out.output
        and "ttft_s mean" in out.output
    )
