"""Queueing theory: the engine set to be a textbook queue must behave like one."""

import math

import numpy as np
import pytest
from scipy import stats

from simulator.simulation import simulate
from tests.systems import scenario, table

STEP_S = 0.01
SEEDS, REQUESTS = 24, 12_000


def waits(rate, outputs, servers=1, step_s=STEP_S):
    """Mean waiting time [s] of each seed, the first tenth left out.

    Prompts of one token and a constant step time make the service ``outputs`` steps, whatever else is in the batch.
    """
    flags = {
        "max_num_seqs": servers,
        "async_scheduling": False,
        "enable_prefix_caching": False,
        "max_model_len": 131072,
    }
    system = scenario(flags, step_time={"kind": "constant", "seconds": step_s})
    means = []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 7])
        arrival = np.cumsum(rng.exponential(1 / rate, REQUESTS))
        result = simulate(system, requests=table(arrival, np.ones(REQUESTS, int), outputs(rng)))
        q = result.requests[REQUESTS // 10 :]
        means.append((q["scheduled_s"] - q["arrival_s"]).mean())
    return np.array(means)


def agrees(means, theory, slack=0.0):
    """Theory lies in the 99.9 % t-interval of the seeds' mean, widened by ``slack``."""
    half = stats.t.ppf(0.9995, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means))
    assert half < 0.2 * theory, "too few seeds to tell"
    assert means.mean() - half - slack <= theory <= means.mean() + half + slack, (means.mean(), half, theory)


def pollaczek_khinchine(rate, mean_s, second_moment):
    """Mean wait of M/G/1 [s] (Kleinrock, Queueing Systems I, eq. 5.68)."""
    return rate * second_moment / (2 * (1 - rate * mean_s))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_mm1(load):
    """Geometric service, the discrete exponential; its own second moment is used, so nothing is approximated."""
    p = 1 / 50
    mean, second = STEP_S / p, STEP_S**2 * (2 - p) / p**2
    rate = load / mean
    agrees(waits(rate, lambda rng: rng.geometric(p, REQUESTS)), pollaczek_khinchine(rate, mean, second))


def test_md1():
    mean = 20 * STEP_S
    rate = 0.8 / mean
    agrees(waits(rate, lambda rng: np.full(REQUESTS, 20)), pollaczek_khinchine(rate, mean, mean**2))


def test_mg1():
    outputs = np.array([1, 5, 300])
    share = np.array([0.6, 0.35, 0.05])
    mean, second = STEP_S * share @ outputs, STEP_S**2 * share @ outputs**2
    rate = 0.7 / mean
    found = waits(rate, lambda rng: rng.choice(outputs, REQUESTS, p=share))
    agrees(found, pollaczek_khinchine(rate, mean, second))


@pytest.mark.parametrize("servers", [2, 8])
def test_mmc(servers):
    """Erlang C. A request admitted while others run waits for the end of their step, so up to a step more."""
    p = 1 / 400
    mean = STEP_S / p
    rate = 0.8 * servers / mean
    offered = rate * mean
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - offered / servers)
    theory = last / (sum(terms) + last) * mean / (servers - offered)
    agrees(waits(rate, lambda rng: rng.geometric(p, REQUESTS), servers), theory, slack=STEP_S)


@pytest.mark.parametrize(
    "system",
    [
        scenario(),
        scenario({"async_scheduling": False, "num_gpu_blocks_override": 200}, replicas=3),
        scenario({"num_gpu_blocks_override": 200, "max_num_queued_reqs": 20}, client={"timeout_s": 3.0}),
        scenario(replicas=2, router={"kind": "least_outstanding"}, api_server={"base_s": 0.02}),
    ],
)
def test_littles_law(system):
    """The engine's own integral of requests in the system is what the requests' records add up to."""
    result = simulate(system)
    q = result.requests[result.requests["state"] != 2]
    stay = (q["end_s"] - q["arrival_s"]).groupby(q["replica"]).sum()
    inside = result.instances.set_index("replica")["system_s"]
    np.testing.assert_allclose(stay.to_numpy(), inside.to_numpy(), rtol=1e-9)


def test_tokens_are_conserved():
    """Every prompt token is computed once, or found in the cache; every output token but the last is decoded."""
    result = simulate(scenario({"async_scheduling": False, "enable_prefix_caching": False}), steps="full")
    q = result.requests
    assert result.timeline["prefill_tokens"].sum() == q["prompt_tokens"].sum()
    assert result.timeline["decode_tokens"].sum() == (q["generated_tokens"] - 1).sum()
    assert result.itl["count"].sum() == (q["generated_tokens"] - 1).sum()
    for column in ("prefill_tokens", "decode_seqs"):
        assert result.steps[column].sum() == result.timeline[column.replace("_seqs", "_tokens")].sum()


def test_order_of_moments():
    q = simulate(scenario({"num_gpu_blocks_override": 150}, replicas=2)).requests
    for earlier, later in (
        ("arrival_s", "engine_s"),
        ("engine_s", "scheduled_s"),
        ("scheduled_s", "first_token_s"),
        ("first_token_s", "end_s"),
    ):
        assert (q[earlier] <= q[later]).all()
    assert q["preemptions"].sum() > 0
