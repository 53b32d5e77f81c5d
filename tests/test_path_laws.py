"""Stages of a path against queueing theory and against what was measured of gateways and sidecars."""

import math

import numpy as np
import pytest
from scipy import stats
from systems import scenario, table

from simulator.scenario import Scenario
from simulator.simulation import simulate

SEEDS, REQUESTS = 12, 8_000
LLM = {"name": "llm", "kind": "llm", "hop": False}


def system(stages, **parts):
    """A path around an LLM that takes next to no time."""
    raw = scenario(
        {"max_num_seqs": 1024, "max_num_batched_tokens": 8192, "async_scheduling": False},
        step_time={"kind": "constant", "seconds": 1e-7},
    ).to_mapping()
    path = {"stages": stages} | {k: parts.pop(k) for k in ("pools", "hop") if k in parts}
    return Scenario.of(raw | {"path": path} | parts)


def exponential(name, mean, **more):
    return {"name": name, "service": {"kind": "exponential", "mean_s": mean}} | more


def sojourns(scenario_, rate, measure):
    """A figure of each seed, the first tenth of the requests left out."""
    found = []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 3])
        arrival = np.cumsum(rng.exponential(1 / rate, REQUESTS))
        run = simulate(scenario_, seed, requests=table(arrival, np.ones(REQUESTS, int), np.ones(REQUESTS, int)))
        assert run.counts()["completed"] == REQUESTS
        found.append(measure(run))
    return np.array(found)


def of_stage(k):
    def mean(run):
        s = run.stages[(run.stages["stage"] == k) & (run.stages["request_id"] >= REQUESTS // 10)]
        return float((s["end_s"] - s["queued_s"]).mean())

    return mean


def agrees(means, theory):
    half = stats.t.ppf(0.9995, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means))
    assert abs(means.mean() - theory) <= half, (means.mean(), theory, half)
    assert half < 0.1 * theory


def test_tandem_of_two_is_two_m_m_1():
    stages = [exponential("a", 0.1), exponential("b", 0.15), LLM]
    both = sojourns(system(stages), 4.0, lambda run: (of_stage(0)(run), of_stage(1)(run)))
    agrees(both[:, 0], 1 / (1 / 0.1 - 4))
    agrees(both[:, 1], 1 / (1 / 0.15 - 4))  # Burke: what leaves the first is Poisson


def test_jackson_network_with_branches():
    stages = [
        exponential("in", 0.05, branches={"left": 0.3, "right": 0.7}),
        exponential("left", 0.2, after=["in"]),
        exponential("right", 0.15, after=["in"]),
        exponential("out", 0.12, after=["left", "right"]),
        LLM,
    ]
    found = sojourns(system(stages), 5.0, lambda run: [of_stage(k)(run) for k in range(4)])
    for k, (mean, rate) in enumerate([(0.05, 5.0), (0.2, 1.5), (0.15, 3.5), (0.12, 5.0)]):
        agrees(found[:, k], 1 / (1 / mean - rate))


def test_m_m_c():
    c, rate, mean = 4, 3.2, 1.0
    a = rate * mean
    top = a**c / math.factorial(c) * c / (c - a)
    erlang_c = top / (sum(a**k / math.factorial(k) for k in range(c)) + top)
    stages = [exponential("a", mean, workers=2, replicas=2), LLM]
    agrees(sojourns(system(stages), rate, of_stage(0)), mean + erlang_c * mean / (c - a))


@pytest.mark.parametrize("kind", ["gamma", "lognormal"])
def test_m_g_1_is_pollaczek_khinchine(kind):
    stage = {"name": "a", "service": {"kind": kind, "mean_s": 0.1, "cv": 0.6}}
    rho = 0.7
    agrees(sojourns(system([stage, LLM]), 7.0, of_stage(0)), 0.1 + rho * 0.1 * (1 + 0.36) / (2 * (1 - rho)))


def test_fork_and_join_of_two():
    stages = [exponential("a", 0.1, after=[]), exponential("b", 0.1, after=[]), LLM | {"after": ["a", "b"]}]
    rho = 0.6

    def until_both(run):
        q = run.requests[REQUESTS // 10 :]
        return float((q["llm_arrival_s"] - q["arrival_s"]).mean())

    # Nelson and Tantawi 1988, exact for two: (12 - rho) / 8 of one M/M/1 queue's response time
    agrees(sojourns(system(stages), 6.0, until_both), (12 - rho) / 8 * 0.1 / (1 - rho))


def one(stages, arrival=(0.0,), **parts):
    n = len(arrival)
    return simulate(system(stages, **parts), requests=table(arrival, [10] * n, [5] * n))


def constant(name, seconds, **more):
    return {"name": name, "service": {"kind": "constant", "mean_s": seconds}} | more


def test_retries_by_hand():
    run = one([constant("a", 1.0, failure_probability=1.0, retries=2, backoff_s=0.5), LLM])
    # attempts of 1 s at 0, 1.5 and 3.5 s (backoff 0.5, then 1)
    assert run.stages["queued_s"].tolist() == [0.0, 1.5, 3.5]
    assert run.requests["state"].tolist() == [4] and run.requests["end_s"].tolist() == [4.5]
    soft = one([constant("a", 1.0, failure_probability=1.0, optional=True), LLM])
    assert soft.counts()["completed"] == 1 and soft.requests["llm_arrival_s"][0] == 1.0


def test_timeouts_of_a_stage_and_of_the_client():
    run = one([constant("a", 1.0, timeout_s=1.5, retries=0), LLM], arrival=(0.0, 0.1))
    assert run.requests["state"].tolist() == [1, 4]  # the second would end at 2 s
    assert run.requests["end_s"][1] == 1.6
    patient = one([constant("a", 1.0), LLM], arrival=(0.0, 0.1, 0.2), client={"timeout_s": 2.05})
    assert patient.requests["state"].tolist() == [1, 1, 3] and patient.requests["end_s"][2] == 2.25


def test_the_client_does_not_wait_for_the_audit():
    run = one([LLM, constant("post", 0.2), constant("audit", 5.0, after=["post"], off_critical_path=True)])
    assert run.requests["end_s"][0] == pytest.approx(0.2, abs=1e-5)
    assert run.stages["end_s"].max() == pytest.approx(5.2, abs=1e-5)


def test_a_stage_that_needs_the_whole_answer_makes_ttft_e2el():
    blocking, passing = one([LLM, constant("post", 0.2)]), one([LLM, constant("post", 0.2, streaming=True)])
    assert blocking.requests["first_token_s"][0] == blocking.requests["end_s"][0]
    assert passing.requests["first_token_s"][0] < 1e-4 < passing.requests["end_s"][0]


def test_response_cache():
    stages = [
        constant("cache", 0.01, cache_hit_probability=0.4, workers=100),
        LLM,
        constant("log", 0.01, workers=100, on_cache_hit=True),
    ]
    run = one(stages, arrival=np.arange(4000) * 0.01)
    hits = run.requests["replica"] < 0
    assert abs(hits.mean() - 0.4) < 4 * math.sqrt(0.24 / 4000)
    assert run.counts()["completed"] == 4000 and (run.requests["generated_tokens"] == 5).all()
    assert (run.stages["stage"] == 2).sum() == 4000  # logged all the same
    assert set(run.stages["outcome"]) == {0, 3}


def test_a_thread_for_each_request_is_held_through_the_llm():
    pool = [{"name": "p", "workers": 1, "hold": "request"}]
    run = one([constant("a", 0.5, pool="p"), LLM, constant("b", 0.5, pool="p")], arrival=(0.0, 0.1), pools=pool)
    assert run.requests["end_s"].tolist() == pytest.approx([1.0, 2.0], abs=1e-5)
    shared = one(
        [constant("a", 0.5, pool="p"), LLM, constant("b", 0.5, pool="p")],
        arrival=(0.0, 0.1),
        pools=[{"name": "p", "workers": 1}],
    )
    # a of the first, a of the second (waiting already), then b of both
    assert shared.requests["end_s"].tolist() == pytest.approx([1.5, 2.0], abs=1e-5)


def test_batches_of_a_stage():
    stage = constant("embed", 0.1, batch={"max_batch_size": 3, "max_delay_s": 0.05, "item_s": 0.01})
    run = one([stage, LLM], arrival=(0.0, 0.01, 0.02, 0.03))
    # three are a full batch at 20 ms: 130 ms. The last waits for the server, its window is over by then: 150 + 110 ms
    assert run.stages.sort_values("request_id")["end_s"].tolist() == pytest.approx([0.15, 0.15, 0.15, 0.26])


def test_only_the_llm_is_no_path():
    plain = scenario(router={"kind": "least_outstanding"})
    through = Scenario.of(plain.to_mapping() | {"path": {"stages": [{"name": "llm", "kind": "llm"}]}})
    a, b = simulate(plain).requests, simulate(through).requests
    for name in ("arrival_s", "llm_arrival_s", "engine_s", "scheduled_s", "first_token_s", "end_s", "replica", "state"):
        assert np.allclose(a[name], b[name], rtol=0, atol=1e-9), name


@pytest.mark.parametrize("seed", range(8))
def test_requests_are_conserved(seed):
    """Random graphs, failures, timeouts and full queues: every request ends in exactly one state."""
    rng = np.random.default_rng(seed)
    stages = []
    for i in range(int(rng.integers(2, 7))):
        before = [s["name"] for s in stages if rng.random() < 0.4]
        stages.append(
            {
                "name": f"s{i}",
                "after": before,
                "workers": int(rng.integers(1, 3)),
                "probability": float(rng.uniform(0.5, 1)),
                "service": {"kind": "gamma", "mean_s": float(rng.uniform(0.01, 0.2)), "cv": 1.0},
                "failure_probability": float(rng.uniform(0, 0.2)),
                "retries": int(rng.integers(0, 3)),
                "backoff_s": 0.01,
                "timeout_s": float(rng.uniform(0.2, 2)),
                "optional": bool(rng.random() < 0.3),
                "off_critical_path": bool(rng.random() < 0.2),
                "cache_hit_probability": float(rng.choice([0, 0.1])),
            }
        )
    at = int(rng.integers(0, len(stages)))
    stages.insert(
        at, {"name": "llm", "kind": "llm", "after": [s["name"] for s in stages[:at]], "retries": 1, "backoff_s": 0.1}
    )
    if at + 1 < len(stages):
        stages[at + 1]["after"] = ["llm"]
    raw = scenario({"max_num_queued_reqs": 4}).to_mapping() | {"path": {"stages": stages}, "client": {"timeout_s": 3.0}}
    run = simulate(Scenario.of(raw), seed)
    c = run.counts()
    assert c["arrived"] == 400 == sum(c[k] for k in ("completed", "rejected", "timed_out", "failed", "cancelled"))
    assert c["completed"] < 400
    q = run.requests
    assert (q["end_s"] >= q["arrival_s"]).all() and (q["end_s"] <= q["arrival_s"] + 3.0 + 1e-9).all()
    late = q[q["state"] == 3]
    assert np.allclose(late["end_s"], late["arrival_s"] + 3.0)


def test_sidecars_take_what_was_measured():
    raw = scenario().to_mapping() | {
        "path": {
            "stages": [constant("a", 0.0, workers=1000), LLM],
            "hop": {"sidecar_p90_s": 0.00276, "sidecar_p99_s": 0.00288},
        }
    }
    n = 20_000
    run = simulate(Scenario.of(raw), requests=table(np.arange(n) * 0.01, [1] * n, [1] * n))
    hop = (run.stages["queued_s"] - run.requests["arrival_s"]).to_numpy()
    assert np.percentile(hop, 90) == pytest.approx(0.00276, rel=0.005)
    assert np.percentile(hop, 99) == pytest.approx(0.00288, rel=0.005)


@pytest.mark.parametrize(("concurrency", "measured_s"), [(20, 0.158), (60, 0.426), (100, 0.723), (150, 1.141)])
def test_endpoint_picker_saturates_as_measured(concurrency, measured_s):
    """Mean TTFT of 220 kB prompts, gateway-api-inference-extension issue 2928; one figure is fitted to the four."""
    raw = scenario(
        {
            "max_model_len": 65_536,
            "max_num_batched_tokens": 65_536,
            "max_num_seqs": 256,
            "enable_prefix_caching": False,
        },
        step_time={"kind": "constant", "seconds": 1e-6},
    ).to_mapping()
    raw |= {
        "path": "kubernetes",
        "workload": {
            "source": "synthetic",
            "classes": [
                {
                    "name": "big",
                    "arrivals": {"kind": "closed_loop", "concurrency": concurrency, "requests": 3000},
                    "prompt_tokens": {"kind": "fixed", "tokens": 55_000},
                    "output_tokens": {"kind": "fixed", "tokens": 1},
                }
            ],
        },
    }
    q = simulate(Scenario.of(raw)).requests[500:]
    ttft = float((q["first_token_s"] - q["arrival_s"]).mean())
    assert ttft == pytest.approx(measured_s, rel=0.07)
