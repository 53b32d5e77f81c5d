"""Data-parallel ranks of one pod: independent when dense, in lockstep when experts are spread over them."""

import pytest
from systems import scenario, table

from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.simulation import simulate

AFFINE = {"kind": "affine", "base_s": 0.01, "prefill_token_s": 0.001, "decode_seq_s": 0.001, "decode_kv_s": 0.0}


def ran(requests, model="llama-3.1-8b", **deployment):
    raw = scenario(step_time=AFFINE, router={"kind": "least_outstanding"}).to_mapping()
    engine = {
        "max_model_len": 1024,
        "async_scheduling": False,
        "enable_prefix_caching": False,
        "tensor_parallel_size": deployment.pop("tp", 1),
    }
    raw["deployments"][0] |= {"engine": engine, "model": model} | deployment
    return simulate(Scenario.of(raw), requests=requests, steps="full")


def test_dense_ranks_are_independent():
    run = ran(table([0.0, 0.0, 0.0], [10, 90, 10], [3, 3, 3]), data_parallel_size=3)
    # each alone on its rank: 20 + 2 x 11, 100 + 22, 20 + 22 ms
    assert run.requests["end_s"].tolist() == pytest.approx([0.042, 0.122, 0.042])
    assert run.requests["replica"].tolist() == [0, 0, 0] and run.instances["gpus"].tolist() == [3]
    assert run.instances["busy_s"][0] == pytest.approx((0.042 + 0.122 + 0.042) / 3)  # the mean over its ranks


def test_ranks_of_a_pod_are_chosen_as_vllm_does():
    # 4 x waiting + running: with one running on rank 0 and none on rank 1, the next goes to rank 1, then to rank 0
    run = ran(table([0.0, 0.02, 0.03], [10, 10, 10], [50, 50, 50]), data_parallel_size=2)
    ranks = run.steps[run.steps["running"] == 2]
    assert len(ranks) and run.steps["running"].max() == 2


def test_ranks_with_spread_experts_step_together():
    moe = {"model": "qwen3-30b-a3b", "data_parallel_size": 2, "expert_parallel": True}
    run = ran(table([0.0, 0.0], [10, 90], [3, 3]), **moe)
    # first both prefill: as long as the longer, 100 ms. Then two steps of 11 ms each
    assert run.requests["first_token_s"].tolist() == pytest.approx([0.1, 0.1])
    assert run.requests["end_s"].tolist() == pytest.approx([0.122, 0.122])
    # one that comes while a step runs begins with the next one: at 42 ms, when the first is done with 20 + 11 + 11
    late = ran(table([0.0, 0.035], [10, 90], [20, 1]), **moe)
    assert late.requests["scheduled_s"][1] == pytest.approx(0.042)
    assert late.requests["end_s"][1] == pytest.approx(0.142)
    # the first rank's fourth token waits for the other's prefill: 20 + 2 x 11 + 100 + 16 x 11 ms
    assert late.requests["end_s"][0] == pytest.approx(0.042 + 0.1 + 16 * 0.011)


def test_lockstep_is_for_experts():
    with pytest.raises(ServelabError, match="expert_parallel needs data_parallel_size above 1, a model with experts"):
        ran(table([0.0], [10], [3]), data_parallel_size=2, expert_parallel=True)
