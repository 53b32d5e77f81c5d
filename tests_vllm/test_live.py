"""Real vLLM on this machine's CPU: the machinery of a calibration, from starting to resuming, and exact live schedules.

Run by ``make test-vllm``. Limits on errors are loose: the machine may be busy. The strict ones are judged on rows
that were measured on an idle machine, see tests/test_accuracy.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calibration.judge.live_schedule import live_recording
from calibration.judge.schedules import replay
from calibration.measure.accuracy_plans import ENGINE, write_model
from calibration.measure.measurements import lines, read_campaign
from calibration.measure.runner import run_campaign
from calibration.oracle.campaign import flood, load, mix
from simulator.catalog.profile import read_profile

PYTHON = Path(os.environ.get("VLLM_PYTHON", ".venv-vllm/bin/python")).absolute()
ENV = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
FLAGS = {k: v for k, v in ENGINE.items() if k != "num_gpu_blocks_override"}

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON} is not there: make vllm-env")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models"), "llama-4l-256h")


def plan(folder, model, runs, **more):
    folder.mkdir(parents=True, exist_ok=True)
    engine = FLAGS | {"num_gpu_blocks_override": more.pop("blocks", 1024)}
    (folder / "plan.json").write_text(
        json.dumps({"model": str(model), "engine_args": engine, "seed": 1, "runs": runs, **more})
    )


def quiet(done, all_, seconds):
    pass


def test_every_decision_of_a_live_engine_that_preempts(tmp_path, model):
    """Requests arrive while batches run and the pool is too small: each batch is the one the simulator plans."""
    requests = mix(80, 96, 40, 1024, 1)
    runs = [flood("flood", requests), load("busy", requests, 0.9)]
    plan(tmp_path, model, runs, full=True, blocks=48)
    assert run_campaign(tmp_path, PYTHON, quiet, ENV) == 0
    result = replay("live", live_recording(tmp_path))
    assert result.identical, result.difference
    assert result.batches > 300 and result.counts["preemptions"] > 5


def servelab(*arguments, **more):
    command = [str(Path(sys.executable).with_name("servelab")), *map(str, arguments)]
    return subprocess.Popen(
        command, env=os.environ | ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


def calibrate(model, out, budget="60s"):
    flags = [x for k, v in FLAGS.items() for x in ("--engine-arg", f"{k}={json.dumps(v)}")]
    flags += ["--engine-arg", "num_gpu_blocks_override=1024"]
    return servelab(
        "calibrate",
        "--model",
        model,
        "--out",
        out,
        "--budget",
        budget,
        "--python",
        PYTHON,
        "--prompt",
        96,
        "--output",
        16,
        *flags,
    )


def test_calibrate_stopped_resumed_and_used(tmp_path, model):
    """Ctrl-C keeps what was measured, the same command goes on; the profile predicts other loads, roughly."""
    out = tmp_path / "cal"
    first = calibrate(model, out)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and sum("end" in r for r in lines(out / "runs.jsonl")) < 5:
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    before = [r["run"] for r in lines(out / "runs.jsonl") if "end" in r]
    assert len(before) >= 5

    second = calibrate(model, out)
    said = second.communicate(timeout=600)
    assert second.returncode == 0, said
    after = [r["run"] for r in lines(out / "runs.jsonl") if "end" in r]
    assert after[: len(before)] == before and len(set(after)) == len(after)
    profile = read_profile(out / "profile.json")
    means = [e for e in profile.errors if e.statistic == "mean" and e.metric == "tpot_s"]
    assert means and all(abs(e.error) < 1.0 for e in means)
    assert profile.api_server.get("base_s", 0.0) < 0.1 and profile.domain["decode_seqs"][1] >= 16
    assert (out / "report.html").read_text().count("<svg") == 5

    check = servelab("validate", "run", out / "profile.json", "--measured", out, "--json")
    printed, problem = check.communicate(timeout=120)
    assert check.returncode == 0, problem
    assert {"filling", "all"} & {e["phase"] for e in json.loads(printed)["errors"]}
    moved = servelab("validate", "drift", out / "profile.json", "--measured", out, "--tolerance", 1.0)
    assert moved.wait(120) == 0


def test_a_dead_engine_keeps_what_was_measured(tmp_path, model):
    """The engine's process is killed under way: exit code 3, and the rows before it are there."""
    runs = [load(f"part-{i}", mix(200, 64, 16, 1024, i), 1.0) | {"rate": 20.0} for i in range(20)]
    for run in runs:
        del run["share"]
    plan(tmp_path, model, runs)
    killed = []

    def told(done, all_, seconds):
        if done >= 1 and not killed:
            for pid in subprocess.run(
                ["pgrep", "-f", "VLLM::EngineCor"], capture_output=True, text=True, check=False
            ).stdout.split():
                if str(tmp_path) in Path(f"/proc/{pid}/environ").read_text(errors="replace"):
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(pid)

    assert run_campaign(tmp_path, PYTHON, told, ENV) != 0
    assert killed
    campaign = read_campaign(tmp_path)
    assert len(campaign.loads[0].requests) == 200
