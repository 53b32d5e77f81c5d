"""simulate(scenario, seed) -> Result: the only place that makes an environment and a seed sequence."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from simulator import records
from simulator.catalog import GpuSpec, ModelSpec
from simulator.catalog.profile import Profile
from simulator.cluster.clients import Clients
from simulator.cluster.replicas import Replicas
from simulator.cluster.router import make_router
from simulator.cluster.run import Fleets, Progress, run_requests
from simulator.engine.api_server import ApiServerConfig
from simulator.engine.build import POLICIES, config_record, request_records
from simulator.engine.config import EngineSettings, resolve
from simulator.engine.profiled import ProfileStepTime, build_profiled, outside, worst
from simulator.engine.state import KEYED, allocate
from simulator.engine.step_time import StepTime, Work, build_step_time, work
from simulator.engine.uncached import StepSeconds
from simulator.errors import ServelabError
from simulator.result import Result
from simulator.scenario import Deployment, Scenario
from simulator.seeds import named_rng, named_seed
from simulator.workload import RequestTable, generate
from simulator.workload.rows import noted

Steps = Literal["off", "sampled", "full"]
QueueKey = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

SAMPLE_EVERY = {"off": 0, "sampled": 64, "full": 1}
STEP_ROWS = 200_000  # rows logged between two looks at the log


@dataclass(frozen=True)
class Resolved:
    """One deployment with everything looked up and checked."""

    config: Deployment
    model: ModelSpec
    gpu: GpuSpec
    settings: EngineSettings
    step_time: StepTime
    work: Work
    api_server: ApiServerConfig
    profile: Profile | None = None


def resolve_deployment(scenario: Scenario, index: int) -> Resolved:
    """Look up and check deployment ``index``. Raises ServelabError naming the deployment."""
    d = scenario.deployments[index]
    try:
        model, gpu = d.model_spec(scenario.base_dir), d.gpu_spec()
        settings = resolve(d.engine, model, gpu)
        if settings.pipeline_parallel_size > 1:
            raise ServelabError(
                f"engine.pipeline_parallel_size={settings.pipeline_parallel_size}: memory is worked out, but batches "
                "moving through pipeline stages are not simulated yet; use 1 and tensor_parallel_size"
            )
        server, profile = d.api_server, None
        if isinstance(d.step_time, ProfileStepTime):
            time, profile = build_profiled(d.step_time, model, gpu, settings, scenario.base_dir)
            if profile.api_server and "api_server" not in d.model_fields_set:
                server = ApiServerConfig.model_validate(profile.api_server)
        else:
            time = build_step_time(d.step_time, model, gpu, settings)
        return Resolved(d, model, gpu, settings, time, work(model, settings), server, profile)
    except ServelabError as problem:
        raise ServelabError(f"deployments.{index} ({d.name}): {problem}") from None


def simulate(
    scenario: Scenario,
    seed: int = 0,
    *,
    steps: Steps = "off",
    method: Literal["auto", "compiled", "simpy"] = "auto",
    progress: Progress = lambda time_s, arrived: None,
    step_seconds: StepSeconds | None = None,
    queue_key: QueueKey | None = None,
    requests: RequestTable | None = None,
) -> Result:
    """Run ``scenario`` once.

    Args:
        seed: of all random draws; the same scenario, seed and version give the same bytes.
        steps: whether batches are logged: ``off``, ``sampled`` (one in 64) or ``full``.
        method: ``compiled`` is one pass over the trace, for routers that do not look at the replicas;
            ``simpy`` routes request by request; ``auto`` chooses. Both give the same records.
        progress: called now and then with the simulated time [s] and the requests that have arrived.
        step_seconds: your own step time [s], in place of the scenario's; runs uncompiled, and the result says so.
            See `simulator.engine.uncached.python_loop` for its arguments.
        queue_key: your own order of waiting: ``queue_key(arrival_s, prompt_tokens, max_tokens, priority)`` gives a
            number for each request, the smallest is served first. Preemption stays that of fcfs.
        requests: a table to serve instead of the scenario's workload.

    After Ctrl-C the result holds what was reached: ``result.partial`` is true and requests still in the system
    are in flight. Raises ServelabError for a scenario that cannot be simulated.
    """
    root = np.random.SeedSequence(seed)
    found = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
    table, said = (requests, []) if requests is not None else _workload(scenario, root)
    fleets = Fleets([_replicas(scenario, r, table, steps, step_seconds, queue_key) for r in found])
    router = make_router(scenario.router, len(fleets), named_rng(root, "router"))
    timeout = scenario.client.timeout_s
    used, stopped_at = run_requests(
        fleets, router, table, np.inf if timeout is None else timeout, method, progress
    )
    tables, itl = _tables(fleets, found, table, stopped_at)
    unsent = 0 if stopped_at is not None else len(table) - len(tables["requests"]["state"])
    meta = {
        "scenario": scenario.to_mapping(), "seed": seed, "version": _version(), "method": used, "steps": steps,
        "partial": stopped_at is not None, "slo": scenario.slo.model_dump(), "prices": scenario.prices.model_dump(),
        "notes": [*said, *_notes(found, step_seconds, queue_key, stopped_at, unsent),
                  *(n for r, p in zip(found, fleets.parts, strict=True) for n in _stretched(r, p, table, step_seconds))],
        "traffic_classes": _classes(scenario, table), "tenants": list(table.tenants),
        "deployments": [_facts(r, step_seconds) for r in found],
    }  # fmt: skip
    return Result.from_columns(meta, tables, *itl)


def _workload(scenario: Scenario, root: np.random.SeedSequence) -> tuple[RequestTable, list[str]]:
    """The requests, and what reading them gave to say."""
    with noted() as said:
        table = generate(scenario.workload, named_seed(root, "workload"), scenario.base_dir)
    return table, said


def _classes(scenario: Scenario, table: RequestTable) -> list[dict[str, Any]]:
    """The classes of traffic, each with its own SLO or None."""
    own = {c.name: c.slo for c in getattr(scenario.workload, "classes", ()) if c.slo is not None}
    return [{"name": name, "slo": own[name].model_dump() if name in own else None} for name in table.classes]


def _replicas(
    scenario: Scenario, r: Resolved, table: RequestTable, steps: Steps,
    step_seconds: StepSeconds | None, queue_key: QueueKey | None,
) -> Replicas:  # fmt: skip
    """The replicas of one deployment, idle at time 0."""
    flags, server, timeout = r.settings.flags(), r.api_server, scenario.client.timeout_s
    keys = None
    policy = POLICIES[flags["scheduling_policy"]]
    if queue_key is not None:
        keys = np.asarray(
            queue_key(table.arrival_s, table.prompt_tokens, table.max_tokens, table.priority), float
        )
        if keys.shape != (len(table),) or np.isnan(keys).any():
            raise ServelabError(
                f"queue_key must give {len(table)} numbers, got an array of shape {keys.shape}"
            )
        policy = KEYED
    rows, levels = request_records(table, r.settings.max_model_len, policy, keys)
    rows["watched"] = Clients.watched(table)
    if timeout is not None:
        rows["deadline"] = table.arrival_s + timeout
    _check_pool(rows, r.settings)
    config = config_record(
        flags, policy=policy, host=r.step_time.host_s, step_code=r.step_time.code, timeouts=timeout is not None,
        sample_steps=SAMPLE_EVERY[steps], front_base=server.base_s, front_token=server.prompt_token_s,
        fronts=server.processes, named_streams=table.names_own_streams,
    )  # fmt: skip
    last = float(np.nanmax(table.arrival_s)) if len(table) else 0.0
    config["timeline"][0] = max(1.0, np.ceil(last / 100_000))
    return Replicas(
        allocate(
            config, rows, r.config.replicas, levels=levels, segment_stream=table.segment_stream,
            segment_tokens=table.segment_tokens, step_params=r.step_time.params,
            step_rows=STEP_ROWS if steps != "off" else 0, windows=int(last / config["timeline"][0]) + 16,
        ),
        step_seconds,
    )  # fmt: skip


def _check_pool(rows: np.ndarray, settings: EngineSettings) -> None:
    """No request may need more blocks than the pool has, or it would wait for ever."""
    need = -((-(rows["prompt"].astype(np.int64) + rows["length"] - 1)) // settings.block_size)
    if len(need) and need.max() > settings.num_gpu_blocks - 1:
        row = int(need.argmax())
        raise ServelabError(
            f"the KV pool of {settings.num_gpu_blocks - 1} blocks is too small for request {row}: {rows['prompt'][row]} "
            f"prompt and {rows['length'][row]} output tokens need {need[row]} blocks of {settings.block_size}; "
            "raise gpu_memory_utilization or tensor_parallel_size, or lower max_model_len"
        )


def _tables(
    fleets: Fleets, found: list[Resolved], table: RequestTable, stopped_at: float | None
) -> tuple[dict[str, dict[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]:
    parts = fleets.parts
    requests = parts[0].requests(0)
    for i, part in enumerate(parts[1:], 1):
        here = part.fleet.requests["replica"] >= 0
        for name, values in part.requests(i).items():
            requests[name][here] = values[here]
    for name in ("max_tokens", "priority", "traffic_class", "tenant", "session"):
        requests[name][:] = getattr(table, name)
    if stopped_at is not None or table.reacts:
        # a request that waits for an answer has come when it was sent, another at its time
        came = requests["replica"] >= 0 if table.reacts else requests["arrival_s"] <= stopped_at
        requests = {name: values[came] for name, values in requests.items()}
    ends = [requests["end_s"], requests["arrival_s"]]
    end = max((float(np.nanmax(e)) for e in ends if len(e) and not np.isnan(e).all()), default=0.0)
    end = end if stopped_at is None else stopped_at
    itl = [part.itl() for part in parts]
    tables = {
        "requests": requests,
        "steps": _stack([p.steps(i) for i, p in enumerate(parts)]),
        "interruptions": _stack([p.interruptions() for p in parts]),
        "timeline": _stack([p.timeline(i) for i, p in enumerate(parts)]),
        "instances": _stack(
            [_instances(p, i, r, end) for i, (p, r) in enumerate(zip(parts, found, strict=True))]
        ),
        "events": _stack([_starts(p, i) for i, p in enumerate(parts)]),
    }
    return tables, (np.concatenate([v for v, _ in itl]), np.concatenate([c for _, c in itl]))


def _stack(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return (
        {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
        if len(tables) > 1
        else tables[0]
    )


def _instances(part: Replicas, deployment: int, r: Resolved, end_s: float) -> dict[str, np.ndarray]:
    c = part.fleet.replica
    out = records.empty("instances", len(part))
    out["deployment"][:] = deployment
    out["replica"][:] = np.arange(len(part))
    out["gpu"][:] = r.gpu.name
    out["gpus"][:] = r.settings.gpus
    out["start_s"][:] = 0.0
    out["end_s"][:] = end_s
    out["busy_s"][:] = c["busy"]
    out["prefill_busy_s"][:] = c["prefill_busy"]
    w, tokens = r.work, c["prefill_tokens"] + c["decode_tokens"]
    pairs, read = c["pairs"] + c["decode_kv"], c["decode_kv"] + c["prefill_kv"]
    out["flops"][:] = (
        w.flops_per_token * tokens + w.flops_per_pair * pairs + w.flops_per_sample * c["sampled"]
    )
    out["bytes"][:] = w.weight_bytes_per_step * c["steps"] + w.kv_bytes_per_token * read
    out["system_s"][:] = c["area"]
    return out


def _starts(part: Replicas, deployment: int) -> dict[str, np.ndarray]:
    out = records.empty("events", len(part))
    out["time_s"][:] = 0.0
    out["kind"][:] = "replica_ready"
    out["deployment"][:] = deployment
    out["replica"][:] = np.arange(len(part))
    out["detail"][:] = "there from the start"
    return out


def _facts(r: Resolved, step_seconds: StepSeconds | None) -> dict[str, Any]:
    """What a result must say of a deployment: what its figures rest on."""
    step = r.step_time
    return {
        "name": r.config.name, "model": r.model.name, "gpu": r.gpu.name, "replicas": r.config.replicas,
        "gpus_per_replica": r.settings.gpus, "num_gpu_blocks": r.settings.num_gpu_blocks,
        "step_time": "your own function" if step_seconds else step.kind,
        "trust": "user" if step_seconds else step.trust, "source": "given in code" if step_seconds else step.source,
        "engine": {k: list(v) if isinstance(v, tuple) else v for k, v in r.settings.flags().items()},
        "peak_flops": r.gpu.flops(8 if r.settings.quantization == "fp8" else 16), "peak_bytes_per_s": r.gpu.memory_bandwidth_bytes_per_s,
    }  # fmt: skip


def _notes(
    found: list[Resolved],
    step_seconds: StepSeconds | None,
    queue_key: QueueKey | None,
    stopped_at: float | None,
    unsent: int,
) -> list[str]:
    notes = []
    if unsent:
        notes.append(
            f"{unsent:,} requests of the workload were not sent: the time was over, or their session broke off"
        )
    if stopped_at is not None:
        notes.append(f"partial: stopped at {stopped_at:.3f} s of simulated time")
    if step_seconds is not None:
        notes.append("step times come from your own function: the loop ran uncompiled, expect it to be slow")
    if queue_key is not None:
        notes.append("waiting requests were ordered by your own key, which no vLLM does")
    for r in found:
        if r.step_time.trust == "roofline" and step_seconds is None:
            notes.append(
                f"{r.config.name}: step times are a roofline estimate ({r.step_time.source}), not measured on this GPU"
            )
        if r.api_server.base_s == 0 and r.api_server.prompt_token_s == 0:
            notes.append(f"{r.config.name}: the API server takes no time, no measurement of it was given")
    return notes


def _stretched(
    r: Resolved, part: Replicas, table: RequestTable, step_seconds: StepSeconds | None
) -> list[str]:
    """Where a profile was used beyond what it was measured on."""
    if r.profile is None or step_seconds is not None:
        return []
    c = part.fleet.replica
    longest = (table.prompt_tokens.astype(int) + table.output_tokens).max(initial=0)
    reached = {"decode_seqs": c["most_decodes"].max(), "prefill_tokens": c["most_prefill"].max(),
               "decode_kv": c["most_kv"].max(), "context": longest}  # fmt: skip
    notes = [*r.step_time.notes, *outside(r.profile, reached)]
    found = worst(r.profile)
    notes.append(
        f"profile {r.profile.name}: "
        + (f"largest held-out error {found}" if found else "its error is not known")
    )
    return [f"{r.config.name}: {note}" for note in notes]


def _version() -> str:
    try:
        return version("servelab")
    except PackageNotFoundError:
        return "unknown"
