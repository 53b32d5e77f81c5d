"""How far the analytic screening is from simulation: ``python -m benchmarks.analytic``.

Poisson traffic with the lengths of the Azure conversation default, at shares of the highest rate that has a steady
state.
"""

import sys
import time

import numpy as np

from simulator.errors import ServelabError
from simulator.planner.analytic import Lengths, most_rps, steady
from simulator.planner.traffic import requests_of
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario
from simulator.simulation import simulate

CASES = [
    ("llama-3.1-8b", "h100", 1),
    ("llama-3.1-8b", "a100", 1),
    ("llama-3.1-8b", "l40s", 1),
    ("qwen3-32b", "h100", 2),
    ("llama-3.1-70b", "h100", 4),
    ("qwen3-30b-a3b", "h100", 1),
]
SHARES = (0.3, 0.6, 0.8, 0.9)


def case(model: str, gpu: str, tp: int) -> list[tuple[float, float, float, float, float]]:
    """Share of the highest rate, analytic and simulated mean TPOT and TTFT [s]."""

    def scenario(rate: float) -> Scenario:
        return Scenario.of(
            {
                "workload": {"source": "azure_conversation", "profile": "flat", "rate_rps": rate, "requests": 4000},
                "deployments": [
                    {"model": model, "gpu": gpu, "engine": {"max_model_len": 32768, "tensor_parallel_size": tp}}
                ],
            }
        )

    r = resolve_deployment(scenario(1.0), 0)
    lengths = Lengths.of(requests_of(scenario(1.0), 0))
    top = most_rps(r, lengths)
    out = []
    for share in SHARES:
        found = steady(r, lengths, share * top)
        rows = simulate(scenario(share * top)).summary(trim_warmup_s=30).set_index(["metric", "stat"])["value"]
        out.append((share, found.tpot_s, float(rows["tpot_s", "mean"]), found.ttft_s, float(rows["ttft_s", "mean"])))
    return out


def main() -> int:
    """Print the table."""
    say = sys.stdout.write
    errors: dict[float, list[tuple[float, float]]] = {s: [] for s in SHARES}
    say(
        f"{'model':16}{'GPU':8}{'load':>6}{'TPOT analytic':>15}{'simulated':>11}{'error':>9}"
        f"{'TTFT analytic':>15}{'simulated':>11}{'error':>9}\n"
    )
    began = time.perf_counter()
    for model, gpu, tp in CASES:
        try:
            rows = case(model, gpu, tp)
        except ServelabError as problem:
            say(f"{model} on {gpu}: {problem}\n")
            continue
        for share, a, b, c, d in rows:
            errors[share].append((a / b - 1, c / d - 1))
            say(
                f"{model:16}{tp} x {gpu:4}{share:6.0%}{a * 1e3:12.2f} ms{b * 1e3:8.2f} "
                f"ms{a / b - 1:+9.1%}{c * 1e3:12.1f} ms{d * 1e3:8.1f} ms{c / d - 1:+9.1%}\n"
            )
    for share, found in errors.items():
        tpot, ttft = np.median(np.abs(np.array(found)), axis=0)
        say(f"at {share:.0%} of the highest rate: median absolute error TPOT {tpot:.1%}, TTFT {ttft:.1%}\n")
    say(f"{time.perf_counter() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
