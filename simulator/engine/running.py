"""The running requests of the next batch: each in its turn, preempting where blocks run out.

Two paths give the same batch: `decodes_together` when every decoding request certainly gets its token and its
block, so that they need not be visited one by one, and `one_by_one` otherwise.
"""

from simulator.engine import arrays as A
from simulator.engine import decode
from simulator.engine.chunks import ceil_div, chunk_size, plan_chunk
from simulator.engine.compiled import compiled
from simulator.engine.kv_cache import free_blocks, give_back, grow, name_private, publish_full
from simulator.engine.queues import return_wait, unlink_running, victim
from simulator.engine.state import DECODE, NONE, PREFILL, PRIORITY


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
