"""What follows a batch: tokens handed over, requests finished or cancelled, the books kept."""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine import decode
from simulator.engine.compiled import compiled
from simulator.engine.kv_cache import give_back, publish_full
from simulator.engine.queues import unlink_running, unlink_wait
from simulator.engine.state import DECODE, FRONT, GONE, ITL_BINS, NONE, RESERVED, RUNNING, WAITING, WHOLE
from simulator.records.tables import State

COMPLETED, IN_FLIGHT = int(State.COMPLETED), int(State.IN_FLIGHT)


@compiled
def count_interval(H, seconds, times):
    """Count ``times`` inter-token latencies of ``seconds`` [s], to the microsecond; none where answers come whole."""
    if times <= 0 or A.config(H)[0].batching == WHOLE:
        return
    us = np.int64(seconds * 1e6 + 0.5)
    if us < ITL_BINS:
        A.itl(H)[us] += times
        return
    n = A.log(H)[1]
    A.itl_over(H)[n, 0] = us
    A.itl_over(H)[n, 1] = times
    A.log(H)[1] = n + 1


@compiled
def past_prefill(H, j, r):
    """Request ``r`` no longer counts among the queued prompt tokens of the API server."""
    q = A.requests(H)[r]
    if q.in_prefill:
        q.in_prefill = 0
        A.replica(H)[j].queued_tokens -= q.prompt


@compiled
def emit(H, j, r, t):
    """Request ``r`` gets a token of its own at ``t`` [s]: the first one, or one after an interruption."""
    q = A.requests(H)[r]
    if np.isnan(q.last):
        if q.state == IN_FLIGHT and A.config(H)[0].batching != WHOLE:
            q.first = t
        past_prefill(H, j, r)
    else:
        count_interval(H, t - q.last, 1)
    q.last = t


@compiled
def note_gap(H, r, before, t):
    """Log request ``r`` if batches, the last one ended at ``before`` [s], gave it no token before the one at ``t``."""
    last = A.requests(H)[r].last
    if A.config(H)[0].sample_steps == 1 and last < before:
        n = A.log(H)[2]
        A.gaps(H)[n, 0] = r
        A.gaps(H)[n, 1] = last
        A.gaps(H)[n, 2] = t
        A.log(H)[2] = n + 1


@compiled
def tick(H, j, t):
    """Bring the integral of unfinished requests over time up to ``t`` [s]."""
    c = A.replica(H)[j]
    c.area += c.unfinished * (t - c.area_at)
    c.area_at = t


@compiled
def ended(H, j, r, t, state):
    """Request ``r`` has ended for its client at ``t`` [s]; a state given earlier stays."""
    q = A.requests(H)[r]
    if q.state != IN_FLIGHT:
        return
    tick(H, j, t)
    q.state = state
    q.end = t
    A.replica(H)[j].unfinished -= 1
    past_prefill(H, j, r)
    if q.watched:
        n = A.log(H)[3]
        A.noticed(H)[n] = r
        A.log(H)[3] = n + 1


@compiled
def leave_engine(H, j, r):
    """Request ``r`` is no longer among the engine's requests."""
    A.requests(H)[r].status = GONE
    A.replica(H)[j].started -= 1


@compiled
def blocks_at_most(H, r):
    """KV blocks that request ``r`` can come to hold."""
    q, size = A.requests(H)[r], A.config(H)[0].block_size
    return (q.prompt + q.cap + size - 1) // size


@compiled
def unreserve(H, j, r):
    """Request ``r`` no longer needs the blocks that its whole sequence was promised."""
    if A.config(H)[0].batching == RESERVED:
        A.replica(H)[j].reserved -= blocks_at_most(H, r)


@compiled
def finish(H, j, s, b, t):
    """Slot ``s`` got its last token with batch ``b`` at ``t`` [s]."""
    p = A.slot(H)[j, s]
    r = p.request
    if A.config(H)[0].caching:
        publish_full(H, j, s, p.computed + (p.final - p.join + 1))
    blocks = decode.held(H, j, s)
    decode.settle(H, j, s)
    q = A.requests(H)[r]
    q.last = t
    if A.config(H)[0].batching == WHOLE:  # the answer comes in one piece; the rest was padding
        q.out = q.length
        if q.state == IN_FLIGHT:
            q.first = t
    unreserve(H, j, r)
    give_back(H, j, s, blocks)
    unlink_running(H, j, s)
    leave_engine(H, j, r)
    ended(H, j, r, t, COMPLETED)


@compiled
def finish_due(H, j, b, t):
    """Finish the decoding requests whose last token came with batch ``b``, in running order."""
    at = b.k & (A.calendar(H).shape[1] - 1)
    while A.calendar(H)[j, at] != NONE:
        first = A.calendar(H)[j, at]
        s = A.slot(H)[j, first].cal_next
        while s != NONE:
            if A.slot(H)[j, s].sequence < A.slot(H)[j, first].sequence:
                first = s
            s = A.slot(H)[j, s].cal_next
        finish(H, j, first, b, t)


@compiled
def hand_over_extras(H, j, b, before, t):
    """Tokens of requests that left DECODE while batch ``b`` was in flight; the batch before ended at ``before``."""
    for i in range(b.extras):
        r = A.extra(H)[j, b.k & 1, i]
        q = A.requests(H)[r]
        if q.status == GONE:
            continue
        note_gap(H, r, before, t)
        emit(H, j, r, t)
        q.out += 1
        if q.status == RUNNING:
            if A.config(H)[0].caching:
                publish_full(H, j, q.slot, A.slot(H)[j, q.slot].computed)
        elif q.out == q.length:
            unlink_wait(H, j, r)
            leave_engine(H, j, r)
            ended(H, j, r, t, COMPLETED)


@compiled
def update(H, j, t):
    """Hand over the outputs of the oldest batch in flight of replica ``j`` at time ``t`` [s]."""
    c = A.replica(H)[j]
    k = c.updated + 1
    b = A.batch(H)[j, k & 1]
    before = c.updated_at
    count_interval(H, t - before, b.regular)
    for i in range(b.entries):
        r = A.entry(H)[j, k & 1, i]
        if A.requests(H)[r].status == RUNNING and A.requests(H)[r].extra != k:
            note_gap(H, r, before, t)
            emit(H, j, r, t)
    c.updated = k
    c.updated_at = t
    c.in_flight -= 1
    if A.config(H)[0].caching and c.hashed_k < k:
        s = A.phase_head(H)[j, (k + 1) % A.config(H)[0].block_size]
        while s != NONE:
            p = A.slot(H)[j, s]
            if p.join <= k:
                publish_full(H, j, s, p.computed + (k - p.join + 1))
            s = p.phase_next
        c.hashed_k = k
    hand_over_extras(H, j, b, before, t)
    finish_due(H, j, b, t)


@compiled
def cancel(H, j, r):
    """Take request ``r`` out of the engine between two batches, as an abort does; its KV blocks are freed."""
    q = A.requests(H)[r]
    if q.status == WAITING:
        unlink_wait(H, j, r)
    elif q.status == RUNNING:
        s = q.slot
        blocks = decode.held(H, j, s)
        if A.slot(H)[j, s].mode == DECODE:
            decode.settle(H, j, s)
        else:
            decode.drop_prefill(H, j, s)
        unreserve(H, j, r)
        give_back(H, j, s, blocks)
        unlink_running(H, j, s)
    elif q.status != FRONT:
        return
    leave_engine(H, j, r)
