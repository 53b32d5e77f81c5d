"""Workloads that other tools describe: mapped, and what does not map is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from simulator.command.app import app
from simulator.errors import ServelabError
from simulator.workload import SyntheticWorkload, generate
from simulator.workload.descriptions import guidellm, inference_perf, prometheus

DATA = Path(__file__).parent / "data"
SCRAPES = DATA / "vllm_metrics_0.32_1.txt", DATA / "vllm_metrics_0.32_2.txt"


def file(tmp_path, content, name="w.yaml"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def made(description, seed=1):
    return generate(SyntheticWorkload.model_validate(description.mapping), np.random.SeedSequence(seed))


STAGES = {"type": "poisson", "interval": 5, "stages": [{"rate": 10, "duration": 200}, {"rate": 40, "duration": 100}]}
RANDOM = {
    "type": "random",
    "input_distribution": {"mean": 300, "std_dev": 100, "min": 50, "max": 400},
    "output_distribution": {"type": "lognormal", "mean": 150, "std_dev": 60, "min": 1, "max": 5000},
}


def test_inference_perf_stages(tmp_path):
    found = inference_perf.read(file(tmp_path, {"load": STAGES, "data": RANDOM, "server": {"type": "vllm"}}))
    t = made(found)
    count = [np.count_nonzero((t.arrival_s >= a) & (t.arrival_s < b)) for a, b in ((0, 200), (200, 205), (205, 305))]
    assert (
        count[1] == 0
        and abs(count[0] - 2000) < 180
        and abs(count[2] - 4000) < 260
        and found.mapping["duration_s"] == 305
    )
    # normal, clamped: what lies outside is set to the bound
    assert t.prompt_tokens.min() == 50 and np.mean(t.prompt_tokens == 400) == pytest.approx(0.16, abs=0.02)
    assert t.output_tokens.mean() == pytest.approx(150, rel=0.03) and t.output_tokens.std() == pytest.approx(
        60, rel=0.05
    )


def test_inference_perf_shared_prefix_and_concurrency(tmp_path):
    raw = {
        "load": {
            "type": "concurrent",
            "stages": [{"concurrency_level": 4, "num_requests": 90}, {"concurrency_level": 8, "num_requests": 9}],
        },
        "data": {
            "type": "shared_prefix",
            "shared_prefix": {
                "num_unique_system_prompts": 3,
                "num_users_per_system_prompt": 5,
                "system_prompt_len": 200,
                "question_len": 70,
                "output_len": {"type": "uniform", "min": 5, "max": 9},
                "enable_multi_turn_chat": True,
            },
        },
    }
    found = inference_perf.read(file(tmp_path, raw))
    t = made(found)
    assert (
        len(t) == 90
        and (t.after == -1).sum() == 4
        and set(t.prompt_tokens) == {270}
        and len(set(t.segment_stream)) == 3
    )
    assert set(t.output_tokens) == {5, 6, 7, 8, 9}
    said = " ".join(found.notes)
    assert "concurrency_level 8" in said and "enable_multi_turn_chat" in said


@pytest.mark.parametrize(
    "change, says",
    [
        ({"load": {**STAGES, "type": "trace_replay"}}, "load.type 'trace_replay' cannot be mapped"),
        ({"load": {**STAGES, "stages": []}}, "load.stages is empty"),
        (
            {"load": {**STAGES, "stages": [{"rate": -1, "duration": 5}]}},
            "load.stages.0.rate must be a number above 0, got -1",
        ),
        ({"data": {"type": "shareGPT"}}, "data.type 'shareGPT' cannot be mapped"),
        (
            {"data": {**RANDOM, "input_distribution": {"type": "poisson"}}},
            "input_distribution.type 'poisson' cannot be mapped",
        ),
    ],
)
def test_bad_inference_perf_is_refused(tmp_path, change, says):
    with pytest.raises(ServelabError, match=f"w.yaml: {says}"):
        inference_perf.read(file(tmp_path, {"load": STAGES, "data": RANDOM, **change}))


def test_unknown_fields_are_noted(tmp_path):
    found = inference_perf.read(file(tmp_path, {"load": {**STAGES, "request_timeout": 9.0}, "data": RANDOM}))
    assert "not mapped: load.request_timeout" in found.notes


TEXT = {
    "kind": "synthetic_text",
    "prompt_tokens": 500,
    "prompt_tokens_stdev": 100,
    "output_tokens": 200,
    "turns": 3,
    "prefix_tokens": 64,
    "prefix_count": 2,
}


def test_guidellm_scenario(tmp_path):
    raw = {
        "metadata": {"name": "x"},
        "spec": {
            "backend": {"kind": "openai_http"},
            "profile": {"kind": "concurrent"},
            "data": [TEXT],
            "constraints": [{"kind": "max_duration", "seconds": 60}, {"kind": "max_errors", "count": 3}],
        },
        "benchmarks": [{"profile.streams": 5}, {"profile.streams": 50}],
    }
    found = guidellm.read(file(tmp_path, json.dumps(raw), "s.json"))
    one = found.mapping["classes"][0]
    assert one["arrivals"] == {"kind": "closed_loop", "concurrency": 5, "requests": 100_000, "duration_s": 60.0}
    assert one["prompt_tokens"] == {"kind": "normal", "mean": 500.0, "std_dev": 100.0, "min": 1, "max": 1000}
    assert one["session"]["turns"] == {"kind": "fixed", "tokens": 3}
    said = " ".join(found.notes)
    assert "profile.streams=50" in said and "max_errors" in said
    one["arrivals"]["requests"] = 200
    t = made(found)
    assert len(t) == 600 and (t.until_s == 60.0).all() and t.reacts


def test_guidellm_arguments(tmp_path):
    old = {
        "rate_type": "poisson",
        "rate": [4.0, 8.0],
        "data": "prompt_tokens=128,output_tokens=16",
        "max_requests": 400,
    }
    found = guidellm.read(file(tmp_path, old))
    t = made(found)
    assert found.mapping["duration_s"] == 100 and set(t.prompt_tokens) == {128} and abs(len(t) - 400) < 80
    assert "the others are 8.0" in " ".join(found.notes)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"rate_type": "sweeep"}, "profile 'sweeep' cannot be mapped"),
        ({"rate_type": "constnt"}, "did you mean 'constant'"),
        ({"data": "my/dataset"}, "data 'my/dataset' is a data set"),
        ({"data": {"prompt_tokens": 5}}, "data.output_tokens is not given"),
        ({"max_requests": None}, "neither a duration"),
        ({"rate": None}, "rate must be a number above 0, got None"),
    ],
)
def test_bad_guidellm_is_refused(tmp_path, change, says):
    old = {"rate_type": "poisson", "rate": 4.0, "data": "prompt_tokens=128,output_tokens=16", "max_requests": 400}
    with pytest.raises(ServelabError, match=says):
        guidellm.read(file(tmp_path, {**old, **change}))


def test_prometheus_between_two_real_scrapes():
    # between them: 40 requests, 14,185 prompt tokens and 1,567 output tokens, as that benchmark's own result has it
    found = prometheus.read(SCRAPES[1], SCRAPES[0], duration_s=31.0)
    one = found.mapping["classes"][0]
    assert one["arrivals"]["rate_rps"] == pytest.approx(40 / 31) and sum(one["prompt_tokens"]["counts"]) == 40
    t = made(found)
    assert t.prompt_tokens.mean() == pytest.approx(14_185 / 40, rel=0.25)  # as far as buckets tell
    said = " ".join(found.notes)
    assert "354.6 tokens" in said and "how bursty" in said and "prefix cache" in said
    whole = prometheus.read(SCRAPES[1], None, duration_s=100.0)
    assert sum(whole.mapping["classes"][0]["output_tokens"]["counts"]) > 40


def test_bad_prometheus_is_refused(tmp_path):
    with pytest.raises(ServelabError, match=r"duration_s must say how long .* got None"):
        prometheus.read(SCRAPES[0])
    with pytest.raises(ServelabError, match="lower than in the earlier scrape"):
        prometheus.read(SCRAPES[0], SCRAPES[1], 10.0)
    with pytest.raises(ServelabError, match="counted no request in this time"):
        prometheus.read(SCRAPES[0], SCRAPES[0], 10.0)
    with pytest.raises(ServelabError, match="no metric 'vllm:request_prompt_tokens'"):
        prometheus.read(file(tmp_path, "up 1\n", "m.txt"), None, 10.0)


def test_files_that_are_no_mapping(tmp_path):
    with pytest.raises(ServelabError, match="neither YAML nor JSON"):
        guidellm.read(file(tmp_path, "a: [1,"))
    with pytest.raises(ServelabError, match="expected a mapping, got list"):
        inference_perf.read(file(tmp_path, "[1]"))
    with pytest.raises(ServelabError, match="no such trace file"):
        inference_perf.read(tmp_path / "none.yaml")


def test_command(tmp_path):
    path = file(tmp_path, {"load": STAGES, "data": RANDOM})
    out = tmp_path / "workload.yaml"
    call = CliRunner().invoke(app, ["fit-workload", str(path), "--format", "inference_perf", "--out", str(out)])
    assert call.exit_code == 0 and SyntheticWorkload.model_validate(yaml.safe_load(out.read_text())["workload"])
    again = CliRunner().invoke(app, ["fit-workload", str(path), "--format", "inference_perf", "--out", str(out)])
    assert again.exit_code == 2 and "exists already" in again.output
