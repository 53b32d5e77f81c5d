"""Step times over all that a scenario may ask: never zero or negative, and growing beyond what was measured."""

import numpy as np
import pytest

from simulator import Scenario, find_model, simulate
from simulator.catalog.profile import load_profiles
from simulator.engine.config import EngineConfig, resolve
from simulator.engine.step_time.config import build_step_time, gpu_seconds
from simulator.engine.step_time.profile import given


@pytest.mark.parametrize("name", sorted(load_profiles()))
def test_no_shipped_profile_is_ever_zero_or_negative(name):
    profile = load_profiles()[name]
    model = profile.model_specs()[0] if profile.models else find_model("llama-3.1-8b")
    tp = profile.tensor_parallel_size[0]
    flags = EngineConfig(tensor_parallel_size=tp, num_gpu_blocks_override=1000, max_model_len=1024)
    step = build_step_time(given(profile), model, profile.gpu_spec(), resolve(flags, model, profile.gpu_spec()))

    def seconds(chunk, history, seqs, context):
        pairs, kv = chunk * (history + (chunk + 1) / 2), float(chunk + history if chunk else 0)
        counts = (chunk + seqs, chunk, int(chunk > 0), pairs, kv, seqs, seqs * context, seqs + (chunk > 0))
        return gpu_seconds(step.code, step.params, *counts, context, context)

    chunks, histories = (0, 1, 7, 64, 300, 2048, 3000, 8192, 16_384), (0, 500, 8192, 60_000, 131_072)
    seqs, contexts = (0, 1, 5, 64, 200, 256, 300, 1024), (1, 100, 4096, 16_384, 50_000, 131_072)
    grid = [(c, h, s, k) for c in chunks for h in histories for s in seqs for k in contexts if c + s]
    assert min(seconds(*at) for at in grid) > 0
    # beyond the ends of all tables (2,048 tokens, 256 sequences, 16,384 of context) nothing falls
    for h in histories:
        assert (np.diff([seconds(c, h, 0, 0) for c in (2048, 2049, 3000, 8192, 16_384)]) >= 0).all()
    for k in (16_384, 50_000, 131_072):
        assert (np.diff([seconds(0, 0, s, k) for s in (256, 257, 300, 1024)]) >= 0).all()
        assert (np.diff([seconds(0, 0, s, k) for s in (256, 1024)]) > 0).all()


def test_long_prompts_on_a_profile_of_short_chunks_take_time():
    s = Scenario.of(
        {
            "workload": {
                "source": "poisson",
                "rate_rps": 0.2,
                "duration_s": 60,
                "prompt_tokens": {"kind": "fixed", "tokens": 6000},
                "output_tokens": {"kind": "fixed", "tokens": 50},
            },
            "deployments": [
                {
                    "model": "qwen3-32b",
                    "gpu": "rtx_pro_6000",
                    "step_time": {"kind": "profile", "name": "rtxpro6000-qwen3-32b"},
                }
            ],
        }
    )
    result = simulate(s)
    assert 1 < result.metric("ttft_s", "min") < 10
    assert any("prefill_tokens = 2,048, this run reached" in note for note in result.trust.notes)
