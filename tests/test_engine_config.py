"""Flags, their defaults by version and GPU, and what is refused."""

import pytest

from simulator.catalog import find_gpu, find_model
from simulator.engine.config import parse, resolve
from simulator.engine.versions import load_versions
from simulator.errors import ServelabError


def settle(model="llama-3.1-8b", gpu="h100", **flags):
    return resolve(parse(flags), find_model(model), find_gpu(gpu))


@pytest.mark.parametrize(
    ("version", "gpu", "tokens", "seqs"),
    [
        ("0.32", "h100", 8192, 1024),
        ("0.32", "a100", 2048, 256),
        ("0.32", "b200", 16384, 1024),
        ("0.32", "l40s", 2048, 256),
        ("0.19", "h100", 8192, 1024),
        ("0.19", "b200", 8192, 1024),
        ("0.19", "a100", 2048, 256),
    ],
)
def test_batch_defaults_by_version_and_gpu(version, gpu, tokens, seqs):
    s = settle(gpu=gpu, version=version)
    assert (s.max_num_batched_tokens, s.max_num_seqs) == (tokens, seqs)


def test_defaults_of_the_versions():
    old, new = settle(version="0.19"), settle()
    assert (old.gpu_memory_utilization, new.gpu_memory_utilization) == (0.9, 0.92)
    assert (old.long_prefill_off_when_alone, new.long_prefill_off_when_alone) == (False, True)
    for s in (old, new):
        assert s.async_scheduling and s.enable_prefix_caching and s.enable_chunked_prefill
        assert s.scheduler_reserve_full_isl and s.block_size == 16 and s.max_model_len == 131072
        assert s.watermark == 0 and s.scheduling_policy == "fcfs"


def test_recorded_capture_sizes():
    """The list that vLLM 0.19 wrote into the metadata of a run with 256 sequences and 2,048 tokens."""
    s = settle(gpu="rtx_4090", version="0.19", max_num_seqs=256, max_num_batched_tokens=2048, max_model_len=32768)
    assert s.capture_sizes == (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16))
    assert s.capture_sizes_max == 512


def test_capture_sizes_off_the_stride():
    assert 250 in settle(max_num_seqs=250).capture_sizes
    assert 250 not in settle(max_num_seqs=250, version="0.19").capture_sizes
    assert settle(max_num_seqs=250).capture_sizes_max == 496
    assert settle(gpu="b200").capture_sizes_max == 1024
    assert settle(max_cudagraph_capture_size=64).capture_sizes_max == 64
    assert settle(enforce_eager=True).capture_sizes == ()
    assert settle(max_num_seqs=4, max_num_batched_tokens=5).capture_sizes == (1, 2, 4, 5)


def test_chunked_prefill_off_raises_the_default_budget():
    assert settle(enable_chunked_prefill=False, max_model_len=16384).max_num_batched_tokens == 16384


def test_the_default_seqs_never_exceed_a_small_budget():
    assert settle(max_num_batched_tokens=512).max_num_seqs == 512


def test_flags_are_complete_and_named_as_the_engine_reads_them():
    flags = settle(max_num_queued_reqs=7).flags()
    assert flags["max_num_queued_reqs"] == 7 and "capacity" not in flags and flags["num_gpu_blocks"] > 2


def test_minus_one_finds_the_longest_that_fits():
    s = settle(gpu="rtx_4090", max_model_len=-1)
    assert s.max_model_len == (s.num_gpu_blocks - 1) * 16
    assert settle(max_model_len=-1).max_model_len == 131072


def test_an_override_sets_the_pool():
    assert settle(num_gpu_blocks_override=300, max_model_len=4096).num_gpu_blocks == 300


def test_version_table_is_complete():
    tables = load_versions()
    assert set(tables) == {"0.19", "0.32"}
    assert tables["0.19"].keys() == tables["0.32"].keys()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"version": "0.8"}, ["engine.version='0.8'", "0.19, 0.32"]),
        ({"max_num_batched_token": 3}, ["max_num_batched_token", "did you mean 'max_num_batched_tokens'"]),
        ({"max-num-seqs": 3}, ["did you mean 'max_num_seqs'"]),
        ({"max_num_seqs": "many"}, ["engine.max_num_seqs='many'", "integer"]),
        ({"max_num_seqs": 0}, ["engine.max_num_seqs=0", "greater than or equal to 1"]),
        ({"max_num_batched_tokens": 64, "max_num_seqs": 65}, ["max_num_batched_tokens=64", "max_num_seqs=65"]),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 4096, "max_model_len": 8192},
            ["max_num_batched_tokens=4096", "max_model_len=8192", "enable_chunked_prefill"],
        ),
        ({"tensor_parallel_size": 3}, ["tensor_parallel_size=3", "32 attention heads", "1, 2, 4, 8, 16, 32"]),
        ({"pipeline_parallel_size": 33}, ["pipeline_parallel_size=33", "32 layers"]),
        ({"watermark": 1.0}, ["engine.watermark=1.0", "less than 1"]),
        ({"watermark": -0.1}, ["engine.watermark=-0.1"]),
        ({"watermark": float("nan")}, ["engine.watermark=nan"]),
        ({"watermark": 0.1, "version": "0.19"}, ["watermark=0.1", "vLLM 0.19", "0.32"]),
        ({"max_num_queued_reqs": 5, "version": "0.19"}, ["max_num_queued_reqs=5", "0.32"]),
        ({"block_size": 20}, ["block_size=20", "16"]),
        ({"max_model_len": 200_000}, ["max_model_len=200000", "131072"]),
        ({"max_model_len": 0}, ["max_model_len=0"]),
        ({"long_prefill_token_threshold": 9000, "max_model_len": 8192}, ["threshold=9000", "max_model_len=8192"]),
        ({"max_num_active_seqs": 9, "max_num_seqs": 8}, ["max_num_active_seqs=9", "max_num_seqs=8"]),
        ({"scheduling_policy": "lifo"}, ["engine.scheduling_policy='lifo'", "fcfs"]),
        ({"quantization": "fp9"}, ["quantization='fp9'", "did you mean 'fp8'"]),
        ({"dtype": "bfloat61"}, ["dtype='bfloat61'", "did you mean 'bfloat16'"]),
        ({"gpu_memory_utilization": 1.2}, ["gpu_memory_utilization=1.2", "less than or equal to 1"]),
        (
            {"num_gpu_blocks_override": 100, "max_model_len": 4096},
            ["max_model_len=4096", "256 KV blocks", "the pool has 99", "num_gpu_blocks_override=100", "is 1584"],
        ),
    ],
)
def test_bad_flags_name_field_value_and_limit(flags, words):
    with pytest.raises(ServelabError) as error:
        settle(**flags)
    for word in words:
        assert word in str(error.value)


def test_the_null_block_counts_by_version():
    """vLLM 0.19 compares a request with the whole pool, 0.32 leaves the null block out."""
    flags = {"num_gpu_blocks_override": 256, "max_model_len": 4096}
    assert settle(version="0.19", **flags).num_gpu_blocks == 256
    with pytest.raises(ServelabError, match="the pool has 255"):
        settle(**flags)
