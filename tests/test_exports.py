"""Results as files of other tools: the JSON of vllm bench serve, and traces of batches."""

import gzip
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from builders import meta
from systems import scenario
from typer.testing import CliRunner

from simulator.command.app import app
from simulator.errors import ServelabError
from simulator.export.chrome_trace import write_trace_events
from simulator.export.tokens import token_times
from simulator.export.vllm_bench import bench_result, write_bench
from simulator.records.tables import State, empty
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload.trace import read_trace

DATA = Path(__file__).parent / "data"
REAL = json.loads((DATA / "vllm_bench_serve_0.32.json").read_text())
LIMITED = json.loads((DATA / "vllm_bench_serve_limited_0.32.json").read_text())


@pytest.fixture(scope="module")
def run() -> Result:
    return simulate(scenario({"num_gpu_blocks_override": 90}, replicas=2), seed=3, steps="full")


def measured(real: dict) -> Result:
    """A real benchmark as a result: a replica of its own for each request, whose batches end where its tokens came.

    Time 0 is where vLLM's duration begins if it ends with the last token.
    """
    n = len(real["input_lens"])
    q = empty("requests", n)
    sent, done = np.array(real["start_times"]), np.array([not e for e in real["errors"]])
    start = sent - ((sent + real["latencies"]).max() - real["duration"])
    tokens = [start[i] + np.cumsum([real["ttfts"][i], *real["itls"][i]]) for i in range(n)]
    q["request_id"][:] = q["replica"][:] = np.arange(n)
    q["state"][:] = np.where(done, State.COMPLETED, State.REJECTED)
    q["arrival_s"] = start
    q["first_token_s"] = np.where(done, [t[0] for t in tokens], np.nan)
    q["llm_first_token_s"] = q["first_token_s"]
    q["end_s"] = np.array([t[-1] for t in tokens])
    q["llm_end_s"] = q["end_s"]
    q["prompt_tokens"][:], q["generated_tokens"][:] = real["input_lens"], real["output_lens"]
    steps = empty("steps", sum(map(len, tokens)))
    steps["replica"] = np.repeat(np.arange(n), [len(t) for t in tokens])
    steps["end_s"] = np.concatenate(tokens)
    slo = {"ttft_s": 0.2, "tpot_s": 0.02} if real is REAL else {"ttft_s": 0.045, "tpot_s": 0.006, "e2el_s": 0.4}
    return Result.from_columns(meta(slo=slo, steps="full"), {"requests": q, "steps": steps})


def test_keys_order_and_types_are_those_of_a_real_file(run):
    ours = bench_result(run, percentiles=(50.0, 99.0))
    assert list(ours) == list(REAL)
    for key, value in REAL.items():
        if key not in ("tokenizer_id",):
            assert type(ours[key]) is type(value), key
        if isinstance(value, list):
            assert {type(x) for x in ours[key]} == {type(x) for x in value}, key


@pytest.mark.parametrize(
    ("real", "percentiles"), [(REAL, (50.0, 99.0)), (LIMITED, (50.0, 99.0, 99.9))], ids=["plain", "limited"]
)
def test_summary_of_real_requests_is_the_one_vllm_wrote(real, percentiles):
    ours = bench_result(measured(real), percentiles=percentiles)
    # the simulator has no queue in the client: vLLM's own measure of it is not written
    assert list(ours) == [key for key in real if "client_queue" not in key]
    rates = ("duration", "request_throughput", "request_goodput", "output_throughput", "total_token_throughput")
    for key in ours:
        if key.endswith("_ms") or key in rates:
            assert ours[key] == pytest.approx(real[key], rel=1e-9), key
    for key in (
        "completed",
        "failed",
        "total_input_tokens",
        "total_output_tokens",
        "input_lens",
        "output_lens",
        "max_output_tokens_per_s",
        "max_concurrent_requests",
    ):
        assert ours[key] == real[key], key
    assert [bool(e) for e in ours["errors"]] == [bool(e) for e in real["errors"]]
    for key in ("ttfts", "latencies"):
        np.testing.assert_allclose(ours[key], real[key], atol=1e-9)
    for a, b in zip(ours["itls"], real["itls"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_run_without_requests_is_refused():
    with pytest.raises(ServelabError, match="a run of 0 requests and 0 s has no throughput"):
        bench_result(Result.from_columns(meta(steps="full"), {}))


def test_our_own_summary_agrees(run):
    ours, summary = (bench_result(run, percentiles=(99.0,)), run.summary().set_index(["metric", "stat"])["value"])
    for name in ("ttft", "tpot", "itl", "e2el"):
        assert ours[f"mean_{name}_ms"] == pytest.approx(summary[f"{name}_s", "mean"] * 1e3, abs=1e-3)
        assert ours[f"p99_{name}_ms"] == pytest.approx(summary[f"{name}_s", "p99"] * 1e3, abs=1e-3)
    assert sum(map(len, ours["itls"])) == ours["total_output_tokens"] - ours["completed"]


def test_round_trip_gives_the_same_workload(run, tmp_path):
    path = write_bench(run, tmp_path / "bench.json", date=datetime(2026, 11, 24))
    assert json.loads(path.read_text())["date"] == "20261124-000000"
    back = read_trace(path)
    q = run.requests
    np.testing.assert_allclose(back.arrival_s, q["arrival_s"] - q["arrival_s"].min(), atol=1e-12)
    assert back.prompt_tokens.tolist() == q["prompt_tokens"].tolist()
    assert back.output_tokens.tolist() == q["generated_tokens"].tolist()


def test_requests_that_did_not_complete_are_failed_ones(tmp_path):
    run = simulate(scenario({"max_num_queued_reqs": 5}), seed=3, steps="full")
    ours = bench_result(run)
    assert ours["failed"] == (run.requests["state"] == State.REJECTED).sum() > 0
    bad = [i for i, e in enumerate(ours["errors"]) if e]
    assert {ours["errors"][i] for i in bad} == {"rejected"} and {ours["output_lens"][i] for i in bad} == {0}
    with pytest.raises(ServelabError, match="errors must be empty, got 'rejected'"):
        read_trace(write_bench(run, tmp_path / "b.json"))


def test_missing_batches_name_the_flag():
    for steps in ("off", "sampled"):
        with pytest.raises(ServelabError, match=f"this run logged {steps}; run it with --steps full"):
            bench_result(simulate(scenario(), seed=1, steps=steps))


def test_tables_that_do_not_belong_together_are_refused(run):
    other = Result(**{**run.__dict__, "steps": run.steps.iloc[:-40]})
    with pytest.raises(ServelabError, match="generated_tokens=.* do not belong together"):
        token_times(other)


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_chrome_trace(run, tmp_path, name):
    path = write_trace_events(run, tmp_path / name, max_requests=20)
    with gzip.open(path, "rt") if name.endswith(".gz") else open(path) as file:
        events = json.load(file)["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X", "C", "b", "e"}
    for replica in (0, 1):
        batches = sorted((e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["pid"] == replica + 1)
        assert len(batches) == (run.steps["replica"] == replica).sum()
        assert all(isinstance(t, int) for batch in batches for t in batch)
        assert all(a[0] + a[1] <= b[0] for a, b in pairwise(batches))
        busy = run.instances["busy_s"][replica]
        assert sum(d for _, d in batches) / 1e6 == pytest.approx(busy, abs=len(batches) * 1e-6)
    shown = [e for e in events if e.get("cat") == "request"]
    assert len({e["id"] for e in shown}) == 20
    for i in range(20):
        mine = [e for e in shown if e["id"] == i]
        depth = np.cumsum([1 if e["ph"] == "b" else -1 for e in mine])
        assert depth.min() == 0 and depth[-1] == 0 and depth.max() == 2
        assert all(a["ts"] <= b["ts"] for a, b in pairwise(mine))


def test_command(run, tmp_path):
    folder = run.to_parquet(tmp_path / "out")
    call = CliRunner().invoke
    assert call(app, ["export", "bench", str(folder), str(tmp_path / "b.json")]).exit_code == 0
    assert call(app, ["export", "trace", str(folder), str(tmp_path / "t.json.gz")]).exit_code == 0
    again = call(app, ["export", "bench", str(folder), str(tmp_path / "b.json")])
    assert again.exit_code == 2 and "exists" in again.output
    bad = call(app, ["export", "bench", str(folder), str(tmp_path / "c.json"), "--percentiles", "p99"])
    assert bad.exit_code == 2 and "expected numbers such as 50,99, got 'p99'" in bad.output
    assert "the name must end in .json" in call(app, ["export", "trace", str(folder), str(tmp_path / "t.txt")]).output
    said = call(app, ["explain", str(folder), "3"])
    assert said.exit_code == 0 and said.output.startswith("Request 3 ")


def test_parquet_carries_units(run, tmp_path):
    import pyarrow.parquet as pq

    folder = run.to_parquet(tmp_path / "units")
    schema = pq.read_schema(folder / "requests.parquet")
    assert schema.field("arrival_s").metadata == {b"unit": b"s", b"meaning": b"when the client sent it"}
    assert pq.read_schema(folder / "interruptions.parquet").field("to_s").metadata[b"unit"] == b"s"
    assert Result.load(folder).interruptions.equals(run.interruptions)


def test_answers_that_come_whole_have_no_token_times(tmp_path):
    from systems import scenario as small

    raw = small().to_mapping()
    raw["deployments"][0] |= {"serving": {"kind": "static"}, "engine": {"max_model_len": 1024}}
    with pytest.raises(ServelabError, match="serving.kind=static: its answers come whole"):
        token_times(simulate(Scenario.of(raw), steps="full"))
