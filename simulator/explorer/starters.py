"""Values to begin with for members of unions that need some: by the union's field, then by member. For forms;
nothing is run with them unasked."""

from typing import Any

_FIXED = {"kind": "fixed", "tokens": 256}
_LENGTHS: dict[str, dict[str, Any]] = {
    "fixed": {"tokens": 256},
    "uniform": {"min": 16, "max": 1024},
    "normal": {"mean": 512, "std_dev": 128},
    "lognormal": {"median": 512, "sigma": 1.0},
    "pareto": {"alpha": 1.5, "min": 64, "max": 8192},
}
_CONCURRENCY = {"metric": "concurrency", "target_average_value": 16}

STARTERS: dict[str, dict[str, dict[str, Any]]] = {
    "workload": {
        "azure_conversation": {"rate_rps": 4.0, "duration_s": 600},
        "poisson": {
            "rate_rps": 4.0,
            "duration_s": 600,
            "prompt_tokens": {**_FIXED, "tokens": 512},
            "output_tokens": _FIXED,
        },
        "synthetic": {
            "duration_s": 600,
            "classes": [{"preset": "chat", "arrivals": {"kind": "poisson", "rate_rps": 4.0}}],
        },
        "trace": {"path": "trace.csv"},
    },
    "prompt_tokens": _LENGTHS,
    "output_tokens": _LENGTHS,
    "step_time": {
        "affine": {"base_s": 6e-3, "prefill_token_s": 22e-6, "decode_seq_s": 20e-6, "decode_kv_s": 3e-9},
        "constant": {"seconds": 0.02},
        "profile": {"name": "h100-roofline-mlenergy-dense"},
    },
    "autoscaler": {
        "hpa": {"min_replicas": 1, "max_replicas": 8, "metrics": [_CONCURRENCY]},
        "keda": {"min_replicas": 1, "max_replicas": 8, "metric": "queue_depth", "threshold": 4},
        "kpa": {"min_replicas": 1, "max_replicas": 8},
        "scheduled": {"schedule": [{"from": 0, "replicas": 1}, {"from": 300, "replicas": 2}]},
    },
}
