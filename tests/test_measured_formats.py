"""Measurements that other tools wrote: read, counted, and refused with the flag that would have helped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from calibration.commands.calibrating import cpu_spec, key_values, seconds
from calibration.commands.validating import drifts
from calibration.fit.affine import fit_affine
from calibration.fit.design import clean
from calibration.formats import iteration_log, llmservingsim, prometheus, read_runs
from calibration.judge.compare_runs import error_table, phases, simulated_run, values
from calibration.judge.replay import deployment, replay, request_table
from calibration.measure.measured import MeasuredRun
from calibration.measure.measurements import read_campaign
from calibration.profiles.build_profile import build_profile
from simulator import Scenario, simulate
from simulator.catalog.profile import Profile, find_profile, read_profile
from simulator.errors import ServelabError

DATA = Path(__file__).parent / "data"
ROWS = DATA / "cpu-vllm-0.32"


def test_vllm_bench(tmp_path):
    run = read_runs(DATA / "vllm_bench_serve_limited_0.32.json")[0]
    raw = json.loads((DATA / "vllm_bench_serve_limited_0.32.json").read_text())
    assert run.failed == raw["failed"] == 1 and len(run.requests) == raw["completed"]
    assert run.requests["ttft_s"].mean() * 1e3 == pytest.approx(raw["mean_ttft_ms"])
    assert np.nanmean(values(run, "tpot_s")) * 1e3 == pytest.approx(raw["mean_tpot_ms"])
    assert values(run, "itl_s").mean() * 1e3 == pytest.approx(raw["mean_itl_ms"], rel=1e-6)
    for change, said in (
        (lambda d: d.pop("ttfts"), "--save-result --save-detailed"),
        (lambda d: d["itls"].pop(), "arrays differ in length"),
        (lambda d: d.update(errors=["x"] * 30), "all 30 requests failed"),
        (lambda d: [d[k].clear() for k in ("ttfts", "itls", "input_lens", "output_lens")], "holds no request"),
    ):
        broken = json.loads(json.dumps(raw))
        change(broken)
        (tmp_path / "b.json").write_text(json.dumps(broken))
        with pytest.raises(ServelabError, match=said):
            read_runs(tmp_path / "b.json")
    old = {k: v for k, v in raw.items() if k != "start_times"}
    (tmp_path / "old.json").write_text(json.dumps(old))
    run = read_runs(tmp_path / "old.json")[0]
    assert "no start_times" in run.notes[0]
    with pytest.raises(ServelabError, match="no arrival times"):
        request_table(run)


def test_files_of_no_known_format(tmp_path):
    (tmp_path / "cut.json").write_text('{"ttfts": [0.1, ')
    with pytest.raises(ServelabError, match="not JSON, or cut off"):
        read_runs(tmp_path / "cut.json")
    (tmp_path / "x.json").write_text('{"hello": 1}')
    with pytest.raises(ServelabError, match="known are vllm bench serve JSON, GuideLLM report, inference-perf"):
        read_runs(tmp_path / "x.json")
    with pytest.raises(ServelabError, match="no such file"):
        read_runs(tmp_path / "nothing")


def test_guidellm(tmp_path):
    """A report that the tool wrote (all its requests failed), and one with requests under the names of its own
    schema."""
    with pytest.raises(ServelabError, match="benchmark 0 keeps no successful requests .20 failed"):
        read_runs(DATA / "guidellm_errors_0.8.1.json")
    report = json.loads((DATA / "guidellm_errors_0.8.1.json").read_text())
    requests = [
        {
            "request_start_time": 100.0 + i,
            "prompt_tokens": 50,
            "output_tokens": 5,
            "time_to_first_token_ms": 30.0,
            "request_latency": 0.07,
        }
        for i in (2, 0, 1)
    ]
    report["benchmarks"][0]["requests"]["successful"] = requests
    (tmp_path / "g.json").write_text(json.dumps(report))
    (run,) = read_runs(tmp_path / "g.json")
    assert run.failed == 20 and run.requests["arrival_s"].tolist() == [0.0, 1.0, 2.0]
    assert values(run, "tpot_s") == pytest.approx([0.01] * 3) and "no times of single tokens" in run.notes[0]
    del requests[0]["time_to_first_token_ms"]
    (tmp_path / "g.json").write_text(json.dumps(report))
    with pytest.raises(ServelabError, match="lack time_to_first_token_ms: it was not streaming"):
        read_runs(tmp_path / "g.json")


def lifecycle(error=None):
    times = [10.1, 10.15, 10.22]
    return {
        "start_time": 10.0,
        "end_time": 10.3,
        "request": "",
        "response": "",
        "error": error,
        "info": {"input_tokens": 50, "output_tokens": 3, "output_token_times": times},
    }


def test_inference_perf(tmp_path):
    """The file is written here after the format that its source documents: the tool itself did not run."""
    later = lifecycle() | {"start_time": 9.5, "end_time": 10.3}
    file = tmp_path / "per_request_lifecycle_metrics.json"
    file.write_text(json.dumps([lifecycle(), lifecycle({"error_type": "Timeout"}), later]))
    (run,) = read_runs(file)
    assert run.failed == 1 and run.requests["arrival_s"].tolist() == [0.0, 0.5]
    assert run.requests["ttft_s"].tolist() == pytest.approx([0.6, 0.1])
    assert run.itl_s[1] == pytest.approx([0.05, 0.07])
    silent = lifecycle()
    silent["info"]["output_token_times"] = []
    file.write_text(json.dumps([silent]))
    with pytest.raises(ServelabError, match="streaming: true"):
        read_runs(file)
    file.write_text(json.dumps([lifecycle({"error_type": "x"})]))
    with pytest.raises(ServelabError, match="all 1 requests failed"):
        read_runs(file)


def test_iteration_log(tmp_path):
    frame = iteration_log.read(DATA / "vllm_iterations_0.32.log")
    assert len(frame) > 100 and (frame["seconds"] > 0).all() and frame["decode_kv"].isna().all()
    assert frame["prefill_tokens"].max() > 100 and frame["decode_seqs"].max() > 1
    with pytest.raises(ServelabError, match="decode_kv_s cannot be known: the measurements do not say decode_kv"):
        fit_affine(clean(frame))
    fit = fit_affine(clean(frame), 0.0, ("base_s", "prefill_token_s", "decode_seq_s"))
    assert fit.coefficients[0] > 0 and fit.coefficients[1] > 0
    assert "decode_kv_s cannot be known" in iteration_log.cannot_identify()
    (tmp_path / "x.log").write_text("INFO nothing\n")
    with pytest.raises(ServelabError, match="--enable-logging-iteration-details"):
        iteration_log.read(tmp_path / "x.log")


def test_prometheus(tmp_path):
    before, after = DATA / "vllm_metrics_0.32_1.txt", DATA / "vllm_metrics_0.32_2.txt"
    found = prometheus.read(before, after)
    assert {"ttft_s", "e2el_s", "queue_s"} <= set(found)
    assert found["ttft_s"].counts.sum() == 40 and (found["ttft_s"].counts >= 0).all()
    low, high = found["e2el_s"].quantile(0.5)
    assert low < high and found["ttft_s"].mean < found["e2el_s"].mean
    with pytest.raises(ServelabError, match="the server restarted"):
        prometheus.read(after, before)
    with pytest.raises(ServelabError, match="no request"):
        prometheus.read(after, after)
    (tmp_path / "m.txt").write_text("vllm:x{ 1\n")
    with pytest.raises(ServelabError, match="no Prometheus exposition"):
        prometheus.read(before, tmp_path / "m.txt")
    assert "no coefficient" in prometheus.cannot_identify()


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(ROWS / "llama-4l-256h", tmp_path / "rows/llama-4l-256h")
    shutil.copytree(ROWS / "models", tmp_path / "rows/models")
    return tmp_path / "rows/llama-4l-256h"


def rewrite(path, change):
    import gzip

    packed = path.with_name(path.name + ".gz")
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    packed.unlink()
    path.write_text("\n".join(change(lines)) + "\n")


def test_a_campaign_cut_off_in_the_middle_of_a_line(folder):
    whole = read_campaign(folder)
    rewrite(folder / "requests.jsonl", lambda lines: [*lines[:-1], lines[-1][:20]])
    cut = read_campaign(folder)
    assert sum(len(r.requests) for r in cut.loads) == sum(len(r.requests) for r in whole.loads) - 1
    rewritten = (folder / "requests.jsonl").read_text().splitlines()
    (folder / "requests.jsonl").write_text("\n".join(["{broken", *rewritten]))
    with pytest.raises(ServelabError, match="requests.jsonl line 1 is not JSON"):
        read_campaign(folder)


def test_campaigns_that_are_none_or_of_two_engines(folder, tmp_path):
    with pytest.raises(ServelabError, match="holds no plan.json"):
        read_campaign(tmp_path)
    rewrite(folder / "engine.jsonl", lambda lines: [*lines, lines[0].replace('"max_num_seqs":32', '"max_num_seqs":64')])
    with pytest.raises(ServelabError, match="holds 2 different engines"):
        read_campaign(folder)
    (folder / "engine.jsonl").write_text("")
    with pytest.raises(ServelabError, match="no engine has started"):
        read_campaign(folder)


def test_failed_requests_are_counted_and_not_averaged_in(folder):
    whole = {r.name: r for r in read_campaign(folder).loads}

    def fail(lines):
        rows = [json.loads(line) for line in lines]
        for row in rows:
            if row["run"] == "mix-50%-0" and row["row"] < 10:
                row["error"], row["ttft"] = "HTTP 500", 1e6
        return [json.dumps(r) for r in rows]

    rewrite(folder / "requests.jsonl", fail)
    after = {r.name: r for r in read_campaign(folder).loads}["mix-50%-0"]
    assert after.failed == 10 and len(after.requests) == len(whole["mix-50%-0"].requests) - 10
    assert after.requests["ttft_s"].max() < 100


def test_batches_all_alike_say_which_coefficient_cannot_be_known(folder):
    campaign = read_campaign(folder)
    rows = campaign.steps
    kept = rows[rows["prefill_tokens"] == 0]
    object.__setattr__(campaign, "steps", kept)
    with pytest.raises(ServelabError, match="prefill_token_s cannot be known: all .* have prefill_tokens = 0"):
        build_profile(campaign, "x", cpu_spec())


def toy(factor=1.0, n=120):
    """A measured run that is the simulation itself, its times stretched."""
    profile = Profile.model_validate(
        {
            "schema": "servelab.profile/1",
            "name": "toy",
            "models": ["llama-3.1-8b"],
            "gpu": "h100",
            "engine_version": "0.32",
            "step_time": {
                "kind": "affine",
                "base_s": 0.01,
                "prefill_token_s": 1e-5,
                "decode_seq_s": 1e-4,
                "decode_kv_s": 1e-8,
            },
            "api_server": {"base_s": 0.001},
            "discrepancy": {"tpot_s": 0.01, "ttft_s": 0.01, "e2el_s": 0.01},
        }
    )
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "arrival_s": np.cumsum(rng.exponential(0.1, n)),
            "prompt_tokens": rng.integers(10, 500, n),
            "output_tokens": rng.integers(2, 60, n),
            "ttft_s": 1.0,
            "e2el_s": 2.0,
        }
    )
    run = MeasuredRun("toy-0", frame)
    return profile, run, factor


def replayed(tmp_path, factor):
    profile, run, _ = toy(factor)
    (tmp_path / "p.json").write_text(profile.to_json())
    simulated = simulated_run(run, replay(profile, str(tmp_path / "p.json"), run))
    q = simulated.requests
    slower = q.assign(ttft_s=q["ttft_s"] * factor, e2el_s=q["e2el_s"] * factor)
    return profile, MeasuredRun("toy-0", slower, (simulated.itl_s[0] * factor,)), simulated


def test_errors_are_zero_for_itself_and_the_factor_otherwise(tmp_path):
    profile, same, simulated = replayed(tmp_path, 1.0)
    assert read_profile(tmp_path / "p.json") == profile
    table = error_table([(same, simulated)])
    assert (table["error"].abs() < 1e-12).all() and table["noise_floor"].isna().all()
    _, slower, simulated = replayed(tmp_path, 1.25)
    table = error_table([(slower, simulated)]).query("phase == 'all'").set_index(["metric", "statistic"])["error"]
    assert table["ttft_s", "mean"] == pytest.approx(-0.2) and table["itl_s", "p99"] == pytest.approx(-0.2)
    assert table["tpot_s", "matched"] == pytest.approx(0.2)
    assert table["requests_per_s", "value"] > 0
    assert set(phases(same)) == {"filling", "steady", "draining"}


def test_repeats_give_the_noise_floor(tmp_path):
    _, a, simulated = replayed(tmp_path, 1.0)
    _, b, _ = replayed(tmp_path, 1.1)
    b = MeasuredRun("toy-1", b.requests, b.itl_s)
    table = error_table([(a, simulated), (b, simulated)]).set_index(["phase", "metric", "statistic"])
    row = table.loc[("all", "e2el_s", "mean")]
    half = 12.706 * (0.1 / np.sqrt(2)) / np.sqrt(2)
    assert row["repeats"] == 2 and row["noise_floor"] == pytest.approx(half / 1.05, rel=1e-3)


@pytest.mark.parametrize(("factor", "moved"), [(1.0, False), (1.02, False), (1.3, True), (0.7, True)])
def test_drift_is_told_from_noise_and_from_the_profiles_own_error(tmp_path, factor, moved):
    profile, measured, simulated = replayed(tmp_path, factor)
    found = {d.metric: d for d in drifts(profile, [(measured, simulated)])}
    assert found["tpot_s"].effect == pytest.approx(factor - 1, abs=1e-9)
    assert (found["tpot_s"].p < 0.05 and abs(found["tpot_s"].effect) > 0.05) == moved


def test_words_of_the_command():
    assert seconds("90s") == 90 and seconds("1h") == 3600
    for bad in ("5", "5x", "10s"):
        with pytest.raises(ServelabError, match="--budget"):
            seconds(bad)
    with pytest.raises(ServelabError, match="expected key=value"):
        key_values(["max_num_seqs"])


def test_the_commands_for_logs_and_metrics(tmp_path):
    from calibration.commands.fit_log import fit_log
    from calibration.commands.validate import validate

    app = typer.Typer()
    app.command("fit-log")(fit_log)
    app.add_typer(validate, name="validate")
    command = CliRunner()
    asked = ["fit-log", str(DATA / "vllm_iterations_0.32.log"), "--model", "llama-3.1-8b", "--gpu", "h100"]
    done = command.invoke(app, [*asked, "--out", str(tmp_path / "log.json")])
    assert done.exit_code == 0 and "cannot be known" in done.output
    assert read_profile(tmp_path / "log.json").step_time["decode_kv_s"] == 0
    result = simulate(Scenario.load(DATA.parents[1] / "examples/default.yaml", ["workload.duration_s=20"]))
    result.to_parquet(tmp_path / "run")
    scrapes = ["--before", str(DATA / "vllm_metrics_0.32_1.txt"), "--after", str(DATA / "vllm_metrics_0.32_2.txt")]
    done = command.invoke(app, ["validate", "metrics", str(tmp_path / "run"), *scrapes])
    assert done.exit_code == 0 and "ttft_s: mean measured" in done.output and "p99: measured" in done.output
    done = command.invoke(app, ["validate", "run", "nothing", "--measured", str(tmp_path)])
    assert done.exit_code == 2


def test_a_resumed_campaign_has_one_api_server(folder):
    """The batches of two sessions lie in two files; requests of both count."""
    from calibration.fit.api import fit_api_server, observed
    from calibration.profiles.build_profile import phase_runs

    whole = read_campaign(folder)
    runs = phase_runs(whole, "fit", "api")
    before = observed(whole, runs)
    (packed,) = folder.glob("steps-*.jsonl.gz")
    import gzip

    rows = gzip.decompress(packed.read_bytes()).decode().splitlines()
    first = packed.name.removesuffix(".gz")
    packed.unlink()
    half = len(rows) // 2
    (folder / first).write_text("\n".join(rows[:half]) + "\n")
    (folder / first.replace("steps-", "steps-9")).write_text("\n".join(rows[half:]) + "\n")
    after = observed(read_campaign(folder), runs)
    assert len(after) >= len(before) - 2 and fit_api_server(whole, runs)["base_s"] == pytest.approx(
        fit_api_server(read_campaign(folder), runs)["base_s"], rel=0.1
    )


def recorded(tmp_path, **flags):
    """A run of LLMServingSim's bench with other engine flags."""
    meta = {
        "vllm_version": "0.19.0",
        "started_at": "2026-04-25T18:47:18Z",
        "engine_kwargs": {"model": "meta-llama/Llama-3.1-8B", "tensor_parallel_size": 1, "seed": 1, **flags},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "workload.jsonl").write_text('{"request_id": "a"}\n{"request_id": "b"}\n')
    head = "request_id,arrival_s,input_tokens,output_tokens,first_token_s,last_token_s,queued_s\n"
    (tmp_path / "measured.csv").write_text(head + "a,0.0,100,20,0.1,0.5,0.0\nb,1.0,100,20,1.1,1.5,1.0\n")
    return llmservingsim.read(tmp_path)


def test_parallelism_and_limits_of_a_recording_reach_the_replay(tmp_path):
    run = recorded(tmp_path, data_parallel_size=2, max_num_seqs=7, kv_cache_dtype="fp8", enable_expert_parallel=False)
    assert run.engine["data_parallel_size"] == 2 and "expert_parallel" not in run.engine
    profile = find_profile("rtx4090-llama-3.1-8b")
    made = deployment(profile, "rtx4090-llama-3.1-8b", run.engine)
    assert (made.data_parallel_size, made.engine.max_num_seqs, made.engine.kv_cache_dtype) == (2, 7, "fp8")
    run = recorded(tmp_path, enable_expert_parallel=True, data_parallel_size=2)
    assert deployment(profile, "rtx4090-llama-3.1-8b", run.engine).expert_parallel
    run = recorded(tmp_path, pipeline_parallel_size=2)
    with pytest.raises(ServelabError, match="pipeline_parallel_size=2.*not simulated yet"):
        replay(profile, "rtx4090-llama-3.1-8b", run)


def test_a_flag_that_is_not_carried_is_refused_by_name(tmp_path):
    with pytest.raises(ServelabError, match=r"meta.json: engine_kwargs.speculative_config={'method': 'ngram'} changes"):
        recorded(tmp_path, speculative_config={"method": "ngram"})
    assert recorded(tmp_path, speculative_config=None).engine["tensor_parallel_size"] == 1
