"""Small scenarios and hand-driven replicas for tests."""

from typing import Any

import numpy as np

from calibration.judge.schedules import FLAGS
from simulator.engine.arrays import handle
from simulator.engine.build import POLICIES, config_record, request_records
from simulator.engine.state import Fleet, allocate
from simulator.scenario import Scenario
from simulator.workload import RequestTable

AFFINE = {"kind": "affine", "base_s": 6e-3, "prefill_token_s": 22e-6, "decode_seq_s": 20e-6, "decode_kv_s": 3e-9}
ENGINE = {"version": "0.32", "max_model_len": 1024, "max_num_batched_tokens": 512, "max_num_seqs": 32}


def scenario(engine: dict[str, Any] | None = None, **parts: Any) -> Scenario:
    """Poisson traffic on one affine replica; ``parts`` replaces fields of the scenario or of its deployment."""
    deployment = {
        "name": "d",
        "model": "llama-3.1-8b",
        "gpu": "h100",
        "engine": ENGINE | (engine or {}),
        "step_time": AFFINE,
    }
    deployment |= {
        k: parts.pop(k) for k in list(parts) if k in ("replicas", "step_time", "api_server", "model", "gpu", "serving")
    }
    workload = {
        "source": "poisson",
        "rate_rps": 12.0,
        "requests": 400,
        "prompt_tokens": {"kind": "uniform", "min": 10, "max": 700},
        "output_tokens": {"kind": "uniform", "min": 1, "max": 120},
    }
    return Scenario.of({"workload": workload, "deployments": [deployment], "router": {"kind": "round_robin"}} | parts)


def table(arrival_s: Any, prompt: Any, output: Any, max_tokens: Any = None) -> RequestTable:
    return RequestTable.from_columns(
        arrival_s=np.asarray(arrival_s, float),
        prompt_tokens=np.asarray(prompt),
        output_tokens=np.asarray(output),
        **({} if max_tokens is None else {"max_tokens": np.asarray(max_tokens)}),
    )


def replica(requests: RequestTable, **flags: Any) -> tuple[Fleet, Any]:
    """One replica to be driven by hand, and its handle."""
    flags = {
        **FLAGS,
        "block_size": 16,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 128,
        "max_model_len": 1024,
        "num_gpu_blocks": 80,
        **flags,
    }
    config = config_record(flags, compose=1, named_streams=0)
    rows, levels = request_records(requests, flags["max_model_len"], POLICIES[flags["scheduling_policy"]])
    fleet = allocate(
        config,
        rows,
        1,
        levels=levels,
        segment_stream=requests.segment_stream,
        segment_tokens=requests.segment_tokens,
        step_params=np.zeros(1),
    )
    return fleet, handle(fleet)
