"""Replay recorded vLLM schedules through the simulated scheduler, decision by decision.

A recording holds every batch that real vLLM planned on a given workload, as *steps* (one batch in flight,
requests injected before given steps) or as *events* (requests added, batches planned, outputs handed back,
requests aborted, in the order in which it happened). `replay` makes the same calls and compares, batch by
batch: the tokens of each request, the tokens computed before, who was preempted, the free blocks.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simulator.engine.arrays import handle
from simulator.engine.build import POLICIES, config_record, request_records
from simulator.engine.kv_cache import free_blocks
from simulator.engine.outputs import cancel, update
from simulator.engine.queues import push_wait
from simulator.engine.scheduler import schedule
from simulator.engine.state import DECODE, GONE, NEW, NONE, Fleet, allocate
from simulator.errors import ServelabError
from simulator.workload.columns import OWN_STREAM
from simulator.workload.table import RequestTable

FLAGS: dict[str, Any] = dict(
    max_num_active_seqs=None,
    long_prefill_token_threshold=0,
    long_prefill_token_threshold_adaptive=False,
    long_prefill_off_when_alone=True,
    enable_chunked_prefill=True,
    scheduling_policy="fcfs",
    async_scheduling=False,
    scheduler_reserve_full_isl=True,
    watermark=0.0,
    enable_prefix_caching=False,
    max_num_queued_reqs=None,
    max_num_queued_tokens=None,
)


@dataclass
class Replay:
    """What came of one recording: of ``planned`` batches, ``batches`` are identical, then ``difference`` is."""

    name: str
    planned: int = 0
    batches: int = 0
    difference: str = ""
    counts: dict[str, int] = field(default_factory=lambda: {"tokens": 0, "preemptions": 0, "prefix hits": 0})

    @property
    def identical(self) -> bool:
        return not self.difference


def read_recordings(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of each recording in a ``.json`` or ``.jsonl`` file, gzipped or not.

    Raises ServelabError for a missing or unreadable file, or a line that is not a recording.
    """
    if not path.is_file():
        raise ServelabError(f"recording {str(path)!r}: no such file")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as f:
        try:
            if path.name.removesuffix(".gz").endswith(".jsonl"):
                for number, line in enumerate(f, 1):
                    if line.strip():
                        d = json.loads(line)
                        yield f"{path.name}:{d.get('seed', d.get('name', number))}", d
            else:
                yield path.name, json.load(f)
        except (json.JSONDecodeError, gzip.BadGzipFile, UnicodeDecodeError, EOFError) as problem:
            raise ServelabError(f"recording {str(path)!r} is not JSON: {problem}") from problem


def table_of(recording: dict[str, Any]) -> RequestTable:
    """The requests of a recording, in their order; shared prefixes become segments.

    A prefix is a list of [source, tokens], where source is a seed, or the id of a request whose own tokens
    (the rest of its prompt and its outputs) are meant.
    """
    requests = recording["requests"]
    row = {q["id"]: i for i, q in enumerate(requests)}
    start, streams, tokens = [0], [], []
    for q in requests:
        for source, n in q.get("prefix") or []:
            streams.append(OWN_STREAM + row[source] if isinstance(source, str) else int(source))
            tokens.append(int(n))
        start.append(len(streams))
    return RequestTable.from_columns(
        arrival_s=np.arange(len(requests), dtype=float),
        prompt_tokens=np.array([q["prompt_tokens"] for q in requests], np.int32),
        output_tokens=np.array([q["output_tokens"] for q in requests], np.int32),
        max_tokens=np.array([q.get("max_tokens", q["output_tokens"]) for q in requests], np.int32),
        priority=np.array([q.get("priority", 0) for q in requests], np.int32),
        segment_start=np.array(start, np.int64),
        segment_stream=np.array(streams, np.int64),
        segment_tokens=np.array(tokens, np.int32),
    )


def fleet_of(recording: dict[str, Any]) -> Fleet:
    """A simulated replica with the flags, the pool and the requests of a recording."""
    flags = {**FLAGS, **{k: v for k, v in recording["engine"].items() if v is not None}}
    flags |= {"num_gpu_blocks": recording["num_blocks"], "block_size": recording["block_size"]}
    if "events" not in recording:
        flags["async_scheduling"] = False  # recorded one batch at a time
    table = table_of(recording)
    config = config_record(flags, compose=1, named_streams=table.names_own_streams)
    requests, levels = request_records(table, flags["max_model_len"], POLICIES[flags["scheduling_policy"]])
    return allocate(
        config,
        requests,
        1,
        levels=levels,
        segment_stream=table.segment_stream,
        segment_tokens=table.segment_tokens,
        step_params=np.zeros(1),
    )


def composition(F: Fleet, j: int, k: int) -> dict[int, tuple[int, int]]:
    """Request -> (tokens, tokens computed before) of batch ``k``, in the order of the running list.

    Needs ``config.compose``.
    """
    out, s = {}, int(F.replica[j].run_head)
    while s != NONE:
        p = F.slot[j, s]
        if p.planned == k:
            chunk = p.mode != DECODE or p.join == k + 1
            out[int(p.request)] = (int(p.tokens), int(p.computed - p.tokens if chunk else p.computed + k - p.join))
        s = int(p.next)
    return out


class Player:
    """One recording being replayed on one simulated replica."""

    def __init__(self, name: str, recording: dict[str, Any]) -> None:
        planned = [s for s in recording.get("steps", ()) if s] or [
            e for e in recording.get("events", ()) if "schedule" in e
        ]
        self.recording, self.result = recording, Replay(name, len(planned))
        self.fleet = fleet_of(recording)
        self.handle = handle(self.fleet)
        self.ids = [q["id"] for q in recording["requests"]]
        self.row = {q: i for i, q in enumerate(self.ids)}
        self.batches: list[list[str]] = []

    def add(self, r: int) -> None:
        self.fleet.replica[0].started += 1
        push_wait(self.handle, 0, r)

    def plan(self) -> tuple[int, list[str], dict[str, tuple[int, int]]]:
        """Tokens, preempted ids and composition of the next batch."""
        before = self.fleet.requests["preempted"].copy()
        k = int(self.fleet.replica[0].k)
        tokens = int(schedule(self.handle, 0, float(k)))
        gone = np.flatnonzero(self.fleet.requests["preempted"] > before)
        batch = composition(self.fleet, 0, k) if tokens else {}
        return tokens, sorted(self.ids[r] for r in gone), {self.ids[r]: v for r, v in batch.items()}

    def differs(self, what: str, expected: Any, got: Any) -> bool:
        if expected == got:
            return False
        if isinstance(expected, dict) and isinstance(got, dict):
            keys = [q for q in {**expected, **got} if expected.get(q) != got.get(q)]
            expected, got = ({q: d.get(q) for q in keys[:4]} for d in (expected, got))
        self.result.difference = f"batch {self.result.batches}: {what}: vLLM {expected}, simulated {got}"
        return True

    def compare(self, tokens, computed, cached, preempted, free) -> bool:
        """Plan the next batch and compare it with the recorded one; False at the first difference."""
        _, gone, batch = self.plan()
        for _ in range(2):  # where vLLM's empty batches are not recorded, one may have preempted
            if not batch and tokens and not self.recording.get("empty_schedules"):
                _, more, batch = self.plan()
                gone = sorted({*gone, *more}) if preempted else more
        got = {q: n for q, (n, _) in batch.items()}
        new = {q: start for q, (_, start) in batch.items() if cached and q in cached}
        start = {q: start for q, (_, start) in batch.items()} if computed is not None else None
        if (
            self.differs("tokens per request", tokens, got)
            or self.differs("tokens computed before", computed, start)
            or self.differs("tokens found in the prefix cache", cached or {}, new)
            or self.differs("preempted requests", sorted(preempted), gone)
            or self.differs("free blocks", free, int(free_blocks(self.handle, 0)))
        ):
            return False
        self.result.batches += 1
        if tokens:
            self.batches.append(list(got))
        self.result.counts["tokens"] += sum(tokens.values())
        self.result.counts["preemptions"] += len(gone)
        return True

    def finished(self, before: np.ndarray) -> list[str]:
        done = (self.fleet.requests["status"] == GONE) & (before != GONE) & (before != NEW)
        return sorted(self.ids[r] for r in np.flatnonzero(done))

    def run_steps(self) -> None:
        d = self.recording
        ended: dict[str, int] = {}
        pending = sorted(range(len(self.ids)), key=lambda i: d["requests"][i]["step"])
        for number, step in enumerate(d["steps"]):
            while pending and d["requests"][pending[0]]["step"] <= number:
                self.add(pending.pop(0))
            if step is None:
                _, _, batch = self.plan()
                if self.differs("tokens per request", {}, {q: n for q, (n, _) in batch.items()}):
                    return
                continue
            if not self.compare(
                step["scheduled"], None, step.get("cached"), step.get("preempted") or [], step["free_blocks"]
            ):
                return
            before = self.fleet.requests["status"].copy()
            update(self.handle, 0, float(number))
            ended |= dict.fromkeys(self.finished(before), number + 1)
        self.differs("steps at which requests finished", d.get("finished_after_step", ended), ended)

    def run_events(self) -> None:
        depth = self.recording["in_flight"]
        for event in self.recording["events"]:
            c = self.fleet.replica[0]
            if "add" in event:
                for q in event["add"]:
                    self.add(self.row[q])
            elif "abort" in event:
                for q in event["abort"]:
                    if self.fleet.requests[self.row[q]].status != GONE:
                        cancel(self.handle, 0, self.row[q])
            elif "schedule" in event:
                if not self.compare(
                    event["schedule"], event["computed_before"], None, event["preempted"], event["free_blocks"]
                ):
                    return
            else:
                if not self.recording.get("empty_schedules") and c.in_flight < depth and c.running + c.waiting > 0:
                    _, _, batch = self.plan()  # vLLM tried, and planned nothing
                    if self.differs("tokens per request", {}, {q: n for q, (n, _) in batch.items()}):
                        return
                batch = event["update"]
                update(self.handle, 0, float(batch))
                # vLLM's list: all of the batch that are gone by now, stopped with an earlier batch too
                gone = [q for q in self.batches[batch] if self.fleet.requests[self.row[q]].status == GONE]
                if self.differs("requests gone after their batch", event["finished"], sorted(gone)):
                    return

    def run(self) -> Replay:
        with np.errstate(over="ignore"):
            self.run_events() if "events" in self.recording else self.run_steps()
        return self.result


def replay(name: str, recording: dict[str, Any]) -> Replay:
    """Replay one recording; see `Replay`. Raises ServelabError for a recording without the needed fields."""
    missing = [k for k in ("engine", "requests", "num_blocks", "block_size") if k not in recording]
    if missing or not ("steps" in recording or "events" in recording):
        raise ServelabError(f"recording {name!r}: fields {missing or ['steps or events']} are missing")
    return Player(name, recording).run()
