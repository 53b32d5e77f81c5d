"""KV blocks against those that real runs recorded, and the arithmetic of parallel ranks."""

import json
from pathlib import Path

import pytest

from simulator.catalog import find_gpu, find_model
from simulator.engine.capacity import MemoryPlan, capacity, kv_bytes_per_token, kv_groups
from simulator.engine.config import parse, resolve
from simulator.engine.model_memory import pipeline_layers, rank_weights, weight_bytes
from simulator.engine.versions import rules
from simulator.errors import ServelabError

RUN = Path(__file__).resolve().parents[2] / "shared/data/vllm_runs/rtx4090-llama-3.1-8b-tp1/meta.json"
GIB = 1 << 30


def settle(model="llama-3.1-8b", gpu="h100", **flags):
    return resolve(parse(flags), find_model(model), find_gpu(gpu))


def plan(**changes):
    fields = {
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "dtype": "bfloat16",
        "quantization": "none",
        "kv_cache_dtype": "auto",
        "gpu_memory_utilization": 0.92,
        "block_size": 16,
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 256,
        "batches_in_flight": 2,
        "capture_sizes": (1, 2, 4),
    }
    return MemoryPlan(**(fields | changes))


def test_blocks_of_a_recorded_run():
    """RTX 4090, Llama-3.1-8B, vLLM 0.19: 2,588 blocks recorded; derived 3.4 % more."""
    if not RUN.is_file():
        pytest.skip("the recorded runs of ../shared/data are not here")
    meta = json.loads(RUN.read_text())
    flags = {k: meta["engine_kwargs"][k] for k in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "dtype")}
    recorded = meta["kv_cache"]["num_gpu_blocks"]
    s = settle(gpu="rtx_4090", version=meta["vllm_version"], **flags)
    assert s.gpu_memory_utilization == meta["kv_cache"]["gpu_memory_utilization"]
    assert s.block_size == meta["kv_cache"]["block_size"]
    assert s.num_gpu_blocks == pytest.approx(recorded, rel=0.05)


@pytest.mark.parametrize(
    ("model", "gpu", "flags", "recorded_gib"),
    [
        # vLLM 0.19, A100 80GB, default batch (blog on gpt-oss-20b and Gemma 4 on A100, 2026-04-18)
        ("gpt-oss-20b", "a100", {"version": "0.19", "gpu_memory_utilization": 0.65}, 36.56),
        # vLLM 0.24, RTX 4090 (public study log, 2026-07-06); memory rules as of 0.21
        ("qwen2.5-7b", "rtx_4090", {"gpu_memory_utilization": 0.85, "max_model_len": 2048}, 4.45),
        # vLLM 0.31, A100 80GB, all defaults (public study log, 2026-10-06): 460,496 tokens
        ("llama-3.1-8b", "a100", {}, 56.21),
    ],
)
def test_kv_memory_that_startup_logs_report(model, gpu, flags, recorded_gib):
    """vLLM's line "Available KV cache memory", within 6 % (derived: +0.8, -4.8 and +0.3 %)."""
    assert settle(model, gpu, **flags).capacity.available_bytes / GIB == pytest.approx(recorded_gib, rel=0.06)


@pytest.mark.parametrize(
    ("model", "quantization", "tp", "recorded_gib"),
    [
        ("llama-3.1-8b", "none", 1, 14.99),
        ("qwen3-0.6b", "none", 1, 1.12),
        ("qwen3-32b", "none", 1, 61.03),
        ("llama-3.3-70b-instruct", "fp8", 1, 67.72),
        ("llama-3.3-70b-instruct", "fp8", 2, 33.88),
        ("gpt-oss-20b", "mxfp4", 1, 13.47),
        ("gpt-oss-120b", "mxfp4", 1, 64.38),
    ],
)
def test_weights_load_as_vllm_reports(model, quantization, tp, recorded_gib):
    """vLLM's "Model loading took ... GiB" (llm-d-benchmark, H100), within 1 %."""
    m = find_model(model)
    w = rank_weights(m, tp, range(m.layers), True, True)
    assert weight_bytes(w, m, quantization, "bfloat16") / GIB == pytest.approx(recorded_gib, rel=0.01)


def test_kv_bytes_per_token():
    llama, deepseek = find_model("llama-3.1-8b"), find_model("deepseek-v3")
    assert kv_bytes_per_token(llama, plan()) == 2 * 32 * 8 * 128 * 2 == 131072
    assert kv_bytes_per_token(llama, plan(kv_cache_dtype="fp8")) == 65536
    assert kv_bytes_per_token(llama, plan(tensor_parallel_size=2)) == 65536
    assert kv_bytes_per_token(llama, plan(tensor_parallel_size=16)) == 131072 / 8
    assert kv_bytes_per_token(deepseek, plan(tensor_parallel_size=8)) == 61 * 576 * 2


def test_pipeline_stages_as_vllm_splits_them():
    assert [len(s) for s in pipeline_layers(32, 2)] == [16, 16]
    assert [len(s) for s in pipeline_layers(61, 2)] == [31, 30]
    assert [len(s) for s in pipeline_layers(61, 4)] == [15, 15, 16, 15]


def test_weights_of_all_ranks_sum_to_the_model_but_for_replicas():
    m = find_model("llama-3.1-70b")
    whole = sum(rank_weights(m, 1, range(80), True, True))
    assert whole == pytest.approx(m.parameters, rel=1e-6)
    stages = pipeline_layers(80, 4)
    ranks = sum(8 * sum(rank_weights(m, 8, s, i == 0, i == 3)) for i, s in enumerate(stages))
    assert ranks == pytest.approx(whole, rel=1e-3)  # norms are on every rank


def test_more_memory_more_blocks():
    """Each change that frees memory never takes blocks away."""
    m, g, r = find_model("llama-3.1-8b"), find_gpu("h100"), rules("0.32")
    base = capacity(m, g, plan(), r).pool_blocks
    for change in (
        {"gpu_memory_utilization": 0.95},
        {"quantization": "fp8"},
        {"quantization": "awq"},
        {"max_num_seqs": 128},
        {"tensor_parallel_size": 2},
        {"pipeline_parallel_size": 2},
        {"kv_cache_dtype": "fp8"},
        {"capture_sizes": ()},
    ):
        assert capacity(m, g, plan(**change), r).pool_blocks > base, change
    assert capacity(m, g, plan(max_num_batched_tokens=65536), r).pool_blocks < base


def test_the_breakdown_adds_up():
    c = settle().capacity
    parts = c.weight_bytes + c.activation_bytes + c.graph_bytes + c.runtime_bytes + c.available_bytes
    assert parts == c.requested_bytes and c.pool_blocks == c.available_bytes // c.bytes_per_block


def test_graph_memory_is_reserved_from_0_21_on():
    assert settle(version="0.19").capacity.graph_bytes == 0 < settle().capacity.graph_bytes


def test_hybrid_models_share_one_pool():
    assert kv_groups(find_model("gpt-oss-120b")) == (18, 1, 1)
    s = settle("gpt-oss-20b", max_model_len=131072)
    c = s.capacity
    assert c.groups == 2 and c.group_blocks(16) == 1 + 2
    # window 127 + two batches of 8,192 tokens in flight
    assert c.group_blocks(131072) == 8192 + -(-(127 + 2 * 8192) // 16) + 1
    per_token = c.pool_blocks / c.group_blocks(131072) * 131072
    assert s.kv_tokens == pytest.approx(per_token, rel=0.01)


def test_a_model_that_does_not_fit_says_by_how_much_and_what_would():
    with pytest.raises(ServelabError) as error:
        settle("llama-3.1-70b")
    text = str(error.value)
    for word in (
        "Meta-Llama-3.1-70B does not fit on h100_sxm x 1",
        "short by 67",
        "weights 141.1",
        "tensor_parallel_size=2",
    ):
        assert word in text


def test_a_request_that_does_not_fit_says_by_how_much_and_what_would():
    with pytest.raises(ServelabError) as error:
        settle(gpu="rtx_4090")
    text = str(error.value)
    assert "max_model_len=131072 does not fit" in text and "short by" in text
    fits = int(text.rsplit(" ", 1)[1])
    assert settle(gpu="rtx_4090", max_model_len=fits).max_model_len == fits
    with pytest.raises(ServelabError):
        settle(gpu="rtx_4090", max_model_len=fits + 1)
