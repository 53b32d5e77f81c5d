"""In front of the engine core: the API server, its limits, and clients that give up.

The API server is a queue of its own: ``fronts`` processes that spend ``front_base + front_token * prompt`` [s]
on each request, in order of arrival. ``max_num_queued_reqs`` and ``max_num_queued_tokens`` act here, as in
``vllm.v1.engine.async_llm.AsyncLLM.check_admission`` (0.32): a request over the limit is rejected at once.
"""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.outputs import cancel, ended, tick
from simulator.engine.queues import push_wait
from simulator.engine.state import FRONT, GONE, NEW, NONE, RUNNING, WHOLE
from simulator.records.tables import State

REJECTED, TIMED_OUT, IN_FLIGHT = int(State.REJECTED), int(State.TIMED_OUT), int(State.IN_FLIGHT)


@compiled
def accept(H, j, r):
    """Request ``r`` arrives at replica ``j`` at its arrival time; returns whether it was taken."""
    cfg, c, q = A.config(H)[0], A.replica(H)[j], A.requests(H)[r]
    a = q.arrival
    q.replica = j
    over = cfg.max_queued >= 0 and c.unfinished + 1 > cfg.max_queued
    over |= cfg.max_pending >= 0 and c.started - c.running >= cfg.max_pending
    if over or (cfg.max_queued_tokens >= 0 and c.queued_tokens >= cfg.max_queued_tokens):
        q.state = REJECTED
        q.end = a
        q.status = GONE
        return False
    tick(H, j, a)
    c.unfinished += 1
    c.started += 1
    c.queued_tokens += q.prompt
    q.in_prefill = 1
    i = np.argmin(A.front_free(H)[j])
    done = max(a, A.front_free(H)[j, i]) + (cfg.front_base + cfg.front_token * q.prompt)
    A.front_free(H)[j, i] = done
    q.ready = done
    q.status = FRONT

    after = c.front_tail
    while after != NONE and A.requests(H)[after].ready > done:
        after = A.requests(H)[after].prev
    q.prev = after
    if after == NONE:
        q.next = c.front_head
        c.front_head = r
    else:
        q.next = A.requests(H)[after].next
        A.requests(H)[after].next = r
    if q.next == NONE:
        c.front_tail = r
    else:
        A.requests(H)[q.next].prev = r

    if cfg.timeouts:
        if c.order_tail == NONE:
            c.order_head = r
        else:
            A.requests(H)[c.order_tail].follow = r
        c.order_tail = r
    return True


@compiled
def deliver(H, j, t):
    """Hand the requests that the API server is done with at ``t`` [s] to the engine core."""
    c = A.replica(H)[j]
    while c.front_head != NONE and A.requests(H)[c.front_head].ready <= t:
        r = c.front_head
        c.front_head = A.requests(H)[r].next
        if c.front_head == NONE:
            c.front_tail = NONE
        else:
            A.requests(H)[c.front_head].prev = NONE
        if A.requests(H)[r].status == FRONT:
            push_wait(H, j, r)


@compiled
def abandon(H, j, r, t, state):
    """The client of ``r`` is gone at ``t`` [s]; the engine drops the request before its next batch."""
    q = A.requests(H)[r]
    if q.state != IN_FLIGHT or q.status == NEW:
        return
    ended(H, j, r, t, state)
    q.abort_next = A.replica(H)[j].abort_head
    A.replica(H)[j].abort_head = r


@compiled
def drop_abandoned(H, j):
    """Cancel what clients have abandoned since the last batch was planned."""
    c = A.replica(H)[j]
    while c.abort_head != NONE:
        r = c.abort_head
        c.abort_head = A.requests(H)[r].abort_next
        status = A.requests(H)[r].status
        if status != GONE and not (status == RUNNING and A.config(H)[0].batching == WHOLE):  # a row stays in its batch
            cancel(H, j, r)


@compiled
def next_deadline(H, j):
    """Time at which the next client gives up, inf for none."""
    c = A.replica(H)[j]
    while c.order_head != NONE and A.requests(H)[c.order_head].state != IN_FLIGHT:
        c.order_head = A.requests(H)[c.order_head].follow
        if c.order_head == NONE:
            c.order_tail = NONE
    return A.requests(H)[c.order_head].deadline if c.order_head != NONE else np.inf


@compiled
def next_arrival(H, j):
    """Time of the next request that is already known to come here, inf for none."""
    c = A.replica(H)[j]
    return A.requests(H)[A.future(H)[c.future]].arrival if c.future < c.future_end else np.inf


@compiled
def outside(H, j, t, inclusive):
    """What happens outside the engine until ``t`` [s]: clients give up (first) and requests arrive."""
    c = A.replica(H)[j]
    while True:
        gives_up, arrives = next_deadline(H, j), next_arrival(H, j)
        first = min(gives_up, arrives)
        if first > t or (first == t and not inclusive) or first == np.inf:
            return
        if gives_up <= arrives:
            abandon(H, j, c.order_head, gives_up, TIMED_OUT)
        else:
            c.future += 1
            accept(H, j, A.future(H)[c.future - 1])
