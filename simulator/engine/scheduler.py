"""vLLM V1's scheduler: which tokens go into the next batch.

The rules are those of ``vllm.v1.core.sched.scheduler.Scheduler.schedule`` and ``AsyncScheduler`` (0.32):
running requests first, in the order of their admission, within the token budget; a running request that
cannot get a block preempts the last (or least urgent) one; then, if nobody was preempted, waiting requests are
admitted. No rule reads a request's true length: only ``max_tokens`` and the tokens seen so far.

Two paths give the same batch: `decodes_together` when every decoding request certainly gets its token and its
block, so that they need not be visited one by one, and `one_by_one` otherwise.
"""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine import decode
from simulator.engine.compiled import compiled
from simulator.engine.kv_cache import (
    free_blocks,
    give_back,
    grow,
    lookup,
    name_private,
    own_start,
    publish_full,
    touch,
)
from simulator.engine.queues import (
    next_waiting,
    push_running,
    return_wait,
    unlink_running,
    unlink_wait,
    victim,
)
from simulator.engine.state import DECODE, NONE, PREFILL, PRIORITY


@compiled
def ceil_div(a, b):
    return (a + b - 1) // b


@compiled
def long_prefill_cap(H, j):
    """Most tokens of one request in this batch, 0 for no cap."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    eligible = c.running + c.waiting
    cap = cfg.long_prefill
    if cfg.long_prefill_alone and eligible <= 1:
        return 0
    if cap > 0 and cfg.long_prefill_adaptive:
        cap = max(cap, cfg.budget // max(eligible, 1))
    return cap


@compiled
def chunk_size(left, cap, budget):
    if 0 < cap < left:
        left = cap
    return min(left, budget)


@compiled
def plan_chunk(H, j, s, b, n):
    """Slot ``s``, in PREFILL, gets ``n`` tokens in batch ``b``."""
    c, p = A.replica(H)[j], A.slot(H)[j, s]
    if p.decode:
        b.decodes += 1
        b.decode_kv += p.computed + n
    else:
        b.prefill_tokens += n
        b.prefill_seqs += 1
        b.pairs += n * (p.computed + 0.5 * (n + 1))
        b.prefill_kv += p.computed + n
    p.computed += n
    p.planned = b.k
    p.flown = b.k
    p.tokens = n
    if p.computed == p.target:
        A.entry(H)[j, b.k & 1, b.entries] = p.request
        b.entries += 1
        b.sampled += 1
        decode.join(H, j, s, c.k)
        return True
    return False


@compiled
def publish_class(H, j, k, published):
    """Cache the blocks that the decoding requests filled in batch ``published``, when batch ``k`` is planned."""
    s = A.phase_head(H)[j, (published + 1) % A.config(H)[0].block_size]
    while s != NONE:
        p = A.slot(H)[j, s]
        following = p.phase_next
        if p.join <= published and (published == k or not decode.planned_out(H, j, p, k)):
            publish_full(H, j, s, p.computed + (published - p.join + 1))
        s = following
    A.replica(H)[j].hashed_k = published


@compiled
def decodes_together(H, j, b, cap):
    """Plan the running requests when each decode gets its token and its block.

    Returns False, having changed nothing, when that is not certain.
    """
    cfg, c = A.config(H)[0], A.replica(H)[j]
    k, size = b.k, cfg.block_size
    in_flight = c.updated < k - 1
    out = out_kv = out_blocks = 0
    if in_flight:
        s = A.calendar(H)[j, (k - 1) & (A.calendar(H).shape[1] - 1)]
        while s != NONE:
            p = A.slot(H)[j, s]
            if p.capped:
                before = p.computed + (k - p.join)
                out += 1
                out_kv += before + 1
                out_blocks += 1 if before % size == 0 else 0
            s = p.cal_next
    decodes = c.decoding - out

    wanted = 0
    for i in range(c.prefilling):
        p = A.slot(H)[j, A.prefill(H)[j, i]]
        wanted += chunk_size(p.target - p.computed, cap, cfg.budget)
    if decodes + wanted > cfg.budget:
        s = c.run_tail  # the budget binds: fine if it binds only behind all decodes
        for _ in range(c.prefilling):
            if A.slot(H)[j, s].mode != PREFILL:
                return False
            s = A.slot(H)[j, s].prev

    new_blocks = A.phase_count(H)[j, k % size] - out_blocks
    budget = cfg.budget - decodes
    for i in range(c.prefilling):
        p = A.slot(H)[j, A.prefill(H)[j, i]]
        n = chunk_size(p.target - p.computed, cap, budget)
        new_blocks += ceil_div(p.computed + n, size) - ceil_div(p.computed, size)
        budget -= n
    if new_blocks > free_blocks(H, j):
        return False

    if cfg.caching:
        s = A.phase_head(H)[j, k % size]
        while s != NONE:
            p = A.slot(H)[j, s]
            if not (in_flight and decode.planned_out(H, j, p, k)):
                grow(H, j, s, p.computed + (k - p.join) + 1)
            s = p.phase_next
        publish_class(H, j, k, k - 1 if in_flight else k)
    else:
        c.unhashed -= A.phase_count(H)[j, k % size] - out_blocks
    if cfg.compose:
        s = c.run_head
        while s != NONE:
            p = A.slot(H)[j, s]
            if p.mode == DECODE and not (in_flight and decode.planned_out(H, j, p, k)):
                p.planned = k
                p.tokens = 1
            s = p.next
    b.decodes = decodes
    b.regular = decodes
    b.sampled = decodes
    b.decode_kv = c.context + c.decoding * (k + 1) - out_kv

    budget = cfg.budget - decodes
    kept, count = 0, c.prefilling
    for i in range(count):
        s = A.prefill(H)[j, i]
        p = A.slot(H)[j, s]
        n = chunk_size(p.target - p.computed, cap, budget)
        A.prefill(H)[j, kept] = s
        kept += 1
        if n > 0:
            budget -= n
            grow(H, j, s, p.computed + n)
            if cfg.caching:
                publish_full(H, j, s, p.computed + n)
            if plan_chunk(H, j, s, b, n):
                kept -= 1
    c.prefilling = kept
    return True


@compiled
def preempt(H, j, s, b):
    """Put running slot ``s`` back to the waiting requests; what it had computed is lost."""
    c, p = A.replica(H)[j], A.slot(H)[j, s]
    r = p.request
    q = A.requests(H)[r]
    blocks = decode.held(H, j, s)
    flying = c.k - 1
    if p.mode == DECODE:
        decode.settle(H, j, s)
        if c.updated < flying:  # its token in flight is still handed over, and only then may it resume
            v = A.batch(H)[j, flying & 1]
            A.extra(H)[j, flying & 1, v.extras] = r
            v.extras += 1
            q.extra = flying
            q.stale = flying
    else:
        if c.updated < flying and p.flown == flying:
            q.stale = flying
        decode.drop_prefill(H, j, s)
    if A.config(H)[0].caching:
        name_private(H, j, s)
    give_back(H, j, s, blocks)
    unlink_running(H, j, s)
    return_wait(H, j, r)
    q.preempted += 1
    b.preempted += 1
    c.preemptions += 1


@compiled
def unplan(H, j, s, k):
    """Slot ``s``, already planned for batch ``k``, is to be preempted after all."""
    p = A.slot(H)[j, s]
    p.planned = NONE
    at_edge = (p.computed + (k - p.join)) % A.config(H)[0].block_size == 0
    if p.mode == DECODE and not A.config(H)[0].caching and at_edge:
        A.replica(H)[j].unhashed += 1  # its new block is not yet in what it is known to hold


@compiled
def one_by_one(H, j, b, cap):
    """Plan the running requests in their order, preempting where blocks run out."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    k, size = b.k, cfg.block_size
    in_flight = c.updated < k - 1
    budget = cfg.budget
    s = c.run_head
    while s != NONE and budget > 0:
        p = A.slot(H)[j, s]
        if p.mode == DECODE:
            if in_flight and decode.planned_out(H, j, p, k):
                s = p.next
                continue
            computed, n = p.computed + (k - p.join), 1
        else:
            computed = p.computed
            n = chunk_size(p.target - computed, cap, budget)
        new_blocks = ceil_div(computed + n, size) - ceil_div(computed, size)
        gone = False
        while new_blocks > free_blocks(H, j):
            v = victim(H, j)
            if cfg.policy == PRIORITY and A.slot(H)[j, v].planned == k:
                budget += A.slot(H)[j, v].tokens
                unplan(H, j, v, k)
            gone = v == s
            preempt(H, j, v, b)
            if gone:
                break
        if gone:
            break
        if cfg.caching or p.mode == PREFILL:
            grow(H, j, s, computed + n)
        else:
            c.unhashed -= new_blocks
        if cfg.caching:
            publish_full(H, j, s, computed if p.mode == DECODE and in_flight else computed + n)
        p.planned = k
        p.tokens = n
        budget -= n
        s = p.next
    if cfg.caching:
        c.hashed_k = k - 1 if in_flight else k
    enter_planned(H, j, b, in_flight)


@compiled
def enter_planned(H, j, b, in_flight):
    """Enter into batch ``b`` what `one_by_one` planned; a decode that was left out waits in PREFILL."""
    c, k = A.replica(H)[j], b.k
    s = c.run_head
    while s != NONE:
        p = A.slot(H)[j, s]
        following = p.next
        if p.planned == k:
            if p.mode == DECODE:
                b.decodes += 1
                b.regular += 1
                b.sampled += 1
                b.decode_kv += p.computed + (k - p.join) + 1
            elif plan_chunk(H, j, s, b, p.tokens):
                decode.drop_prefill(H, j, s)
        elif p.mode == DECODE and p.final < k:
            p.skipped = k
        elif p.mode == DECODE:
            leave_out(H, j, s, k, in_flight)
        s = following


@compiled
def leave_out(H, j, s, k, in_flight):
    """Decoding slot ``s`` is not part of batch ``k``: it goes to PREFILL with one token to compute."""
    p = A.slot(H)[j, s]
    r = p.request
    computed = p.computed + (k - p.join)
    blocks = decode.held(H, j, s)
    decode.settle(H, j, s)
    p.mode = PREFILL
    p.decode = 1
    p.computed = computed
    p.target = computed + 1
    p.blocks = blocks
    decode.add_prefill(H, j, s)
    if in_flight:
        v = A.batch(H)[j, (k - 1) & 1]
        A.extra(H)[j, (k - 1) & 1, v.extras] = r
        v.extras += 1
        A.requests(H)[r].extra = k - 1


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
    if b.preempted == 0 and c.waiting > 0:
        admit(H, j, b, cap, now)
    tokens = b.decodes + b.prefill_tokens
    if tokens > 0:
        c.k += 1
        c.in_flight += 1
    return tokens
