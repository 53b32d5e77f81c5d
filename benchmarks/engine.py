"""Speed and memory of the engine against a bare compiled loop, timed in the same run.

    python -m benchmarks.engine [--json] [--requests N] [--case NAME]

Each case runs in a process of its own. ``requests_per_s`` is that of `simulate`, from a request table to a Result
with all its records; ``bare_loop_requests_per_s`` is that of `bare_loop` on the same table; ``ratio`` is the first
by the second. Both are compiled beforehand. The best of three runs counts for each (machines are noisy).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

PLAIN = dict(base_s=6e-3, prefill_token_s=22e-6, decode_seq_s=20e-6, decode_kv_s=3e-9)
ENGINE = dict(
    version="0.32",
    async_scheduling=False,
    enable_prefix_caching=False,
    max_num_batched_tokens=2048,
    max_num_seqs=256,
    max_model_len=4096,
    num_gpu_blocks_override=30_001,
    block_size=16,
)
PREFIX = dict(groups=200, tokens=48, share=1.0)
# name -> (engine flags, workload fields, replicas, requests in millions)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int, float]] = {
    "plain": ({}, {}, 1, 1.0),
    "async": ({"async_scheduling": True}, {}, 1, 1.0),
    "prefix_caching": ({"enable_prefix_caching": True}, {"shared_prefix": PREFIX}, 1, 1.0),
    "preempting": ({"num_gpu_blocks_override": 1_800}, {}, 1, 1.0),
    "all_of_it": (
        {"async_scheduling": True, "enable_prefix_caching": True, "num_gpu_blocks_override": 1_800},
        {"shared_prefix": PREFIX},
        1,
        1.0,
    ),
    "simpy_16_replicas": ({}, {}, 16, 1.0),
    "simpy_16_replicas_quarter": ({}, {}, 16, 0.25),
}
REPEATS = 3


def scenario_of(flags: dict[str, Any], workload: dict[str, Any], replicas: int, requests: int) -> Any:
    from simulator.scenario import Scenario

    return Scenario.of(
        {
            "workload": {
                "source": "poisson",
                "rate_rps": 25.0 * replicas,
                "requests": requests,
                "prompt_tokens": {"kind": "uniform", "min": 64, "max": 1024},
                "output_tokens": {"kind": "uniform", "min": 16, "max": 384},
                **workload,
            },
            "deployments": [
                {
                    "name": "llm",
                    "model": "llama-3.1-8b",
                    "gpu": "h100",
                    "engine": ENGINE | flags,
                    "step_time": {"kind": "affine", **PLAIN},
                    "replicas": replicas,
                }
            ],
            "router": {"kind": "round_robin" if replicas == 1 else "least_outstanding"},
        }
    )


def best(function: Any) -> tuple[float, Any]:
    """Shortest time [s] of `REPEATS` calls, and the last result."""
    times, out = [], None
    for _ in range(REPEATS):
        out = None  # one result at a time
        began = perf_counter()
        out = function()
        times.append(perf_counter() - began)
    return min(times), out


def bare_times(table: Any) -> np.ndarray:
    from benchmarks.bare_loop import bare_loop

    return bare_loop(
        table.arrival_s,
        table.prompt_tokens,
        table.output_tokens,
        2048,
        256,
        30_000,
        16,
        PLAIN["base_s"],
        PLAIN["prefill_token_s"],
        PLAIN["decode_seq_s"],
        PLAIN["decode_kv_s"],
    )


def measure(name: str, requests: int | None = None) -> dict[str, Any]:
    """One case, in this process."""
    from simulator.simulation import simulate
    from simulator.workload import generate

    flags, workload, replicas, millions = CASES[name]
    n = requests or int(millions * 1e6)
    warm = scenario_of(flags, workload, replicas, 2000)
    simulate(warm)
    bare_times(generate(warm.workload, np.random.SeedSequence(1)))
    scenario = scenario_of(flags, workload, replicas, n)
    table = generate(scenario.workload, np.random.SeedSequence(1))
    plain = scenario_of({}, {}, 1, n)
    yardstick = table if replicas == 1 and not workload else generate(plain.workload, np.random.SeedSequence(1))
    bare_s, ends = best(lambda: bare_times(yardstick))
    engine_s, result = best(lambda: simulate(scenario, requests=table))
    out = {
        "case": name,
        "requests": n,
        "method": result.meta["method"],
        "requests_per_s": n / engine_s,
        "bare_loop_requests_per_s": n / bare_s,
        "ratio": bare_s / engine_s,
        "steps_per_s": float(result.timeline["steps"].sum() / engine_s),
        "preemptions": int(result.requests["preemptions"].sum()),
        "cached_tokens": int(result.requests["cached_tokens"].sum()),
    }
    if name == "plain":
        out["completion_times_equal_bare_loop"] = bool((result.requests["end_s"].to_numpy() == ends).all())
    began = perf_counter()
    result.summary()
    out["summary_s"] = perf_counter() - began
    out["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return out


def first_output_s() -> float:
    """Time from the command to its first output on a small run [s], compiled before."""
    code = "from simulator.command.app import app; app()"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.yaml")
        path.write_text(scenario_of({}, {}, 1, 1000).to_yaml())
        times = []
        for _ in range(REPEATS):
            began = perf_counter()
            with subprocess.Popen(
                [sys.executable, "-c", code, "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                assert process.stdout is not None
                process.stdout.read(1)
                times.append(perf_counter() - began)
                process.stdout.read()
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--requests", type=int, help="requests of each case, instead of its own number")
    parser.add_argument("--case", choices=CASES, help="only this case, in this process")
    options = parser.parse_args()
    if options.case:
        sys.stdout.write(json.dumps(measure(options.case, options.requests)) + "\n")
        return
    cases = {}
    for name in CASES:
        extra = ["--requests", str(options.requests)] if options.requests else []
        command = [sys.executable, "-m", "benchmarks.engine", "--case", name, *extra]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cases[name] = json.loads(done.stdout.splitlines()[-1])
        if not options.json:
            c = cases[name]
            sys.stdout.write(
                f"{name:26} {c['requests_per_s']:>10,.0f} requests/s, bare loop "
                f"{c['bare_loop_requests_per_s']:>10,.0f}, ratio {c['ratio']:.2f}, peak "
                f"{c['peak_rss_bytes'] / 1e9:.2f} GB, summary {c['summary_s']:.2f} s\n"
            )
            sys.stdout.flush()
    start = first_output_s()
    if options.json:
        sys.stdout.write(json.dumps({"cases": cases, "first_output_s": start}, indent=1) + "\n")
    else:
        sys.stdout.write(f"command to first output: {start:.2f} s\n")


if __name__ == "__main__":
    main()
