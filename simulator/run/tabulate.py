"""From the state of a finished run to the tables of :mod:`simulator.records.tables`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simulator.cluster.fleets import Fleets
from simulator.cluster.pod_terms import COUNTERS
from simulator.cluster.replicas import Replicas
from simulator.engine.work import weight_bytes
from simulator.records import tables as records
from simulator.records.tables import State
from simulator.run.resolved import Resolved
from simulator.run.surroundings import Surroundings
from simulator.workload import RequestTable

Columns = dict[str, np.ndarray]


def tabulate(
    fleets: Fleets,
    found: Sequence[Resolved],
    table: RequestTable,
    stopped_at: float | None,
    around: Surroundings | None,
) -> tuple[dict[str, Columns], tuple[np.ndarray, np.ndarray]]:
    """All tables of a run by name, and the histogram of inter-token latencies."""
    parts = fleets.parts
    requests = _requests(fleets, table, stopped_at, around)
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
            [
                _fixed_instances(p, i, r, end) if around is None else _instances(around, i, r, end)
                for i, (p, r) in enumerate(zip(parts, found, strict=True))
            ]
        ),
        "events": _stack([_starts(p, i) for i, p in enumerate(parts)]),
    }
    if around is not None:
        tables |= _around_tables(around, end)
    return tables, (np.concatenate([v for v, _ in itl]), np.concatenate([c for _, c in itl]))


def _requests(fleets: Fleets, table: RequestTable, stopped_at: float | None, around: Surroundings | None) -> Columns:
    requests = fleets.parts[0].requests(0)
    for i, part in enumerate(fleets.parts[1:], 1):
        here = part.fleet.requests["replica"] >= 0
        for name, values in part.requests(i).items():
            requests[name][here] = values[here]
    for name in ("max_tokens", "priority", "traffic_class", "tenant", "session"):
        requests[name][:] = getattr(table, name)
    came = requests["replica"] >= 0
    if around is not None:
        _as_clients_saw_it(requests, table, around)
        came = ~np.isnan(around.course.sent_s)
        came &= (requests["state"] > 0) | (requests["replica"] >= 0) | (requests["arrival_s"] <= around.course.now)
        if table.reacts:
            came &= (requests["replica"] >= 0) | (requests["state"] > 0)
    if stopped_at is not None or table.reacts:
        # a request that waits for an answer has come when it was sent, another at its time
        came = came if table.reacts else requests["arrival_s"] <= stopped_at
        requests = {name: values[came] for name, values in requests.items()}
    return requests


def _as_clients_saw_it(requests: Columns, table: RequestTable, around: Surroundings) -> None:
    """Arrival, first token and end where the client is, not where the LLM is."""
    course, network = around.course, around.network
    never = requests["replica"] < 0
    for name in ("llm_arrival_s", "llm_first_token_s", "llm_end_s", "engine_s", "scheduled_s", "first_token_s"):
        requests[name][never] = np.nan
    requests["arrival_s"] = course.sent_s.copy()
    elsewhere = course.state > 0
    requests["state"][elsewhere] = course.state[elsewhere]
    requests["end_s"] = np.where(elsewhere, course.end_s, requests["end_s"])
    if network is None:
        return
    requests["end_s"] = course.end_s.copy()
    requests["state"] = course.state.copy()
    done = course.state == State.COMPLETED
    cached = done & never
    requests["generated_tokens"][cached] = table.output_tokens[cached]
    back = network.way_back_s
    first = requests["llm_first_token_s"] + back if network.streams else requests["end_s"]
    requests["first_token_s"] = np.where(cached, requests["end_s"], first)
    requests["first_token_s"][~done & ~(requests["first_token_s"] <= requests["end_s"])] = np.nan
    if not network.streams:
        requests["first_token_s"][~done] = np.nan


def _around_tables(around: Surroundings, end_s: float) -> dict[str, Columns]:
    tables: dict[str, Columns] = {}
    tables["events"] = _rows("events", ("time_s", "kind", "deployment", "replica", "detail"), around.events)
    log = around.network.log if around.network else []
    names = ("request_id", "stage", "attempt", "queued_s", "start_s", "end_s", "outcome")
    tables["stages"] = _rows("stages", names, log)
    starts = [
        (pod, i, slot, phase, start, min(end, end_s), node)
        for i, pods in enumerate(around.pods)
        for pod, slot, phase, start, end, node in pods.lives.log
        if start <= end_s
    ]
    tables["starts"] = _rows("starts", ("pod", "deployment", "replica", "phase", "start_s", "end_s", "node"), starts)
    supply = around.supply
    if supply is not None:
        supply.settle(end_s)
        tables["nodes"] = _rows(
            "nodes",
            ("node", "pool", "gpu", "gpus", "requested_s", "start_s", "ready_s", "end_s", "used_gpu_s"),
            [
                (
                    n.node.number,
                    n.node.pool,
                    n.node.gpu,
                    n.node.slots,
                    n.requested_s,
                    supply.runs_from_s(n),
                    n.node.ready_s,
                    end_s if n.end_s is None else n.end_s,
                    n.used_s,
                )
                for n in supply.records.values()
                if supply.runs_from_s(n) <= (end_s if n.end_s is None else n.end_s)
            ],
        )
    return tables


def _rows(table: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    out = records.empty(table, len(rows))
    for name, values in zip(names, zip(*rows, strict=True), strict=False):
        out[name][:] = values
    return out


def _stack(tables: list[Columns]) -> Columns:
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]} if len(tables) > 1 else tables[0]


def _work(out: Columns, i: int, r: Resolved, c: Mapping[str, Any]) -> None:
    """What a pod has done, from its counters ``c``, into row ``i``. Ranks work side by side: their busy time is
    averaged."""
    ranks = r.config.data_parallel_size
    out["busy_s"][i] = c["busy"] / ranks
    out["prefill_busy_s"][i] = c["prefill_busy"] / ranks
    w, tokens = r.work, c["prefill_tokens"] + c["decode_tokens"]
    pairs, read = c["pairs"] + c["decode_kv"], c["decode_kv"] + c["prefill_kv"]
    out["flops"][i] = w.flops_per_token * tokens + w.flops_per_pair * pairs + w.flops_per_sample * c["sampled"]
    moved = weight_bytes(w, tokens / c["steps"]) * c["steps"] if c["steps"] else 0.0  # at the mean batch
    out["bytes"][i] = moved + w.kv_bytes_per_token * read
    out["system_s"][i] = c["area"]


def _fixed_instances(part: Replicas, deployment: int, r: Resolved, end_s: float) -> Columns:
    out = _empty_instances(len(part), deployment, r)
    for i in range(len(part)):
        rows = slice(i * part.width, (i + 1) * part.width)
        _work(out, i, r, {name: part.fleet.replica[name][rows].sum() for name in COUNTERS})
    out["replica"][:] = np.arange(len(part))
    out["start_s"][:] = 0.0
    out["end_s"][:] = end_s
    return out


def _instances(around: Surroundings, deployment: int, r: Resolved, end_s: float) -> Columns:
    found = [row for row in around.pods[deployment].lives.instances(end_s) if row[1] <= end_s]
    out = _empty_instances(len(found), deployment, r)
    for i, (life, held_s, to_s, counted) in enumerate(found):
        _work(out, i, r, counted)
        out["replica"][i] = life.slot
        out["start_s"][i] = held_s
        out["end_s"][i] = max(min(to_s, end_s), held_s)
    return out


def _empty_instances(rows: int, deployment: int, r: Resolved) -> Columns:
    out = records.empty("instances", rows)
    out["deployment"][:] = deployment
    out["gpu"][:] = r.gpu.name
    out["gpus"][:] = r.gpus
    return out


def _starts(part: Replicas, deployment: int) -> Columns:
    out = records.empty("events", len(part))
    out["time_s"][:] = 0.0
    out["kind"][:] = "replica_ready"
    out["deployment"][:] = deployment
    out["replica"][:] = np.arange(len(part))
    out["detail"][:] = "there from the start"
    return out
