"""Step-time models: exact sums, roofline laws, and the roofline against published measurements."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from simulator.catalog import constants, find_gpu, find_model
from simulator.engine.config import parse, resolve
from simulator.engine.step_time.affine import AffineStepTime
from simulator.engine.step_time.config import GivenStepTime, build_step_time, gpu_seconds
from simulator.engine.step_time.constant import ConstantStepTime
from simulator.engine.step_time.roofline import RooflineStepTime, padded
from simulator.engine.work import work
from simulator.errors import ServelabError

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared/data"


def engine(model="llama-3.1-8b", gpu="h100", **flags):
    m, g = find_model(model), find_gpu(gpu)
    return m, g, resolve(parse(flags), m, g)


def build(config=None, *args, **flags):
    return build_step_time(config or RooflineStepTime(), *engine(*args, **flags))


def seconds(model, tokens=0, prefill=(), decode_seqs=0, decode_kv=0):
    """GPU time [s] of chunks of (start, n) tokens beside decoding sequences."""
    p = sum(n for _, n in prefill)
    pairs = float(sum(n * (start + (n + 1) / 2) for start, n in prefill))
    kv = sum(start + n for start, n in prefill)
    n = tokens or p + decode_seqs
    return gpu_seconds(
        model.code, model.params, n, p, len(prefill), pairs, kv, decode_seqs, decode_kv, decode_seqs + len(prefill)
    )


def test_constant():
    model = build(ConstantStepTime(seconds=0.25, host_s=0.01))
    assert seconds(model, decode_seqs=3, decode_kv=100) == 0.25
    assert (model.kind, model.host_s, model.trust) == ("constant", 0.01, "user")


@given(
    st.lists(st.floats(1e-9, 1.0), min_size=4, max_size=4),
    st.integers(0, 100_000),
    st.integers(0, 4096),
    st.integers(0, 10**8),
)
@settings(max_examples=200, deadline=None)
def test_affine_is_the_sum_bit_for_bit(c, prefill_tokens, decode_seqs, decode_kv):
    model = build(AffineStepTime(base_s=c[0], prefill_token_s=c[1], decode_seq_s=c[2], decode_kv_s=c[3]))
    found = gpu_seconds(model.code, model.params, 1, prefill_tokens, 1, 7.0, 9, decode_seqs, decode_kv, 1)
    assert found == ((c[0] + c[1] * prefill_tokens) + c[2] * decode_seqs) + c[3] * decode_kv


def test_affine_extra_terms():
    model = build(
        AffineStepTime(base_s=1, prefill_token_s=0, decode_seq_s=0, decode_kv_s=0, prefill_pair_s=0.5, prefill_seq_s=2)
    )
    assert seconds(model, prefill=[(10, 4)]) == 1 + 0.5 * 4 * 12.5 + 2


def test_configs_are_a_strict_union():
    adapter = TypeAdapter(GivenStepTime)
    assert adapter.validate_python({"kind": "roofline"}) == RooflineStepTime()
    for bad in (
        {"kind": "constant", "seconds": 0},
        {"kind": "constant", "seconds": float("nan")},
        {"kind": "roofline", "memory_efficiency": 1.1},
        {"kind": "affine", "base_s": 1},
        {"kind": "constant", "seconds": 1, "millis": 2},
        {"kind": "oracle"},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


def test_own_efficiencies_are_named_in_the_source():
    model = build(RooflineStepTime(memory_efficiency=0.5, host_s=0.0))
    assert "memory_efficiency" in model.source and model.host_s == 0 and model.trust == "roofline"
    assert build().host_s == constants("roofline")["host_s"]


def test_padding_follows_the_captured_sizes():
    p = build(max_num_seqs=256).params
    assert [padded(p, n) for n in (1, 2, 3, 5, 8, 9, 249, 257, 512, 513, 3000)] == [
        1,
        2,
        4,
        8,
        8,
        16,
        256,
        272,
        512,
        513,
        3000,
    ]
    assert padded(build(enforce_eager=True).params, 3) == 3


def test_a_decode_step_reads_the_weights_once():
    """One sequence on a dense model: bytes over bandwidth, plus what is fixed."""
    m, g, s = engine()
    model = build_step_time(RooflineStepTime(memory_efficiency=1, layer_s=0, seq_async_s=0), m, g, s)
    ideal = (m.parameters - m.embedding_parameters) * 2 / g.memory_bandwidth_bytes_per_s
    assert seconds(model, decode_seqs=1, decode_kv=1) == pytest.approx(ideal, rel=0.01)


def test_a_long_prefill_is_bound_by_arithmetic():
    m, g, s = engine()
    w = work(m, s)
    flops = w.flops_per_token * 8192 + w.flops_per_pair * 8192 * 8193 / 2 + w.flops_per_sample
    model = build_step_time(RooflineStepTime(compute_efficiency=1, attention_efficiency=1), m, g, s)
    assert seconds(model, prefill=[(0, 8192)]) == pytest.approx(flops / g.bf16_flops, rel=0.02)


batches = st.tuples(st.integers(0, 4), st.integers(1, 2048), st.integers(0, 300), st.integers(1, 4000))


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("llama-3.1-8b", {}),
        ("qwen3-30b-a3b", {}),
        ("gpt-oss-20b", {}),
        ("deepseek-v2-lite", {}),
        ("llama-3.1-70b", {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}),
    ],
)
@given(batches, batches)
@settings(max_examples=60, deadline=None)
def test_more_work_never_takes_less_time(name, flags, a, b):
    model = build(None, name, **flags)

    def time(chunks, n, seqs, context):
        return seconds(model, prefill=[(0, n)] * chunks, decode_seqs=seqs, decode_kv=seqs * context)

    low, high = (min(x, y) for x, y in zip(a, b, strict=True)), (max(x, y) for x, y in zip(a, b, strict=True))
    low, high = tuple(low), tuple(high)
    assert 0 <= time(*low) <= time(*high) * (1 + 1e-12)


def test_laws_of_the_hardware():
    """Faster with tensor parallelism and fp8, slower with all-reduce latency; all experts load at large batches."""
    one, two = build(), build(tensor_parallel_size=2)
    assert seconds(one, decode_seqs=8, decode_kv=8000) > seconds(two, decode_seqs=8, decode_kv=8000)
    assert seconds(one, decode_seqs=8) > seconds(build(quantization="fp8"), decode_seqs=8)
    slow = build(RooflineStepTime(all_reduce_s=1e-3), tensor_parallel_size=2)
    assert seconds(slow, decode_seqs=8) - seconds(two, decode_seqs=8) == pytest.approx(65 * (1e-3 - 1.2e-5), rel=1e-6)
    moe = build(RooflineStepTime(seq_async_s=0), "qwen3-30b-a3b")
    few, many = seconds(moe, decode_seqs=1), seconds(moe, decode_seqs=256)
    m = find_model("qwen3-30b-a3b")
    extra = 120 * 48 * m.per_layer.expert * 2 / (3.35e12 * 0.82)
    assert many - few == pytest.approx(extra, rel=0.1)
    assert seconds(build(), tokens=0) == 0


def test_eager_batches_pay_for_their_launches():
    eager = build(enforce_eager=True)
    assert seconds(eager, decode_seqs=1) >= 32 * constants("roofline")["launch_s"]
    assert seconds(build(None, "qwen3-0.6b", enforce_eager=True), decode_seqs=1) > seconds(
        build(None, "qwen3-0.6b"), decode_seqs=1
    )


def test_work_counts_the_published_flops():
    """2 FLOP per active parameter and token, the embedding table aside."""
    for name in ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3"):
        m, _, s = engine(name, tensor_parallel_size=4, gpu="b200", max_model_len=4096)
        w = work(m, s)
        active = m.active_parameters - m.embedding_parameters * (1 if m.tie_word_embeddings else 2)
        assert w.flops_per_token == pytest.approx(2 * active, rel=0.01)
    m, _, s = engine(tensor_parallel_size=2)
    w = work(m, s)
    assert w.kv_bytes_per_token == 131072
    assert w.weight_bytes_per_step == pytest.approx(2 * (m.parameters - m.embedding_parameters), rel=1e-3)
    assert w.flops_per_pair == 4 * 32 * 32 * 128


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def steady_state_errors():
    """Relative errors of predicted median inter-token latency by model, on H100.

    Only batches whose median step has no prefill (fewer than 0.65 requests start per step). The prompts of the
    source are not published: 250 tokens, and a mean context of 0.85 of the output length, fit the rows that ran
    out of KV cache.
    """
    errors: dict[str, list[float]] = {}
    gpu = find_gpu("h100")
    for row in table(SHARED / "vllm_steady_state/ml_energy_v3_lm-arena-chat.csv"):
        batch, output = float(row["avg_batch_size"]), float(row["avg_output_len"])
        if row["gpu_model"] != "H100" or row["expert_parallel"] != "1" or batch > 0.65 * output:
            continue
        try:
            model = find_model(row["model_id"])
        except ServelabError:
            continue
        seqs = int(row["max_num_seqs"])
        flags = {
            "version": "0.19",
            "async_scheduling": False,
            "tensor_parallel_size": int(row["tensor_parallel"]),
            "quantization": "fp8" if row["weight_precision"] == "fp8" else "none",
            "max_num_seqs": seqs,
            "max_num_batched_tokens": max(8192, seqs),
            "num_gpu_blocks_override": 10**7,
        }
        time = build_step_time(RooflineStepTime(), model, gpu, resolve(parse(flags), model, gpu))
        n = round(batch)
        found = seconds(time, decode_seqs=n, decode_kv=int(batch * (250 + 0.85 * output))) + time.host_s
        key = f"{row['model_id']} {row['weight_precision']} x{row['num_gpus']}"
        errors.setdefault(key, []).append(found * 1e3 / float(row["median_itl_ms"]) - 1)
    return errors


def test_default_roofline_against_measured_decode_steps():
    if not (SHARED / "vllm_steady_state").is_dir():
        pytest.skip("the measurements of ../shared/data are not here")
    errors = steady_state_errors()
    fitted = ("Qwen3-8B", "Qwen3-14B", "Qwen3-32B bfloat16 x1", "Llama-3.1-70B", "fp8", "A3B")
    held_out = [e for key, rows in errors.items() if not any(f in key for f in fitted) for e in rows]
    assert len(held_out) == 25
    assert np.median(np.abs(held_out)) < 0.07 and np.max(np.abs(held_out)) < 0.15
    assert np.median(np.abs([e for key, rows in errors.items() for e in rows])) < 0.06


RUNS = [
    ("rtx4090-llama-3.1-8b-tp1", "llama-3.1-8b", "rtx_4090", {"max_num_seqs": 256, "max_model_len": 32768}),
    ("rtxpro6000-qwen3-32b-tp2", "qwen3-32b", "rtx_pro_6000", {"max_num_seqs": 128, "tensor_parallel_size": 2}),
]


@pytest.mark.parametrize(("folder", "name", "gpu", "flags"), RUNS)
def test_default_roofline_against_recorded_runs(folder, name, gpu, flags):
    """Seconds of two vLLM 0.19 runs in which nothing was prefilled: step = running sequences / throughput."""
    run = SHARED / "vllm_runs" / folder
    if not run.is_dir():
        pytest.skip("the recorded runs of ../shared/data are not here")
    rows = [{k: float(v) for k, v in r.items() if k != "request_id"} for r in table(run / "measured.csv")]
    time = build(None, name, gpu, version="0.19", max_num_batched_tokens=2048, **flags)
    errors = []
    for second in table(run / "timeseries.csv"):
        at = float(second["t"]) - 0.5
        live = [r for r in rows if r["first_token_s"] <= at < r["last_token_s"]]
        if float(second["prompt_throughput"]) or len(live) < 4 or abs(len(live) - float(second["running"])) > 2:
            continue
        done = [(at - r["first_token_s"]) / (r["last_token_s"] - r["first_token_s"]) for r in live]
        kv = sum(r["input_tokens"] + r["output_tokens"] * d for r, d in zip(live, done, strict=True))
        measured = len(live) / float(second["gen_throughput"])
        errors.append(seconds(time, decode_seqs=len(live), decode_kv=int(kv)) / measured - 1)
    assert len(errors) > 40
    assert np.median(np.abs(errors)) < 0.10


def test_python_and_compiled_agree():
    code = (
        "from simulator.engine.step_time.config import *; from simulator.catalog import *; "
        "from simulator.engine.config import *; m, g = find_model('gpt-oss-20b'), find_gpu('h100'); "
        "t = build_step_time(RooflineStepTime(), m, g, resolve(EngineConfig(), m, g)); "
        "print([float(gpu_seconds(t.code, t.params, n + 9, n, 1, n * 77.5, 3 * n, 9, 5000, 10)).hex() for n in (0, "
        "1, 500)])"
    )
    out = {
        flag: subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPO,
            env=os.environ | {"NUMBA_DISABLE_JIT": flag},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for flag in ("0", "1")
    }
    assert out["0"] == out["1"] != ""
