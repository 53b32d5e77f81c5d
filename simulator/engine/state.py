"""The state of a fleet of identical replicas: a few structured arrays that numba compiles over.

A *slot* is a place among a replica's running requests (at most ``max_num_seqs``). A running request is in
one of two modes:

* ``PREFILL``: its next tokens are planned one by one (a chunk of the prompt, a recomputation, or a decode
  that was left out of a batch);
* ``DECODE``: it is part of every batch from number ``join`` on, one token each, and its last token comes
  with batch ``final``. Nothing is written per token: its computed tokens before batch k are
  ``computed + (k - join)``. So a batch of n decoding requests costs the same as a batch of one.

Invariant: a slot in DECODE is linked in ``calendar[final & mask]`` and counted in
``phase[(join - computed) % block_size]``, the class of requests that need a new block in the same batch.
"""

from typing import Any, NamedTuple

import numpy as np

# engine status of a request
NEW, FRONT, WAITING, RUNNING, GONE = 0, 1, 2, 3, 4
# mode of a slot
FREE, PREFILL, DECODE = 0, 1, 2
# what a replica does next: plan a batch, or wait for the oldest one in flight
PLAN, WAIT = 0, 1
FCFS, PRIORITY, KEYED = 0, 1, 2
# who joins a batch: anybody at any step; the same with the whole sequence reserved; nobody until it has ended
CONTINUOUS, RESERVED, WHOLE = 0, 1, 2
NONE = -1

REQUEST = np.dtype(
    [
        ("arrival", "f8"), ("ready", "f8"), ("scheduled", "f8"), ("first", "f8"), ("end", "f8"),
        ("last", "f8"), ("deadline", "f8"), ("key", "f8"), ("stale", "i8"), ("extra", "i8"),
        ("segment", "i8"), ("segments", "i4"),
        ("prompt", "i4"), ("length", "i4"), ("cap", "i4"), ("out", "i4"), ("level", "i4"),
        ("cached", "i4"), ("preempted", "i4"), ("slot", "i4"), ("next", "i4"), ("prev", "i4"),
        ("follow", "i4"), ("abort_next", "i4"), ("replica", "i4"), ("state", "i1"), ("status", "i1"),
        ("in_prefill", "i1"),
        ("watched", "i1"),
    ],
    align=True,
)  # fmt: skip

SLOT = np.dtype(
    [
        ("join", "i8"), ("final", "i8"), ("sequence", "i8"), ("planned", "i8"), ("flown", "i8"), ("skipped", "i8"),
        ("hash", "u8"), ("own", "i8"),
        ("request", "i4"), ("computed", "i4"), ("target", "i4"), ("tokens", "i4"), ("blocks", "i4"),
        ("hashed", "i4"), ("named", "i4"), ("next", "i4"), ("prev", "i4"), ("cal_next", "i4"), ("cal_prev", "i4"),
        ("phase_next", "i4"), ("phase_prev", "i4"), ("mode", "i1"), ("capped", "i1"), ("decode", "i1"),
    ],
    align=True,
)  # fmt: skip

BLOCK = np.dtype(
    [("hash", "u8"), ("holders", "i4"), ("bucket_next", "i4"), ("older", "i4"), ("newer", "i4")], align=True
)

BATCH = np.dtype(
    [
        ("scheduled", "f8"), ("start", "f8"), ("end", "f8"), ("gpu", "f8"), ("pairs", "f8"), ("k", "i8"),
        ("decodes", "i8"), ("regular", "i8"), ("decode_kv", "i8"), ("prefill_tokens", "i8"),
        ("prefill_seqs", "i8"), ("prefill_kv", "i8"), ("sampled", "i8"), ("entries", "i8"), ("extras", "i8"),
        ("preempted", "i8"), ("running", "i8"), ("waiting", "i8"), ("used", "i8"),
    ],
    align=True,
)  # fmt: skip

REPLICA = np.dtype(
    [
        ("decision", "f8"), ("updated_at", "f8"), ("gpu_free", "f8"), ("area", "f8"), ("area_at", "f8"),
        ("busy", "f8"), ("prefill_busy", "f8"), ("pairs", "f8"), ("k", "i8"), ("updated", "i8"),
        ("hashed_k", "i8"), ("sequence", "i8"), ("steps", "i8"), ("prefill_tokens", "i8"),
        ("decode_tokens", "i8"), ("decode_kv", "i8"), ("prefill_kv", "i8"), ("sampled", "i8"),
        ("context", "i8"), ("preemptions", "i8"), ("queued_tokens", "i8"), ("hit_tokens", "i8"), ("reserved", "i8"),
        ("padded", "i8"), ("wave", "f8"), ("wave_end", "f8"),
        ("lookup_tokens", "i8"), ("started", "i8"), ("unfinished", "i8"),
        ("most_decodes", "i8"), ("most_prefill", "i8"), ("most_kv", "i8"),
        ("running", "i4"), ("decoding", "i4"), ("prefilling", "i4"), ("waiting", "i4"), ("run_head", "i4"),
        ("run_tail", "i4"), ("in_flight", "i4"), ("front_head", "i4"), ("front_tail", "i4"),
        ("order_head", "i4"), ("order_tail", "i4"), ("abort_head", "i4"), ("free_slots", "i4"),
        ("unhashed", "i4"), ("cached", "i4"), ("oldest", "i4"), ("newest", "i4"), ("future", "i4"),
        ("future_end", "i4"), ("head_request", "i4"), ("head_hashes", "i4"),
        ("phase", "i1"), ("fault", "i1"),
    ],
    align=True,
)  # fmt: skip

CONFIG = np.dtype(
    [
        ("host", "f8"), ("time_factor", "f8"), ("front_base", "f8"), ("front_token", "f8"), ("timeline", "f8"),
        ("block_size", "i8"), ("max_seqs", "i8"), ("max_active", "i8"), ("budget", "i8"),
        ("max_len", "i8"), ("long_prefill", "i8"), ("long_prefill_adaptive", "i8"),
        ("long_prefill_alone", "i8"), ("chunked", "i8"), ("policy", "i8"), ("asynchronous", "i8"),
        ("reserve_full", "i8"), ("watermark", "i8"), ("blocks", "i8"), ("caching", "i8"),
        ("max_queued", "i8"), ("max_queued_tokens", "i8"), ("timeouts", "i8"), ("step_code", "i8"),
        ("sample_steps", "i8"), ("compose", "i8"), ("fronts", "i8"), ("named_streams", "i8"),
        ("delay", "f8"), ("queue_timeout", "f8"), ("batching", "i8"), ("from_idle", "i8"), ("visible", "i8"),
        ("max_pending", "i8"),
        ("share", "i8"), ("lockstep", "i8"),
    ],
    align=True,
)  # fmt: skip

STEP = np.dtype(
    [
        ("scheduled_s", "f8"), ("start_s", "f8"), ("end_s", "f8"), ("prefill_pairs", "f8"), ("step", "i8"),
        ("prefill_tokens", "i8"), ("prefill_seqs", "i8"), ("decode_seqs", "i8"), ("decode_kv", "i8"),
        ("running", "i8"), ("waiting", "i8"), ("used_blocks", "i8"), ("preempted", "i8"), ("replica", "i4"),
    ],
    align=True,
)  # fmt: skip

WINDOW = np.dtype(
    [
        ("busy", "f8"), ("kv", "f8"), ("steps", "i8"), ("prefill_tokens", "i8"), ("decode_tokens", "i8"),
        ("running", "i8"), ("waiting", "i8"), ("preempted", "i8"),
    ],
    align=True,
)  # fmt: skip

ITL_BINS = 1 << 20  # microseconds counted one by one; longer intervals go to the overflow list


class Fleet(NamedTuple):
    """All state of R identical replicas and their N requests.

    ``batch[j, k & 1]`` is batch k while it is in flight; ``entry`` lists the requests whose last prefill chunk
    it holds, ``extra`` those that left DECODE while it was in flight and whose token is handed over alone.
    ``gaps`` lists request, from and to [s] of decoding that was interrupted; ``noticed`` the watched requests that
    ended.
    """

    config: np.ndarray
    requests: np.ndarray
    replica: np.ndarray
    slot: np.ndarray
    prefill: np.ndarray
    free_slot: np.ndarray
    calendar: np.ndarray
    phase_count: np.ndarray
    phase_head: np.ndarray
    wait_head: np.ndarray
    wait_tail: np.ndarray
    batch: np.ndarray
    entry: np.ndarray
    extra: np.ndarray
    front_free: np.ndarray
    future: np.ndarray
    block: np.ndarray
    table: np.ndarray
    bucket: np.ndarray
    free_block: np.ndarray
    head_hash: np.ndarray
    hit: np.ndarray
    segment_stream: np.ndarray
    segment_tokens: np.ndarray
    step_params: np.ndarray
    sizes: np.ndarray  # of batches that need not wait for more, falling
    itl: np.ndarray
    itl_over: np.ndarray
    steps: np.ndarray
    window: np.ndarray
    gaps: np.ndarray
    noticed: np.ndarray
    log: np.ndarray  # rows used in steps, itl_over, gaps, noticed


def records(shape: int | tuple[int, ...], dtype: np.dtype) -> Any:
    """Zeroed structured array whose rows have attributes, compiled or not."""
    return np.zeros(shape, dtype=dtype).view(np.recarray)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least ``n``."""
    return 1 << max(0, int(n - 1).bit_length())


def allocate(
    config: np.ndarray,
    requests: Any,
    replicas: int,
    *,
    levels: int = 1,
    segment_stream: np.ndarray,
    segment_tokens: np.ndarray,
    step_params: np.ndarray,
    step_rows: int = 0,
    windows: int = 1,
    sizes: tuple[int, ...] = (),
    itl: np.ndarray | None = None,
) -> Fleet:
    """Fresh state for ``replicas`` replicas over ``requests`` (dtype REQUEST) under ``config`` (dtype CONFIG).

    ``levels`` is the number of distinct priorities; the segment arrays are those of the request table.
    """
    c = config[0]
    slots, caching, size = int(c.max_seqs), bool(c.caching), int(c.block_size)
    blocks = int(c.blocks)
    longest = int((requests.prompt + requests.length).max(initial=1)) + 1
    per_request = longest // size + 2
    ring = power_of_two(int(requests.length.max(initial=1)) + 4)
    wide = (replicas, slots)
    pool = (replicas, blocks if caching else 1)

    replica = records(replicas, REPLICA)
    for name in (
        "run_head",
        "run_tail",
        "front_head",
        "front_tail",
        "order_head",
        "order_tail",
        "abort_head",
        "oldest",
        "newest",
        "head_request",
    ):
        replica[name] = NONE
    replica.updated = -1
    replica.hashed_k = -1
    replica.free_slots = slots
    replica.unhashed = blocks - 1  # one block is vLLM's null block

    free_slot = np.tile(np.arange(slots - 1, -1, -1, dtype=np.int32), (replicas, 1))
    free_block = np.tile(np.arange(pool[1], dtype=np.int32), (replicas, 1))
    block = records(pool, BLOCK)
    block.bucket_next = NONE
    buckets = power_of_two(2 * pool[1])
    return Fleet(
        config=config,
        requests=requests,
        replica=replica,
        slot=records(wide, SLOT),
        prefill=np.zeros(wide, np.int32),
        free_slot=free_slot,
        calendar=np.full((replicas, ring), NONE, np.int32),
        phase_count=np.zeros((replicas, size), np.int64),
        phase_head=np.full((replicas, size), NONE, np.int32),
        wait_head=np.full((replicas, levels), NONE, np.int32),
        wait_tail=np.full((replicas, levels), NONE, np.int32),
        batch=records((replicas, 2), BATCH),
        entry=np.zeros((replicas, 2, slots), np.int32),
        extra=np.zeros((replicas, 2, 2 * slots), np.int32),
        front_free=np.zeros((replicas, int(c.fronts)), np.float64),
        future=np.zeros(0, np.int32),
        block=block,
        table=np.zeros((replicas, slots, per_request) if caching else (replicas, 1, 1), np.int32),
        bucket=np.full((replicas, buckets), NONE, np.int32),
        free_block=free_block,
        head_hash=np.zeros((replicas, per_request), np.uint64),
        hit=np.zeros((replicas, per_request), np.int32),
        segment_stream=segment_stream,
        segment_tokens=segment_tokens,
        step_params=step_params,
        sizes=np.array(sorted(sizes, reverse=True), np.int64),
        itl=np.zeros(ITL_BINS, np.int64) if itl is None else itl,
        itl_over=np.zeros((4096 + 4 * slots, 2), np.int64),
        steps=records(max(step_rows, 1), STEP),
        window=records((replicas, windows), WINDOW),
        gaps=np.zeros((4096 + 4 * slots if c.sample_steps == 1 else 1, 3)),
        noticed=np.zeros(int(np.count_nonzero(requests.watched)) + 1, np.int32),
        log=np.zeros(4, np.int64),
    )
