"""A deployment with everything looked up and checked, and the replicas that it becomes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.catalog import GpuSpec, ModelSpec
from simulator.catalog.profile import Profile
from simulator.cluster.clients import Clients
from simulator.cluster.deployment import Deployment
from simulator.cluster.replicas import Replicas
from simulator.engine.api_server import ApiServerConfig
from simulator.engine.build import POLICIES, config_record, request_records
from simulator.engine.config import EngineConfig, EngineSettings, resolve
from simulator.engine.serving.base import Batching
from simulator.engine.serving.config import engine_for
from simulator.engine.state import CONTINUOUS, KEYED, WHOLE, allocate
from simulator.engine.step_time.base import StepTime
from simulator.engine.step_time.config import build_step_time
from simulator.engine.step_time.profile import ProfileStepTime, build_profiled
from simulator.engine.uncached import StepSeconds
from simulator.engine.work import Work, work
from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.workload import RequestTable

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
    batching: Batching
    profile: Profile | None = None

    @property
    def gpus(self) -> int:
        """GPUs of one pod."""
        return self.settings.gpus * self.config.data_parallel_size


def resolve_deployment(scenario: Scenario, index: int) -> Resolved:
    """Look up and check deployment ``index``. Raises ServelabError naming the deployment."""
    d = scenario.deployments[index]
    try:
        model, gpu = d.model_spec(scenario.base_dir), d.gpu_spec()
        batching = d.serving.batching()
        engine = engine_for(d.serving, d.engine)
        if d.expert_parallel:
            engine = _in_lockstep(d, engine, model)
        settings = resolve(engine, model, gpu)
        if settings.pipeline_parallel_size > 1:
            raise ServelabError(
                f"engine.pipeline_parallel_size={settings.pipeline_parallel_size}: memory is worked out, but batches "
                "moving through pipeline stages are not simulated yet; use 1 and tensor_parallel_size"
            )
        server, profile = d.api_server or ApiServerConfig(), None
        if isinstance(d.step_time, ProfileStepTime):
            time, profile = build_profiled(d.step_time, model, gpu, settings, scenario.base_dir)
            if profile.api_server and d.api_server is None:
                server = ApiServerConfig.model_validate(profile.api_server)
        else:
            time = build_step_time(d.step_time, model, gpu, settings)
        return Resolved(d, model, gpu, settings, time, work(model, settings), server, batching, profile)
    except ServelabError as problem:
        raise ServelabError(f"deployments.{index} ({d.name}): {problem}") from None


def _in_lockstep(d: Deployment, engine: EngineConfig, model: ModelSpec) -> EngineConfig:
    """The engine of a rank that steps together with the others of its pod."""
    if d.data_parallel_size == 1 or not model.moe_layers or d.serving.kind != "continuous":
        raise ServelabError(
            f"expert_parallel needs data_parallel_size above 1, a model with experts and continuous serving; got "
            f"{d.data_parallel_size}, {model.name} with {model.moe_layers} MoE layers, {d.serving.kind}"
        )
    if engine.async_scheduling:
        raise ServelabError(
            "engine.async_scheduling=True: ranks in lockstep are simulated with synchronous scheduling only"
        )
    return engine.model_copy(update={"async_scheduling": False})


def build_replicas(
    scenario: Scenario,
    r: Resolved,
    table: RequestTable,
    steps: Steps,
    pods: int,
    watch_all: bool,
    step_seconds: StepSeconds | None,
    queue_key: QueueKey | None,
) -> Replicas:
    """The replicas of one deployment, ``pods`` pods of them, idle at time 0; ``watch_all``: all ends are told."""
    flags, server, timeout = r.settings.flags(), r.api_server, scenario.client.timeout_s
    keys = None
    policy = POLICIES[flags["scheduling_policy"]]
    if queue_key is not None:
        keys = np.asarray(queue_key(table.arrival_s, table.prompt_tokens, table.max_tokens, table.priority), float)
        if keys.shape != (len(table),) or np.isnan(keys).any():
            raise ServelabError(f"queue_key must give {len(table)} numbers, got an array of shape {keys.shape}")
        policy = KEYED
    rows, levels = request_records(table, r.settings.max_model_len, policy, keys)
    rows["watched"] = True if watch_all else Clients.watched(table)
    if timeout is not None:
        rows["deadline"] = table.arrival_s + timeout
    _check_pool(rows, r.settings, whole=r.batching.code != CONTINUOUS)
    b = r.batching
    config = config_record(
        flags,
        policy=policy,
        host=r.step_time.host_s,
        time_factor=r.config.step_time_factor,
        step_code=r.step_time.code,
        timeouts=timeout is not None,
        sample_steps=SAMPLE_EVERY[steps],
        front_base=server.base_s,
        front_token=server.prompt_token_s,
        fronts=server.processes,
        named_streams=table.names_own_streams,
        batching=b.code,
        delay=b.delay_s,
        from_idle=b.from_idle,
        visible=b.visible,
        max_pending=b.max_pending,
        queue_timeout=b.queue_timeout_s,
        share=b.instances,
        lockstep=r.config.data_parallel_size if r.config.expert_parallel else 1,
    )
    if b.code == WHOLE:
        config["budget"][0] = r.settings.max_num_seqs * r.settings.max_model_len
    last = float(np.nanmax(table.arrival_s)) if len(table) else 0.0
    config["timeline"][0] = max(1.0, np.ceil(last / 100_000))
    return Replicas(
        allocate(
            config,
            rows,
            pods * b.instances * r.config.data_parallel_size,
            levels=levels,
            segment_stream=table.segment_stream,
            segment_tokens=table.segment_tokens,
            step_params=r.step_time.params,
            step_rows=STEP_ROWS if steps != "off" else 0,
            windows=int(last / config["timeline"][0]) + 16,
            sizes=b.sizes,
        ),
        step_seconds,
        r.config.name,
        b.instances * r.config.data_parallel_size,
    )


def _check_pool(rows: np.ndarray, settings: EngineSettings, whole: bool) -> None:
    """No request may need more blocks than the pool has, or it would wait for ever; ``whole``: reserved for
    max_tokens."""
    output = rows["cap" if whole else "length"].astype(np.int64)
    need = -((-(rows["prompt"] + output - (0 if whole else 1))) // settings.block_size)
    if len(need) and need.max() > settings.num_gpu_blocks - 1:
        row = int(need.argmax())
        raise ServelabError(
            f"the KV pool of {settings.num_gpu_blocks - 1} blocks is too small for request {row}: "
            f"{rows['prompt'][row]} prompt and {output[row]} output tokens need {need[row]} blocks of "
            f"{settings.block_size}; raise gpu_memory_utilization or tensor_parallel_size, or lower max_model_len"
        )
