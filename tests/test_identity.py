"""The same simulation by other ways gives the same records, to the last digit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.scenario import Scenario
from simulator.simulation import simulate
from tests.systems import AFFINE, scenario

PREFIX = {"groups": 4, "tokens": 100, "share": 0.8}
TABLES = ("requests", "steps", "timeline", "instances", "itl")
SYSTEMS = {
    "async": scenario(replicas=3),
    "sync": scenario({"async_scheduling": False}, replicas=2),
    "preempting": scenario({"num_gpu_blocks_override": 150}),
    "prefix": scenario(
        {"num_gpu_blocks_override": 150},
        workload={
            "source": "poisson",
            "rate_rps": 12.0,
            "requests": 300,
            "shared_prefix": PREFIX,
            "prompt_tokens": {"kind": "uniform", "min": 10, "max": 300},
            "output_tokens": {"kind": "uniform", "min": 1, "max": 120},
            "max_tokens": 100,
        },
    ),
    "priority": scenario(
        {"scheduling_policy": "priority", "num_gpu_blocks_override": 150},
        workload={
            "source": "poisson",
            "rate_rps": 12.0,
            "requests": 300,
            "priority_weights": {0: 1, 1: 2},
            "prompt_tokens": {"kind": "fixed", "tokens": 300},
            "output_tokens": {"kind": "fixed", "tokens": 90},
        },
    ),
    "limits": scenario(
        {"max_num_queued_reqs": 12, "max_num_queued_tokens": 3000},
        replicas=2,
        client={"timeout_s": 0.9},
        api_server={"processes": 2, "base_s": 0.01, "prompt_token_s": 1e-5},
        router={"kind": "random"},
        workload={
            "source": "poisson",
            "rate_rps": 60.0,
            "requests": 400,
            "prompt_tokens": {"kind": "uniform", "min": 10, "max": 700},
            "output_tokens": {"kind": "uniform", "min": 1, "max": 120},
        },
    ),
}


def same(a, b):
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_pass_and_simpy(name):
    runs = [simulate(SYSTEMS[name], 3, steps="full", method=m) for m in ("compiled", "simpy")]
    assert [r.meta["method"] for r in runs] == ["compiled", "simpy"]
    same(*runs)
    q = runs[0].requests
    if name in ("preempting", "prefix", "priority"):
        assert q["preemptions"].sum() > 0
    if name == "prefix":
        assert q["cached_tokens"].sum() > 0
    if name == "limits":
        assert (q["state"] == 2).any() and (q["state"] == 3).any()
        assert (q["engine_s"] > q["arrival_s"]).any()


@pytest.mark.parametrize("name", SYSTEMS)
def test_fewest_outstanding_in_compiled_code(name):
    """The router that looks at the replicas has a pass of its own; SimPy asks the router request by request."""
    mapping = SYSTEMS[name].to_mapping() | {"router": {"kind": "least_outstanding"}}
    mapping["deployments"][0]["replicas"] = 3
    runs = [simulate(Scenario.of(mapping), 3, steps="full", method=m) for m in ("auto", "simpy")]
    assert [r.meta["method"] for r in runs] == ["compiled", "simpy"]
    same(*runs)
    assert runs[0].requests["replica"].nunique() == 3


@pytest.mark.parametrize("name", SYSTEMS)
def test_same_seed_same_bytes(name, tmp_path):
    for folder in ("a", "b"):
        simulate(SYSTEMS[name], 5, steps="full").to_parquet(tmp_path / folder)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_python_gives_the_same_as_compiled(tmp_path):
    """The very same functions, not compiled, in a process of their own."""
    small = {
        "source": "poisson",
        "rate_rps": 12.0,
        "requests": 60,
        "shared_prefix": PREFIX,
        "max_tokens": 30,
        "prompt_tokens": {"kind": "uniform", "min": 10, "max": 300},
        "output_tokens": {"kind": "uniform", "min": 1, "max": 40},
    }
    for name in ("prefix", "limits", "priority"):
        mapping = SYSTEMS[name].to_mapping()
        mapping["workload"] = small | ({"priority_weights": {0: 1, 1: 1}} if name == "priority" else {})
        mapping["deployments"][0]["engine"]["num_gpu_blocks_override"] = 60
        mapping["deployments"][0]["engine"]["max_model_len"] = 512
        system = Scenario.of(mapping)
        (tmp_path / f"{name}.yaml").write_text(system.to_yaml())
        simulate(system, steps="full").to_parquet(tmp_path / f"{name}-compiled")
    code = (
        "import sys; from pathlib import Path; from simulator import Scenario, simulate\n"
        "from simulator.engine.compiled import JIT; assert not JIT\n"
        "for f in sorted(Path(sys.argv[1]).glob('*.yaml')):\n"
        "    simulate(Scenario.load(f), steps='full').to_parquet(f.with_suffix(''))\n"
    )
    env = os.environ | {
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONWARNINGS": "ignore",
    }
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=env, cwd=tmp_path)
    for name in ("prefix", "limits", "priority"):
        for file in sorted((tmp_path / f"{name}-compiled").glob("*.parquet")):
            assert file.read_bytes() == (tmp_path / name / file.name).read_bytes(), (name, file.name)


def test_changing_the_router_leaves_the_arrivals():
    runs = [
        simulate(scenario(replicas=2, router={"kind": k}), 1).requests
        for k in ("random", "round_robin", "least_outstanding")
    ]
    for other in runs[1:]:
        for column in ("arrival_s", "prompt_tokens", "max_tokens"):
            np.testing.assert_array_equal(runs[0][column], other[column])
    assert (runs[0]["replica"] != runs[1]["replica"]).any()


def test_seeds_differ():
    a, b = (simulate(scenario(), seed).requests["arrival_s"] for seed in (1, 2))
    assert (a != b).any()


def test_your_own_step_time_runs_uncompiled_and_says_so():
    def mine(code, p, tokens, prefill_tokens, prefill_seqs, pairs, prefill_kv, decode_seqs, decode_kv, sampled):
        a = AFFINE
        seconds = a["base_s"] + a["prefill_token_s"] * prefill_tokens
        return seconds + a["decode_seq_s"] * decode_seqs + a["decode_kv_s"] * decode_kv

    own, built_in = simulate(scenario(), step_seconds=mine, steps="full"), simulate(scenario(), steps="full")
    same(own, built_in)
    assert any("uncompiled" in note for note in own.meta["notes"])
    assert own.meta["deployments"][0]["trust"] == "user"


def test_your_own_order_of_waiting():
    """Shortest prompt first: among requests that wait together, the shorter prompt is scheduled first."""
    busy = scenario(
        {"max_num_seqs": 1, "async_scheduling": False},
        workload=dict(scenario().workload.model_dump(exclude_none=True), rate_rps=1000.0, requests=50),
    )
    result = simulate(busy, queue_key=lambda arrival, prompt, max_tokens, priority: prompt)
    waited = result.requests.iloc[1:].sort_values("scheduled_s")
    late = waited[waited["scheduled_s"] > waited["arrival_s"].max()]
    assert len(late) > 30 and late["prompt_tokens"].is_monotonic_increasing
    assert any("your own key" in note for note in result.meta["notes"])


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding"])
def test_two_deployments_share_the_traffic(router):
    """Replicas of all deployments stand behind one router; the records say which deployment served a request."""
    mapping = scenario(replicas=2).to_mapping()
    other = mapping["deployments"][0] | {"name": "slow", "gpu": "a100", "replicas": 1}
    other["step_time"] = AFFINE | {"base_s": 30e-3}
    mapping |= {"deployments": [mapping["deployments"][0], other], "router": {"kind": router}}
    result = simulate(Scenario.of(mapping), 2, steps="full")
    q = result.requests
    served = q.groupby(["deployment", "replica"]).size()
    assert list(served.index) == [(0, 0), (0, 1), (1, 0)] and served.sum() == len(q) == 400
    assert (q["state"] == 1).all()
    assert result.itl["count"].sum() == (q["generated_tokens"] - 1).sum()
    assert set(result.instances["gpu"]) == {"h100_sxm", "a100_sxm"}
    if router == "round_robin":
        same(result, simulate(Scenario.of(mapping), 2, steps="full", method="simpy"))
    else:
        assert served[1, 0] < served[0, 0]
