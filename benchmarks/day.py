"""A day on Kubernetes: 2,000,000 requests, 32 pods, prefix-aware routing, HPA, cold starts. Prints time and memory.

``python -m benchmarks.day [share of the day]``
"""

import json
import resource
import sys
import time

from simulator import Scenario, simulate

SCENARIO = {
    "workload": {
        "classes": [
            {
                "name": "chat",
                "arrivals": {"kind": "diurnal", "rate_rps": 23.15, "peak_to_mean": 1.7, "peak_s": 50_400},
                "prompt_tokens": {"kind": "lognormal", "median": 800, "sigma": 0.9, "max": 8000},
                "output_tokens": {"kind": "lognormal", "median": 150, "sigma": 0.8, "max": 1500},
                "shared_prefix": {"groups": 200, "tokens": 1024, "share": 0.7},
            }
        ],
        "source": "synthetic",
        "duration_s": 86_400,
    },
    "deployments": [
        {
            "name": "chat",
            "model": "llama-3.1-8b",
            "gpu": "l40s",
            "replicas": 8,
            "engine": {"max_model_len": 16384},
            "autoscaler": {
                "kind": "hpa",
                "min_replicas": 4,
                "max_replicas": 32,
                "metrics": [{"metric": "concurrency", "target_average_value": 12}],
            },
        }
    ],
    "router": {"kind": "precise_prefix"},
    "nodes": {
        "pools": [{"name": "gpu", "gpu": "l40s", "gpus_per_node": 8, "nodes": 1, "max_nodes": 5}],
        "provisioner": {"kind": "cluster_autoscaler"},
    },
}


def main(share: float = 1.0) -> None:
    mapping = json.loads(json.dumps(SCENARIO))
    mapping["workload"]["duration_s"] *= share
    scenario = Scenario.of(mapping)
    began = time.perf_counter()
    result = simulate(scenario)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ups = result.events["kind"].value_counts()
    print(result.counts())
    print(
        f"{took:.0f} s of computing, {peak:.2f} GiB at most, {int(result.timeline['steps'].sum()):,} batches, "
        f"{len(result.instances)} pods; {ups.to_dict()}"
    )
    print(result.verdict())


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
