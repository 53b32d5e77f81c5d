"""The search of a plan, on made-up outcomes of designs: what is cheapest and holds is found whatever the order and
the families."""

import socket
import time

import numpy as np
import pytest
from test_planner import HERE, scenario

from simulator.errors import ServelabError
from simulator.planner.capacity import capacity
from simulator.planner.designs import Claim
from simulator.planner.evaluate import evaluate, job
from simulator.planner.intervals import in_world
from simulator.planner.plan import plan
from simulator.planner.runs import Runs
from simulator.planner.sweep import sweep, with_fields
from simulator.planner.traffic import requests_of, times
from simulator.planner.worlds import Uncertainty, World, worlds
from simulator.scenario import Scenario

SURE = Uncertainty(step_time=False)
SEARCH = 999  # the seed of the search world
BUDGETS = [2048, 4096, 8192, 16384, 32768]


@pytest.fixture(scope="module")
def base():
    return scenario(rate=5, duration_s=30)


@pytest.fixture(scope="module")
def made_up(base):
    """Runs that simulate nothing: ``rule(deployment, in the search world)`` says whether a design holds, and what it
    costs if that is known."""
    real = evaluate(*job(base, 0))

    class MadeUp:
        workers = 2

        def __init__(self, rule):
            self._rule = rule

        def rows(self, jobs):
            out = []
            for mapping, _, seed, _ in jobs:
                found = self._rule(mapping["deployments"][0], seed == SEARCH)
                ok, usd = found if isinstance(found, tuple) else (found, real["usd_per_hour"])
                out.append({**real, "meets": ok, "margin": 0.01 if ok else -0.01, "usd_per_hour": usd})
            return out

    return MadeUp


def test_families_that_nobody_looked_at_are_tried_after_a_failed_proof(base, made_up):
    """Five families at a dollar pass the search and fail the proof; what costs three always holds."""
    runs = made_up(lambda d, searching: searching if d["gpu"] == "l40s" else True)
    choices = {"gpu": ["l40s", "h100"], "replicas": [1, 2], "max_num_batched_tokens": BUDGETS}
    found = plan(base, choices, u=SURE, runs=runs)
    assert found.best is not None and (found.best.fields["gpu"], found.best.fields["replicas"]) == ("h100", 1)
    assert found.proven > 5


def test_a_dear_design_of_a_refuted_family_does_not_hide_a_cheaper_one(base, made_up):
    runs = made_up(lambda d, searching: (searching or d["replicas"] >= 10) if d["gpu"] == "l40s" else True)
    choices = {"gpu": ["l40s", "h100"], "replicas": [1, 10], "max_num_batched_tokens": BUDGETS}
    assert plan(base, choices, u=SURE, runs=runs).best.usd_per_hour == 3.0


@pytest.mark.parametrize("order", [[12, 8, 6, 4, 2], [2, 4, 6, 8, 12], [8, 6, 4, 2, 12]])
def test_the_order_of_replicas_does_not_matter(base, made_up, order):
    """On machines of eight several fleets cost the same."""
    s = with_fields(base, {"prices": {"provider": "oci"}, "serving": {"kind": "dynamic"}})
    found = plan(s, {"replicas": order}, u=SURE, runs=made_up(lambda d, searching: d["replicas"] >= 6))
    assert found.best.fields["replicas"] == 6


def test_a_fleet_that_shrinks_is_not_judged_by_its_start(base, made_up):
    """An autoscaler that begins with six replicas costs two dollars an hour when it is simulated."""
    hpa = {
        "kind": "hpa",
        "min_replicas": 1,
        "max_replicas": 6,
        "metrics": [{"metric": "concurrency", "target_average_value": 16}],
    }

    def rule(d, searching):
        moves = d["autoscaler"]["kind"] != "none"
        return d["replicas"] >= (6 if moves else 2), 2.0 if moves else 3.0 * d["replicas"]

    found = plan(base, {"autoscaler": [{"kind": "none"}, hpa], "replicas": [1, 2, 3, 6]}, u=SURE, runs=made_up(rule))
    assert found.best.fields["autoscaler"] == hpa and found.best.fields["replicas"] == 6


def test_the_closest_is_the_closest():
    """Nothing reaches a TPOT of 4 ms; the answer names what comes nearest, not what came first."""
    s = scenario(rate=5, duration_s=30, step_time={"kind": "roofline"}, slo={"tpot_s": 0.004})
    found = plan(s, {"gpu": ["l40s", "h100"], "replicas": [1, 8]}, u=SURE, runs=HERE)
    assert found.best is None and found.closest.fields == {"gpu": "h100", "replicas": 8}


def test_two_looks_hold_their_confidence():
    """The chance that a design is accepted which holds a little less often than claimed, exactly."""
    for p in (0.5, 0.7, 0.9, 0.95, 0.99):
        for confidence in (0.5, 0.7, 0.9, 0.95):
            n, m = Claim(probability=p, confidence=confidence).looks
            accepted = p**n + n * (1 - p) * p ** (m - 1)
            assert n < m and accepted <= 1 - confidence + 1e-12
    rng = np.random.default_rng(0)
    n, m = Claim().looks
    held = rng.random((200_000, m)) < 0.9
    first = (~held[:, :n]).sum(axis=1)
    accepted = (first == 0) | ((first == 1) & held[:, n:].all(axis=1))
    assert accepted.mean() == pytest.approx(0.1, abs=0.004)


# ---- what the analytic model does not know ----------------------------------------------------------------


def test_prompts_that_share_blocks_are_not_screened():
    mapping = scenario(step_time={"kind": "roofline"}).to_mapping()
    one = {
        "name": "chat",
        "arrivals": {"kind": "poisson", "rate_rps": 30.0},
        "prompt_tokens": {"kind": "fixed", "tokens": 100},
        "output_tokens": {"kind": "fixed", "tokens": 20},
        "shared_prefix": {"groups": 1, "tokens": 8000},
    }
    mapping["workload"] = {"source": "synthetic", "duration_s": 120, "classes": [one]}
    found = plan(
        Scenario.of(mapping), {"replicas": [1, 2, 4, 6]}, Claim(probability=0.6, confidence=0.6), SURE, runs=HERE
    )
    assert (
        found.best.fields["replicas"] == 1
    )  # alone it is far too slow by the analytic model, which computes every prompt anew


def closed(concurrency, requests):
    mapping = scenario(step_time={"kind": "roofline"}).to_mapping()
    loop = {"kind": "closed_loop", "concurrency": concurrency, "requests": requests}
    one = {
        "name": "chat",
        "arrivals": loop,
        "prompt_tokens": {"kind": "fixed", "tokens": 100},
        "output_tokens": {"kind": "fixed", "tokens": 50},
    }
    mapping["workload"] = {"source": "synthetic", "classes": [one]}
    return Scenario.of(mapping)


def test_closed_loops_are_planned_by_simulation():
    s = closed(32, 400)
    assert evaluate(*job(with_fields(s, {"replicas": 1}), 0))["meets"]
    found = plan(s, {"replicas": [1, 2, 3]}, Claim(probability=0.6, confidence=0.6), SURE, runs=HERE)
    assert found.best.fields["replicas"] == 1
    twice = requests_of(
        Scenario.of(s.to_mapping() | {"workload": times(s.workload, 2.0).model_dump(mode="json", exclude_none=True)}), 0
    )
    assert len(twice) == 800  # as long a run


def test_capacity_of_a_closed_loop_is_its_throughput():
    found = capacity(closed(16, 400), runs=HERE)
    row = found.curve[found.curve["factor"] == found.factor].iloc[0]
    assert found.rate_rps == row["throughput_rps"] and found.rate_rps < 1000


# ---- residual error ---------------------------------------------------------------------------------------


def test_residual_errors_count_for_the_slo(base):
    """A world whose TTFT is three times what is simulated meets a limit where a third of it is met."""
    calm = evaluate(*job(World(0).of(base, 600.0), 0))
    tight = Scenario.of(base.to_mapping() | {"slo": {"ttft_s": calm["ttft_s_p99"] * 2, "window_s": 60}})
    assert evaluate(*job(World(0).of(tight, 600.0), 0))["meets"]
    slow = World(0, residual=(("ttft_s", 3.0), ("throughput", 0.5)))
    row = in_world(evaluate(*job(slow.of(tight, 600.0), 0)), slow)
    assert (
        not row["meets"] and row["ttft_s_of_limit"] > 1 and row["ttft_s_p99"] == pytest.approx(3 * calm["ttft_s_p99"])
    )
    assert row["throughput_tok_s"] == pytest.approx(calm["throughput_tok_s"] / 2)
    assert row["usd_per_1m_output_tokens"] == pytest.approx(2 * calm["usd_per_1m_output_tokens"])
    assert row["usd_per_hour"] == calm["usd_per_hour"]


def test_the_error_of_throughput_that_a_profile_states_is_drawn():
    s = scenario(step_time={"kind": "profile", "name": "h100-roofline-mlenergy-dense"})
    factors = [dict(w.residual)["throughput"] for w in worlds(s, Uncertainty(), 50)]
    assert np.std(np.log(factors)) > 0.02


# ---- bad input --------------------------------------------------------------------------------------------


def test_a_dead_ray_address_is_said_at_once(base):
    pytest.importorskip("ray", reason="ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ServelabError, match=f"127.0.0.1:{port}' does not answer"):
        sweep(base, {"replicas": [1, 2]}, runs=Runs("ray", address=f"127.0.0.1:{port}"))
    assert time.monotonic() - began < 30


def test_caches_that_are_none(base, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ServelabError, match="is a file; name a folder"):
        sweep(base, {"replicas": [1]}, runs=Runs("serial", cache=tmp_path / "file"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cache.json").write_text("{")
    with pytest.raises(ServelabError, match="cache.json is damaged"):
        sweep(base, {"replicas": [1]}, runs=Runs("serial", cache=tmp_path / "c"))
