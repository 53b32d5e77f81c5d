"""The Mooncake trace: its published hit ratio, and what smaller pools make of it."""

from pathlib import Path

import numpy as np
import pytest

from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload import read_trace

MOONCAKE_TRACE = Path(__file__).parents[2] / "shared" / "data" / "traces" / "mooncake_conversation.jsonl"
needs_mooncake = pytest.mark.skipif(not MOONCAKE_TRACE.is_file(), reason="the Mooncake trace is not here")


def infinite_cache(table):
    """Share of 512-token blocks whose id was seen before."""
    seen = np.zeros(len(table.segment_stream), bool)
    seen[np.unique(table.segment_stream, return_index=True)[1]] = True
    return 1 - seen.mean(), 1 - table.segment_tokens[seen].sum() / table.prompt_tokens.sum()


@needs_mooncake
def test_mooncake_in_an_infinite_cache_has_the_published_hit_ratio():
    table = read_trace(MOONCAKE_TRACE)
    blocks, tokens = infinite_cache(table)
    assert len(table) == 12_031 and table.prompt_tokens.sum() == table.segment_tokens.sum()
    assert blocks == pytest.approx(0.366, abs=0.0005)  # the authors' 36.6 %, a share of blocks
    assert tokens == pytest.approx(0.3736, abs=0.0001)  # by tokens: last blocks are partial and seldom shared


def served(blocks, **workload):
    """The engine's records for the trace; one output token each, so that prompts alone fill the pool."""
    engine = {"version": "0.32", "max_model_len": 131_072, "num_gpu_blocks_override": blocks, "block_size": 16}
    deployment = {
        "model": "llama-3.1-8b",
        "gpu": "h100",
        "engine": engine,
        "step_time": {"kind": "constant", "seconds": 1e-4},
    }
    source = {"source": "trace", "path": str(MOONCAKE_TRACE), "max_tokens": 1} | workload
    return simulate(Scenario.of({"workload": source, "deployments": [deployment]})).requests


@needs_mooncake
def test_mooncake_through_the_engine_with_a_huge_pool():
    requests = served(10_000_000)
    cached, prompt = np.asarray(requests["cached_tokens"]), np.asarray(requests["prompt_tokens"])
    table = read_trace(MOONCAKE_TRACE)
    blocks, tokens = infinite_cache(table)
    # 16-token blocks, of which a prompt's last is always computed: fewer tokens than ids promise, by less than 0.1 %
    assert tokens * 0.999 < cached.sum() / prompt.sum() <= tokens
    assert np.sum(-(-cached // 512)) / np.diff(table.segment_start).sum() == pytest.approx(blocks, abs=0.0005)


@needs_mooncake
def test_mooncake_hits_fall_as_the_pool_shrinks():
    ratios = []
    for blocks in (10_000_000, 300_000, 100_000, 20_000):
        requests = served(blocks, limit=3000)
        ratios.append(np.asarray(requests["cached_tokens"]).sum() / np.asarray(requests["prompt_tokens"]).sum())
    assert np.all(np.diff(ratios) < -0.01), ratios
