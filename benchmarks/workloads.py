"""Making requests, and requests that wait for answers: ``python -m benchmarks.workloads``.

Each line is the best of three. The second half compares a closed loop, which goes from one answer to the next, with the
same number of requests of the same lengths at a rate, routed one by one.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload import SyntheticWorkload, generate

N = 2_000_000
LENGTHS = {
    "prompt_tokens": {"kind": "lognormal", "median": 500.0, "sigma": 0.8},
    "output_tokens": {"kind": "lognormal", "median": 120.0, "sigma": 0.6},
}
RATE = {"rate_rps": 50.0}
CASES: dict[str, dict[str, Any]] = {
    "poisson": {"arrivals": {"kind": "poisson", **RATE}},
    "gamma, cv 2": {"arrivals": {"kind": "gamma", "cv": 2.0, **RATE}},
    "weibull": {"arrivals": {"kind": "weibull", "shape": 0.7, **RATE}},
    "diurnal": {"arrivals": {"kind": "diurnal", "peak_to_mean": 1.7, **RATE}},
    "sessions of 5": {
        "arrivals": {"kind": "poisson", "rate_rps": 10.0},
        "session": {"turns": {"kind": "fixed", "tokens": 5}},
    },
    "closed loop": {"arrivals": {"kind": "closed_loop", "concurrency": 100, "requests": N}},
}
SERVED = 100_000


def best(run: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Shortest time [s] of some runs, and what the last gave."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        out = run()
        took.append(time.perf_counter() - start)
    return min(took), out


def workload(case: dict[str, Any], requests: int) -> SyntheticWorkload:
    one = {"name": "x", **LENGTHS, **case}
    if "session" in case:
        return SyntheticWorkload.model_validate({"classes": [one], "duration_s": requests / 50.0})
    if case["arrivals"]["kind"] == "closed_loop":
        one["arrivals"] = {**case["arrivals"], "requests": requests}
        return SyntheticWorkload.model_validate({"classes": [one]})
    return SyntheticWorkload.model_validate({"classes": [one], "requests": requests})


def served(case: dict[str, Any]) -> tuple[float, int]:
    """Time [s] to simulate `SERVED` requests of a case on four replicas, and how many there were."""
    deployment = {
        "model": "llama-3.1-8b",
        "gpu": "h100",
        "replicas": 4,
        "step_time": {
            "kind": "affine",
            "base_s": 6e-3,
            "prefill_token_s": 2e-5,
            "decode_seq_s": 2e-5,
            "decode_kv_s": 3e-9,
        },
        "engine": {"version": "0.32", "max_model_len": 32768, "enable_prefix_caching": "session" in case},
    }
    scenario = Scenario.of(
        {"workload": workload(case, SERVED).model_dump(exclude_none=True), "deployments": [deployment]}
    )
    took, run = best(lambda: simulate(scenario, 0), 2)
    return took, len(run.requests)


def main() -> None:
    for name, case in CASES.items():
        config = workload(case, N)
        took, table = best(partial(generate, config, np.random.SeedSequence(1)))
        print(f"make {name:14} {len(table):>9,} requests in {took:5.2f} s")
    for name in ("poisson", "closed loop", "sessions of 5"):
        took, n = served(CASES[name])
        print(f"serve {name:13} {n:>9,} requests in {took:5.2f} s, {n / took:>9,.0f} requests/s")


if __name__ == "__main__":
    main()
