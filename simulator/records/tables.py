"""The tables a simulation emits: the one contract between simulating and judging.

Every column has a name that carries its unit, a dtype, a unit and a meaning. Times are seconds of
simulated time since the start of the workload; NaN means that the moment never came.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class State(IntEnum):
    """How a request ended. ``IN_FLIGHT`` appears only in a partial result."""

    IN_FLIGHT = 0
    COMPLETED = 1
    REJECTED = 2
    TIMED_OUT = 3
    FAILED = 4
    CANCELLED = 5


@dataclass(frozen=True)
class Column:
    name: str
    dtype: str
    unit: str
    meaning: str


REQUESTS = (
    Column("request_id", "i8", "", "row of the workload"),
    Column("deployment", "i2", "", "index into the scenario's deployments; -1: never routed"),
    Column("replica", "i4", "", "replica of the deployment; -1: never routed"),
    Column("state", "i1", "", "how the request ended, a records.State"),
    Column("arrival_s", "f8", "s", "when the client sent it"),
    Column(
        "llm_arrival_s", "f8", "s", "when the gateway sent it to its replica: arrival_s without stages before the LLM"
    ),
    Column("engine_s", "f8", "s", "when the API server handed it to the engine core"),
    Column("scheduled_s", "f8", "s", "when it was first part of a scheduled batch"),
    Column("llm_first_token_s", "f8", "s", "when the LLM produced its first output token"),
    Column("llm_end_s", "f8", "s", "when the LLM was done with it, in whatever state"),
    Column("first_token_s", "f8", "s", "when its client got the first output token"),
    Column("end_s", "f8", "s", "when it ended for its client, in whatever state"),
    Column("prompt_tokens", "i4", "token", "length of the prompt"),
    Column("generated_tokens", "i4", "token", "output tokens produced"),
    Column("max_tokens", "i4", "token", "the limit the client asked for"),
    Column("priority", "i4", "", "lower is served first under scheduling_policy=priority"),
    Column("cached_tokens", "i4", "token", "prompt tokens found in the prefix cache at first admission"),
    Column("preemptions", "i4", "", "times it was preempted and recomputed"),
    Column("traffic_class", "i2", "", "index into the workload's classes of traffic"),
    Column("tenant", "i4", "", "index into the workload's tenants"),
    Column("session", "i4", "", "requests of one conversation or agent have the same number; -1: none"),
)

STEPS = (
    Column("deployment", "i2", "", "index into the scenario's deployments"),
    Column("replica", "i4", "", "replica of the deployment"),
    Column("step", "i8", "", "number of the batch on its replica"),
    Column("scheduled_s", "f8", "s", "when the batch was planned"),
    Column("start_s", "f8", "s", "when the GPU began it"),
    Column("end_s", "f8", "s", "when its outputs were there"),
    Column("prefill_tokens", "i8", "token", "tokens of sequences in prefill"),
    Column("prefill_seqs", "i8", "", "sequences in prefill"),
    Column("decode_seqs", "i8", "", "sequences that decode one token"),
    Column("decode_kv", "i8", "token", "KV tokens read by the decoding sequences"),
    Column("prefill_pairs", "f8", "", "query-key pairs of the prefill chunks"),
    Column("running", "i8", "", "requests running after scheduling"),
    Column("waiting", "i8", "", "requests waiting after scheduling"),
    Column("used_blocks", "i8", "block", "KV blocks that requests hold after scheduling"),
    Column("preempted", "i8", "", "requests preempted by this scheduling"),
)

TIMELINE = (
    Column("window_s", "f8", "s", "start of the window"),
    Column("deployment", "i2", "", "index into the scenario's deployments"),
    Column("replica", "i4", "", "replica of the deployment"),
    Column("busy_s", "f8", "s", "time the GPU worked, of steps that ended in the window"),
    Column("steps", "i8", "", "batches that ended in the window"),
    Column("prefill_tokens", "i8", "token", "prompt tokens computed"),
    Column("decode_tokens", "i8", "token", "tokens decoded"),
    Column("running_mean", "f8", "", "mean running requests over the batches"),
    Column("waiting_mean", "f8", "", "mean waiting requests over the batches"),
    Column("kv_mean", "f8", "ratio", "mean share of KV blocks held"),
    Column("preempted", "i8", "", "preemptions"),
)

INSTANCES = (
    Column("deployment", "i2", "", "index into the scenario's deployments"),
    Column(
        "replica", "i4", "", "place among the deployment's replicas; pods that follow each other in it have a row each"
    ),
    Column("gpu", "U", "", "catalog name of the GPU"),
    Column("gpus", "i4", "", "GPUs of the replica: tensor x pipeline parallel"),
    Column("start_s", "f8", "s", "billing starts"),
    Column("end_s", "f8", "s", "billing ends"),
    Column("busy_s", "f8", "s", "time its GPUs worked"),
    Column("prefill_busy_s", "f8", "s", "share of busy_s due to prefill, by tokens-weighted step time"),
    Column("flops", "f8", "FLOP", "model arithmetic done (all GPUs of the replica)"),
    Column("bytes", "f8", "B", "weights and KV bytes moved (all GPUs of the replica)"),
    Column("system_s", "f8", "s", "integral over time of requests in the engine (for Little's law)"),
)

EVENTS = (
    Column("time_s", "f8", "s", "when"),
    Column("kind", "U", "", "what happened"),
    Column("deployment", "i2", "", "index into the scenario's deployments"),
    Column("replica", "i4", "", "replica of the deployment"),
    Column("detail", "U", "", "in words"),
)

INTERRUPTIONS = (
    Column("request_id", "i8", "", "row of the workload"),
    Column("from_s", "f8", "s", "its last token before it was preempted, or left out of a batch"),
    Column("to_s", "f8", "s", "its next token; with all batches logged only"),
)

STAGES = (
    Column("request_id", "i8", "", "row of the workload"),
    Column("stage", "i2", "", "index into the path's stages"),
    Column("attempt", "i2", "", "0: the first"),
    Column("queued_s", "f8", "s", "when it reached the stage"),
    Column("start_s", "f8", "s", "when its service began"),
    Column("end_s", "f8", "s", "when the attempt was over"),
    Column("outcome", "i1", "", "0 done, 1 failed, 2 timed out, 3 done with a hit in the cache"),
)

STARTS = (
    Column("pod", "i4", "", "number of the pod, in order of being wanted"),
    Column("deployment", "i2", "", "index into the scenario's deployments"),
    Column("replica", "i4", "", "place of the pod among the deployment's replicas"),
    Column("phase", "U", "", "phase of its cold start"),
    Column("start_s", "f8", "s", "when the phase began"),
    Column("end_s", "f8", "s", "when it was over"),
    Column("node", "i4", "", "node; -1: an instance of its own, or none yet"),
)

NODES = (
    Column("node", "i4", "", "number of the node"),
    Column("pool", "U", "", "its pool"),
    Column("gpu", "U", "", "catalog name of its GPUs"),
    Column("gpus", "i4", "", "GPUs, or slices"),
    Column("requested_s", "f8", "s", "when it was asked for"),
    Column("start_s", "f8", "s", "when the machine ran: billing starts"),
    Column("ready_s", "f8", "s", "when its GPUs could be used"),
    Column("end_s", "f8", "s", "when it was given back, or the run ended"),
    Column("used_gpu_s", "f8", "s", "GPU-seconds that pods held of it"),
)

TABLES = {
    "requests": REQUESTS,
    "steps": STEPS,
    "interruptions": INTERRUPTIONS,
    "timeline": TIMELINE,
    "instances": INSTANCES,
    "events": EVENTS,
    "stages": STAGES,
    "starts": STARTS,
    "nodes": NODES,
}


def empty(table: str, rows: int) -> dict[str, np.ndarray]:
    """Columns of ``table`` with ``rows`` rows of zeros (NaN for floats).

    >>> empty("requests", 2)["end_s"]
    array([nan, nan])
    """
    out = {}
    for c in TABLES[table]:
        if c.dtype == "U":
            out[c.name] = np.full(rows, "", dtype=object)
        elif c.dtype == "f8":
            out[c.name] = np.full(rows, np.nan)
        else:
            out[c.name] = np.zeros(rows, dtype=c.dtype)
    return out
