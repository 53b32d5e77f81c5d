"""vLLM V1's scheduler: which tokens go into the next batch.

The rules are those of ``vllm.v1.core.sched.scheduler.Scheduler.schedule`` and ``AsyncScheduler`` (0.32):
running requests first, in the order of their admission, within the token budget; a running request that
cannot get a block preempts the last (or least urgent) one; then, if nobody was preempted, waiting requests are
admitted. No rule reads a request's true length: only ``max_tokens`` and the tokens seen so far.
"""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine import decode
from simulator.engine.chunks import ceil_div, long_prefill_cap, plan_chunk
from simulator.engine.compiled import compiled
from simulator.engine.kv_cache import free_blocks, grow, lookup, own_start, publish_full, touch
from simulator.engine.outputs import blocks_at_most
from simulator.engine.queues import next_waiting, push_running, unlink_wait
from simulator.engine.running import decodes_together, one_by_one
from simulator.engine.state import NONE, PREFILL, RESERVED, WHOLE
from simulator.engine.whole_batch import launch


@compiled
def admit(H, j, b, cap, now):
    """Admit waiting requests while budget, slots and blocks last."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    size = cfg.block_size
    budget = cfg.budget - b.decodes - b.prefill_tokens
    r = next_waiting(H, j, NONE)
    while budget > 0 and r != NONE and c.running < cfg.max_active:
        q = A.requests(H)[r]
        if q.stale > c.updated:  # its last token is still in flight
            r = next_waiting(H, j, r)
            continue
        tokens = q.prompt + q.out
        hits = lookup(H, j, r, (tokens - 1) // size) if cfg.caching else 0
        start = hits * size
        n = tokens - start
        if 0 < cap < n:
            n = cap
        if not cfg.chunked and n > budget:
            break
        n = min(n, budget)

        room = free_blocks(H, j)
        for i in range(hits):
            if A.block(H)[j, A.hit(H)[j, i]].holders == 0:
                room -= 1
        if c.running > 0:
            room -= cfg.watermark
        most = tokens if cfg.reserve_full else start + n
        if ceil_div(most, size) - hits > room:
            break
        if cfg.batching == RESERVED:
            if c.reserved + blocks_at_most(H, r) > cfg.blocks - 1:
                break
            c.reserved += blocks_at_most(H, r)

        following = next_waiting(H, j, r)
        unlink_wait(H, j, r)
        s = push_running(H, j, r)
        p = A.slot(H)[j, s]
        p.mode = PREFILL
        p.decode = 0
        p.computed = start
        p.target = tokens
        p.blocks = hits
        p.hashed = hits
        p.named = hits
        if cfg.caching:
            p.hash = A.head_hash(H)[j, hits - 1] if hits > 0 else np.uint64(0)
            p.own = own_start(H, r)
            for i in range(hits):
                touch(H, j, A.hit(H)[j, i])
                A.table(H)[j, s, i] = A.hit(H)[j, i]
            if q.preempted == 0:
                c.lookup_tokens += tokens
                c.hit_tokens += start
        grow(H, j, s, start + n)
        if cfg.caching:
            publish_full(H, j, s, start + n)
        if q.preempted == 0:
            q.scheduled = now
            q.cached = start
        budget -= n
        if not plan_chunk(H, j, s, b, n):
            decode.add_prefill(H, j, s)
        r = following


@compiled
def schedule(H, j, now):
    """Plan the next batch of replica ``j`` at time ``now`` [s]; returns its number of tokens.

    An empty batch (0) gets no number and is not in flight.
    """
    c = A.replica(H)[j]
    k = c.k
    b = A.batch(H)[j, k & 1]
    b.k = k
    b.scheduled = now
    b.decodes = 0
    b.regular = 0
    b.decode_kv = 0
    b.prefill_tokens = 0
    b.prefill_seqs = 0
    b.prefill_kv = 0
    b.pairs = 0.0
    b.sampled = 0
    b.entries = 0
    b.extras = 0
    b.preempted = 0
    cap = long_prefill_cap(H, j)
    if c.running > 0 and not decodes_together(H, j, b, cap):
        one_by_one(H, j, b, cap)
    if A.config(H)[0].batching == WHOLE:
        if c.running == 0 and c.waiting > 0:
            launch(H, j, b, now)
    elif b.preempted == 0 and c.waiting > 0:
        admit(H, j, b, cap, now)
    tokens = b.decodes + b.prefill_tokens
    if tokens > 0:
        c.k += 1
        c.in_flight += 1
    return tokens
