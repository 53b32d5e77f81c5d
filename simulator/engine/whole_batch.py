"""Request-level batches, as servers before continuous batching run them.

A batch is padded to its longest prompt, all its requests are computed until the longest answer is done, nobody joins
it, and its answers go out together at its end. When it begins is the batcher's matter: as soon as one of the sizes
that need not wait for more is there, or when the window that the first waiting request opened has closed.
"""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine import decode
from simulator.engine.chunks import ceil_div, plan_chunk
from simulator.engine.compiled import compiled
from simulator.engine.kv_cache import grow
from simulator.engine.outputs import ended, leave_engine
from simulator.engine.queues import next_waiting, push_running, unlink_wait
from simulator.engine.state import NONE, PREFILL, WHOLE
from simulator.records.tables import State

REJECTED = int(State.REJECTED)


@compiled
def visible(H, j):
    """Waiting requests that the batcher sees."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    return c.waiting if cfg.visible < 0 else min(c.waiting, cfg.visible)


@compiled
def ready_size(H, j):
    """The largest size that need not wait for more, of those that are there; 0: none."""
    n = visible(H, j)
    for i in range(len(A.sizes(H))):
        if A.sizes(H)[i] <= n:
            return A.sizes(H)[i]
    return 0


@compiled
def launches_at(H, j):
    """When the waiting requests of an idle replica become a batch if no more come [s]; inf: none waits."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    if c.waiting == 0:
        return np.inf
    if cfg.batching != WHOLE or ready_size(H, j) > 0:
        return c.decision
    opened = A.requests(H)[next_waiting(H, j, NONE)].ready
    if cfg.from_idle:
        opened = max(opened, c.updated_at)
    return max(opened + cfg.delay, c.decision)


@compiled
def expire(H, j, now):
    """Reject what has waited longer than the batcher's own timeout at ``now`` [s]."""
    cfg = A.config(H)[0]
    r = next_waiting(H, j, NONE)
    while r != NONE:
        following = next_waiting(H, j, r)
        if now - A.requests(H)[r].ready > cfg.queue_timeout:
            unlink_wait(H, j, r)
            leave_engine(H, j, r)
            ended(H, j, r, now, REJECTED)
        r = following


@compiled
def launch(H, j, b, now):
    """Make the waiting requests batch ``b`` at ``now`` [s], if the batcher need not wait any longer.

    As many as KV blocks can hold: each is promised the longest prompt and the longest answer that was asked for.
    """
    cfg, c = A.config(H)[0], A.replica(H)[j]
    if cfg.queue_timeout < np.inf:
        expire(H, j, now)
    if c.waiting == 0 or now < launches_at(H, j):
        return
    most = ready_size(H, j)
    if most == 0:
        most = min(visible(H, j), cfg.max_seqs)
    count, prompt, cap, output = 0, 0, 0, 0
    r = next_waiting(H, j, NONE)
    while r != NONE and count < most:
        q = A.requests(H)[r]
        longest, asked = max(prompt, q.prompt), max(cap, q.cap)
        if count > 0 and (count + 1) * ceil_div(longest + asked, cfg.block_size) > cfg.blocks - 1:
            break
        prompt, cap, output = longest, asked, max(output, q.length)
        count += 1
        r = next_waiting(H, j, r)
    c.padded = output
    for _ in range(count):
        r = next_waiting(H, j, NONE)
        unlink_wait(H, j, r)
        s = push_running(H, j, r)
        p = A.slot(H)[j, s]
        p.mode = PREFILL
        p.decode = 0
        p.computed = 0
        p.target = prompt
        p.blocks = 0
        p.hashed = 0
        p.named = 0
        A.requests(H)[r].scheduled = now
        A.requests(H)[r].cached = 0
        grow(H, j, s, prompt)
        if not plan_chunk(H, j, s, b, prompt):
            decode.add_prefill(H, j, s)
