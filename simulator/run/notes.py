"""What a result must say of itself: facts of each deployment, and notes."""

from typing import Any

from simulator.cluster.replicas import Replicas
from simulator.engine.step_time.profile import outside, worst
from simulator.engine.uncached import StepSeconds
from simulator.run.resolved import QueueKey, Resolved
from simulator.scenario import Scenario
from simulator.topology.path import PresetConfig
from simulator.workload import RequestTable


def facts(r: Resolved, step_seconds: StepSeconds | None) -> dict[str, Any]:
    """What a result must say of a deployment: what its figures rest on."""
    step = r.step_time
    return {
        "name": r.config.name,
        "model": r.model.name,
        "gpu": r.gpu.name,
        "replicas": r.config.replicas,
        "gpus_per_replica": r.gpus,
        "num_gpu_blocks": r.settings.num_gpu_blocks,
        "step_time": "your own function" if step_seconds else step.kind,
        "trust": "user" if step_seconds else step.trust,
        "source": "given in code" if step_seconds else step.source,
        "engine": {k: list(v) if isinstance(v, tuple) else v for k, v in r.settings.flags().items()},
        "peak_flops": r.gpu.flops(8 if r.settings.quantization == "fp8" else 16),
        "peak_bytes_per_s": r.gpu.memory_bandwidth_bytes_per_s,
    }


def notes_of(
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
        if r.config.step_time_factor != 1:
            notes.append(f"{r.config.name}: step times are multiplied by {r.config.step_time_factor:g}")
        if r.step_time.trust == "roofline" and step_seconds is None:
            notes.append(
                f"{r.config.name}: step times are a roofline estimate ({r.step_time.source}), not measured on this GPU"
            )
        if r.api_server.base_s == 0 and r.api_server.prompt_token_s == 0:
            notes.append(f"{r.config.name}: the API server takes no time, no measurement of it was given")
    return notes


def stretched(r: Resolved, part: Replicas, table: RequestTable, step_seconds: StepSeconds | None) -> list[str]:
    """Where a profile was used beyond what it was measured on."""
    if r.profile is None or step_seconds is not None:
        return []
    c = part.fleet.replica
    longest = (table.prompt_tokens.astype(int) + table.output_tokens).max(initial=0)
    reached = {
        "decode_seqs": c["most_decodes"].max(),
        "prefill_tokens": c["most_prefill"].max(),
        "decode_kv": c["most_kv"].max(),
        "context": longest,
    }
    notes = [*r.step_time.notes, *outside(r.profile, reached)]
    found = worst(r.profile)
    notes.append(
        f"profile {r.profile.name}: " + (f"largest held-out error {found}" if found else "its error is not known")
    )
    return [f"{r.config.name}: {note}" for note in notes]


def assumed(scenario: Scenario) -> list[str]:
    """What of the platform has no measurement behind it."""
    notes = []
    if isinstance(scenario.path, str | PresetConfig):
        notes.append(
            "service times of the preset's stages are assumptions (data/stages.csv); sidecars and the endpoint picker "
            "are set to measured figures (data/platform.csv)"
        )
    if any(d.expert_parallel for d in scenario.deployments):
        notes.append(
            "expert_parallel: ranks step together, but spread experts and the exchange between ranks are not in the "
            "step time"
        )
    named = [d.reclaim for d in scenario.deployments] + [
        p.reclaim for p in (scenario.nodes.pools if scenario.nodes else ())
    ]
    if scenario.prices.spot and not any(named):
        notes.append("spot machines have their price here and are never taken back: say how often with reclaim")
    if any(named) and not scenario.prices.spot:
        notes.append("reclaim has no effect: prices.purchase buys no spot machines")
    if scenario.moves:
        notes.append(
            "cold starts: image, extraction, engine start and compilation are published figures; schedule, node, "
            "driver, container and storage bandwidth are assumptions unless you set them (data/platform.csv)"
        )
    return notes
