"""Servers before continuous batching: timelines worked by hand, mappings of parameters, identities."""

import numpy as np
import pytest
from systems import scenario, table

from simulator.engine.serving.config import RayServeServing, TensorFlowServing, TorchServeServing, TritonServing
from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.simulation import simulate

# a batch of n prompts of P tokens, and the longest answer L: prefill 10 + n P ms, then L - 1 steps of 10 + n ms
AFFINE = {"kind": "affine", "base_s": 0.01, "prefill_token_s": 0.001, "decode_seq_s": 0.001, "decode_kv_s": 0.0}


def served(serving, arrival, prompt, output, **parts):
    raw = scenario(step_time=AFFINE, **parts).to_mapping()
    raw["deployments"][0]["engine"] = {"max_model_len": 1024}
    raw["deployments"][0]["serving"] = serving
    return simulate(Scenario.of(raw), requests=table(arrival, prompt, output), steps="full")


def ends(result):
    return result.requests["end_s"].to_numpy()


def test_one_at_a_time():
    run = served({"kind": "one_at_a_time"}, [0.0, 0.0, 1.0], [10, 20, 10], [3, 1, 2])
    # 10 + 10 + 2 x 11 = 42 ms; then 10 + 20 = 30 ms; then at 1 s 20 + 11 = 31 ms
    assert ends(run) == pytest.approx([0.042, 0.072, 1.031])


def test_static_batch_is_padded_and_runs_to_its_longest_answer():
    run = served({"kind": "static", "batch_size": 2}, [0.0, 0.001, 0.002, 0.003], [10, 20, 30, 10], [3, 1, 5, 2])
    # the first alone: 42 ms. Then two of the three that wait, padded to 30: 10 + 60 + 4 x 12 = 118 ms. Then the last:
    # 20 + 11 = 31 ms. Nobody joins, answers come at the end of the batch
    assert ends(run) == pytest.approx([0.042, 0.160, 0.160, 0.191])
    assert run.requests["scheduled_s"].to_numpy() == pytest.approx([0.0, 0.042, 0.042, 0.160])
    assert run.requests["first_token_s"].to_numpy() == pytest.approx(ends(run))  # in one piece
    assert run.requests["generated_tokens"].tolist() == [3, 1, 5, 2]  # without the padding
    assert run.itl["count"].sum() == 0
    steps = run.steps
    assert steps["prefill_tokens"].tolist() == [10, 0, 0, 60, 0, 0, 0, 0, 10, 0]
    assert steps["decode_seqs"].tolist() == [0, 1, 1, 0, 2, 2, 2, 2, 0, 1]


def test_window_of_a_dynamic_batcher():
    # the window opens with the first that waits: 0 + 100 ms; the second comes in time, the third does not
    serving = {"kind": "dynamic", "max_batch_size": 4, "max_delay_s": 0.1}
    run = served(serving, [0.0, 0.09, 0.11, 0.5], [10, 10, 10, 10], [1, 1, 1, 1])
    # two at 100 ms take 30 ms; the third opens its window at 110 ms: 210 + 20; the last 600 + 20
    assert ends(run) == pytest.approx([0.13, 0.13, 0.23, 0.62])


def test_a_full_batch_does_not_wait():
    run = served({"kind": "dynamic", "max_batch_size": 2, "max_delay_s": 9.0}, [0.0, 0.1, 0.2, 0.3], [10] * 4, [1] * 4)
    assert ends(run) == pytest.approx([0.13, 0.13, 0.33, 0.33])


def test_triton_takes_the_largest_preferred_size():
    triton = {
        "kind": "triton",
        "max_batch_size": 8,
        "preferred_batch_size": [4, 2],
        "max_queue_delay_microseconds": 1e6,
    }
    run = served(triton, [0.0, 0.1, 0.11, 0.111, 0.112], [10] * 5, [1] * 5)
    # two at 100 ms are a preferred size: 30 ms. At 130 ms three wait: two go, 160 ms; the last one waits for its
    # whole window, 112 + 1000 ms
    assert ends(run) == pytest.approx([0.13, 0.13, 0.16, 0.16, 1.132])


def test_triton_queue_policy_rejects():
    full = served({"kind": "triton", "max_batch_size": 1, "max_queue_size": 1}, [0.0, 0.001, 0.002], [10] * 3, [5] * 3)
    assert full.counts()["rejected"] == 1  # the third: one runs, one waits
    late = served(
        {"kind": "triton", "max_batch_size": 1, "default_timeout_microseconds": 30_000},
        [0.0, 0.001, 0.05],
        [10] * 3,
        [5] * 3,
    )
    # the first takes 64 ms: the second has then waited 63 ms and is rejected, the third 14 ms and is served
    assert late.requests["state"].tolist() == [1, 2, 1]


def test_ray_serve_starves_its_batch_at_its_default():
    n = 20
    run = served({"kind": "ray_serve"}, np.zeros(n), [10] * n, [1] * n)
    # 5 at a time after 10 ms of waiting, 10 + 50 ms of computing, four times
    assert sorted(set(np.round(ends(run), 6))) == pytest.approx([0.07, 0.14, 0.21, 0.28])
    wide = served({"kind": "ray_serve", "max_ongoing_requests": 100}, np.zeros(n), [10] * n, [1] * n)
    assert sorted(set(np.round(ends(wide), 6))) == pytest.approx([0.11, 0.22])  # 10 at once, no wait


def test_torchserve_waits_for_its_delay_from_when_the_worker_is_free():
    run = served({"kind": "torchserve", "batch_size": 2}, [0.0, 0.5, 0.51], [10] * 3, [40, 1, 1])
    # the first waits 100 ms for company, then 20 + 39 x 11 = 449 ms: to 549 ms; two wait then and go at once
    assert ends(run) == pytest.approx([0.549, 0.579, 0.579])


def test_instances_take_turns_on_the_gpu():
    triton = {"kind": "triton", "max_batch_size": 1, "instance_group_count": 2}
    run = served(triton, [0.0, 0.0], [10, 10], [3, 3])
    # batches of 20 and 11 ms of both instances, one after the other: 20, 40, 51, 62, 73, 84 ms
    assert ends(run) == pytest.approx([0.073, 0.084])
    assert len(run.instances) == 1 and run.instances["busy_s"][0] == pytest.approx(0.084)
    assert run.requests["replica"].tolist() == [0, 0]


def test_triton_of_one_is_one_at_a_time():
    rng = np.random.default_rng(0)
    arrival = np.cumsum(rng.exponential(0.2, 300))
    prompt, output = rng.integers(1, 300, 300), rng.integers(1, 30, 300)
    a = served({"kind": "triton", "max_batch_size": 1}, arrival, prompt, output)
    b = served({"kind": "one_at_a_time"}, arrival, prompt, output)
    assert a.requests.equals(b.requests)


def test_orca_with_all_memory_is_unchunked_vllm():
    rng = np.random.default_rng(1)
    arrival = np.cumsum(rng.exponential(0.05, 400))
    prompt, output = rng.integers(1, 300, 400), rng.integers(1, 60, 400)
    # what is left of vLLM without chunks, cache and two batches in flight
    flags = dict(
        enable_chunked_prefill=False,
        enable_prefix_caching=False,
        async_scheduling=False,
        scheduler_reserve_full_isl=False,
        max_model_len=1024,
        max_num_batched_tokens=1024 * 64,
        max_num_seqs=64,
    )
    raw = scenario(step_time=AFFINE).to_mapping()
    raw["deployments"][0]["engine"] = flags
    plain = simulate(Scenario.of(raw), requests=table(arrival, prompt, output))
    raw["deployments"][0]["engine"] = {k: flags[k] for k in ("max_model_len", "max_num_batched_tokens")}
    raw["deployments"][0]["serving"] = {"kind": "orca", "max_batch_size": 64}
    orca = simulate(Scenario.of(raw), requests=table(arrival, prompt, output))
    assert plain.requests.equals(orca.requests)


def test_orca_reserves_what_was_asked_for():
    raw = scenario(step_time=AFFINE).to_mapping()
    raw["deployments"][0]["engine"] = {"max_model_len": 160, "num_gpu_blocks_override": 21}
    raw["deployments"][0]["serving"] = {"kind": "orca"}
    # 20 blocks; each request may come to 80 + 80 tokens, 10 blocks, though it stops after 2: two at a time
    requests = table([0.0, 0.0, 0.0], [80] * 3, [2] * 3, [80] * 3)
    run = simulate(Scenario.of(raw), requests=requests, steps="full")
    assert run.steps["running"].tolist()[:2] == [2, 2]
    assert run.steps["used_blocks"].max() == 20
    assert run.requests["scheduled_s"][2] == pytest.approx(run.requests["end_s"][0])


def test_memory_cuts_a_static_batch():
    raw = scenario(step_time=AFFINE).to_mapping()
    raw["deployments"][0]["engine"] = {"max_model_len": 160, "num_gpu_blocks_override": 21}
    raw["deployments"][0]["serving"] = {"kind": "static", "batch_size": 8}
    run = simulate(Scenario.of(raw), requests=table([0.0] * 4, [80] * 4, [2] * 4, [80] * 4))
    assert len(set(np.round(run.requests["end_s"], 9))) == 2  # two batches of two


def test_defaults_are_those_of_the_servers():
    assert TorchServeServing().batching().delay_s == 0.1 and TorchServeServing().batch_size == 1
    assert RayServeServing().batching()[1:5] == (10, (10,), 0.01, True)
    assert RayServeServing().batching().visible == 5
    tf = TensorFlowServing().batching()
    assert (tf.max_batch, tf.delay_s, tf.max_pending) == (1000, 0.0, 10_000)
    assert TritonServing().batching().delay_s == 0.0
    assert TritonServing(max_batch_size=8, preferred_batch_size=(4,)).batching().sizes == (4, 8)


@pytest.mark.parametrize(
    ("serving", "says"),
    [
        (
            {"kind": "triton", "max_batch_size": 4, "preferred_batch_size": [8]},
            "preferred_batch_size 8 is above max_batch_size 4",
        ),
        ({"kind": "static", "batch_size": 0}, "batch_size"),
        ({"kind": "tritn"}, "did you mean 'triton'"),
    ],
)
def test_bad_parameters(serving, says):
    raw = scenario().to_mapping()
    raw["deployments"][0]["serving"] = serving
    with pytest.raises(ServelabError, match=says):
        Scenario.of(raw)


def test_flags_of_vllms_scheduler_say_nothing_to_another():
    raw = scenario().to_mapping()
    raw["deployments"][0]["engine"] = {"max_num_seqs": 4}
    raw["deployments"][0]["serving"] = {"kind": "static"}
    with pytest.raises(ServelabError, match="engine.max_num_seqs=4 is a flag of vLLM's scheduler"):
        simulate(Scenario.of(raw))


def test_a_scenario_with_its_defaults_written_out_may_have_another_server():
    saved = scenario().to_mapping()
    saved["deployments"][0] |= {"serving": {"kind": "static"}, "engine": {"max_model_len": 1024}}
    again = Scenario.of(Scenario.of(saved).to_mapping())
    assert "watermark" in again.deployments[0].engine.model_fields_set
    assert simulate(again).counts()["completed"] > 0


def test_a_client_that_gives_up_leaves_its_row_in_the_batch():
    run = served({"kind": "static", "batch_size": 2}, [0.0, 0.0], [10, 10], [40, 40], client={"timeout_s": 0.1})
    assert run.counts()["timed_out"] == 2
    assert ends(run) == pytest.approx([0.1, 0.1])
    assert run.instances["busy_s"][0] == pytest.approx(0.03 + 39 * 0.012)
