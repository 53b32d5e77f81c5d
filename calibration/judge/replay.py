"""A measured load test, simulated: the same requests at the same times on the same flags with a profile's step
times."""

from pathlib import Path
from typing import Any

import numpy as np

from calibration.measure.measured import MeasuredRun
from simulator.catalog.profile import Profile
from simulator.cluster.deployment import Deployment
from simulator.engine.step_time.profile import ProfileStepTime
from simulator.errors import ServelabError
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload import RequestTable
from simulator.workload.columns import OWN_STREAM

FLAGS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "block_size",
    "enable_prefix_caching",
    "max_model_len",
    "async_scheduling",
    "tensor_parallel_size",
    "enforce_eager",
)
ALSO = ("max_num_active_seqs", "dtype", "pipeline_parallel_size", "kv_cache_dtype", "gpu_memory_utilization")


def request_table(run: MeasuredRun) -> RequestTable:
    """The requests of ``run``; turns of a session come after each other and share what they have in common.

    Raises ServelabError where arrival times are not known.
    """
    q = run.requests
    after = q["after"].to_numpy(int) if "after" in q else np.full(len(q), -1)
    rows = {int(r): i for i, r in enumerate(q["row"])} if "row" in q else {i: i for i in range(len(q))}
    after = np.array([rows.get(int(a), -1) if a >= 0 else -1 for a in after], int)
    arrival = q["arrival_s"].to_numpy(float).copy()
    if np.isnan(arrival).any():
        raise ServelabError(
            f"{run.name}: the measurement holds no arrival times, so it cannot be replayed; vllm bench serve writes "
            "start_times from version 0.10 on with --save-detailed"
        )
    first = after < 0
    order = np.argsort(np.where(first, arrival, -1), kind="stable")
    if (np.diff(arrival[first]) < 0).any():
        if not first.all():
            raise ServelabError(f"{run.name}: sessions must be in order of their first arrival")
        q = q.iloc[order].reset_index(drop=True)
        arrival = arrival[order]
    arrival[after >= 0] = np.nan
    start, stream, tokens = [0], [], []
    shared: list[list[tuple[int, int]]] = []
    prompts, outputs = q["prompt_tokens"].to_numpy(int), q["output_tokens"].to_numpy(int)
    given = q["prefix"].tolist() if "prefix" in q else None
    for i, a in enumerate(after):
        own: list[tuple[int, int]] = [] if given is None else list(given[i])
        if a >= 0 and q["grow"].iloc[i]:
            own = [*shared[a], (OWN_STREAM + int(a), int(prompts[a] + outputs[a] - sum(n for _, n in shared[a])))]
        shared.append(own)
        stream += [s for s, _ in own]
        tokens += [n for _, n in own]
        start.append(len(stream))
    return RequestTable.from_columns(
        arrival,
        prompts,
        outputs,
        segment_start=start,
        segment_stream=stream,
        segment_tokens=tokens,
        after=after,
        wait_s=q["wait_s"].to_numpy(float) if "wait_s" in q else None,
    )


def deployment(profile: Profile, reference: str, engine: dict[str, Any], replicas: int = 1) -> Deployment:
    """The engine of a measured run with the step times of ``profile``, which ``reference`` names (catalog name or
    file)."""
    flags = {name: engine[name] for name in FLAGS if engine.get(name) is not None}
    blocks = engine.get("num_gpu_blocks")
    if blocks:
        flags["num_gpu_blocks_override"] = blocks
    flags |= {name: engine[name] for name in ALSO if engine.get(name)}
    flags["dtype"] = str(flags.get("dtype", profile.dtype)).removeprefix("torch.")
    flags["version"] = str(engine.get("version", profile.engine_version))
    if engine.get("quantization") or profile.quantization[0] != "none":
        flags["quantization"] = engine.get("quantization", profile.quantization[0])
    return Deployment.model_validate(
        {
            "model": engine.get("model", profile.models[0]),
            "gpu": profile.gpu,
            "engine": flags,
            "replicas": replicas,
            "data_parallel_size": engine.get("data_parallel_size", 1),
            "expert_parallel": engine.get("expert_parallel", False),
            "step_time": ProfileStepTime(name=reference),
        }
    )


def replay(profile: Profile, reference: str, run: MeasuredRun, replicas: int = 1) -> Result:
    """Simulate ``run``; with several replicas each request goes to the one with the fewest. Raises ServelabError as
    `simulate`."""
    scenario = Scenario.model_validate(
        {
            "workload": {"source": "azure_conversation", "rate_rps": 1.0, "requests": 1},
            "deployments": [deployment(profile, reference, profile.engine | run.engine, replicas)],
            "router": {"kind": "least_outstanding"},
        }
    )
    scenario._base_dir = Path()
    return simulate(scenario, requests=request_table(run), steps="off")
