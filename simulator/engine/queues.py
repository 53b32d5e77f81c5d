"""Waiting and running lists of a replica, as vLLM keeps them.

First come, first served keeps one waiting list, to whose front preempted requests return. With priorities there
is a list per level, each in order of arrival; with a user's key one list in order of (key, arrival).
"""

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.state import FCFS, FREE, KEYED, NONE, PRIORITY, RUNNING, WAITING


@compiled
def before(H, a, b):
    """Whether request ``a`` waits before request ``b`` of the same level."""
    if A.config(H)[0].policy == KEYED:
        ka, kb = A.requests(H)[a].key, A.requests(H)[b].key
        if ka != kb:
            return ka < kb
    return a < b


@compiled
def link_wait(H, j, r, after):
    """Link ``r`` into its level behind ``after`` (NONE: in front)."""
    q = A.requests(H)[r]
    level = q.level
    q.prev = after
    if after == NONE:
        q.next = A.wait_head(H)[j, level]
        A.wait_head(H)[j, level] = r
    else:
        q.next = A.requests(H)[after].next
        A.requests(H)[after].next = r
    if q.next == NONE:
        A.wait_tail(H)[j, level] = r
    else:
        A.requests(H)[q.next].prev = r
    q.status = WAITING
    A.replica(H)[j].waiting += 1


@compiled
def push_wait(H, j, r):
    """A new request waits."""
    after = A.wait_tail(H)[j, A.requests(H)[r].level]
    if A.config(H)[0].policy != FCFS:
        while after != NONE and before(H, r, after):
            after = A.requests(H)[after].prev
    link_wait(H, j, r, after)


@compiled
def return_wait(H, j, r):
    """A preempted request waits again."""
    after = NONE
    if A.config(H)[0].policy != FCFS:
        at = A.wait_head(H)[j, A.requests(H)[r].level]
        while at != NONE and before(H, at, r):
            after = at
            at = A.requests(H)[at].next
    link_wait(H, j, r, after)


@compiled
def unlink_wait(H, j, r):
    q = A.requests(H)[r]
    if q.prev == NONE:
        A.wait_head(H)[j, q.level] = q.next
    else:
        A.requests(H)[q.prev].next = q.next
    if q.next == NONE:
        A.wait_tail(H)[j, q.level] = q.prev
    else:
        A.requests(H)[q.next].prev = q.prev
    A.replica(H)[j].waiting -= 1


@compiled
def next_waiting(H, j, r):
    """The request that waits behind ``r`` (NONE: the first of all)."""
    level = 0
    if r != NONE:
        if A.requests(H)[r].next != NONE:
            return A.requests(H)[r].next
        level = A.requests(H)[r].level + 1
    while level < A.wait_head(H).shape[1]:
        if A.wait_head(H)[j, level] != NONE:
            return A.wait_head(H)[j, level]
        level += 1
    return NONE


@compiled
def push_running(H, j, r):
    """Request ``r`` takes a slot at the end of the running list; returns the slot."""
    c = A.replica(H)[j]
    c.free_slots -= 1
    s = A.free_slot(H)[j, c.free_slots]
    p = A.slot(H)[j, s]
    p.request = r
    p.planned = NONE
    p.flown = NONE
    p.sequence = c.sequence
    c.sequence += 1
    p.prev = c.run_tail
    p.next = NONE
    if c.run_tail == NONE:
        c.run_head = s
    else:
        A.slot(H)[j, c.run_tail].next = s
    c.run_tail = s
    c.running += 1
    A.requests(H)[r].slot = s
    A.requests(H)[r].status = RUNNING
    return s


@compiled
def unlink_running(H, j, s):
    c, p = A.replica(H)[j], A.slot(H)[j, s]
    if p.prev == NONE:
        c.run_head = p.next
    else:
        A.slot(H)[j, p.prev].next = p.next
    if p.next == NONE:
        c.run_tail = p.prev
    else:
        A.slot(H)[j, p.next].prev = p.prev
    p.mode = FREE
    A.free_slot(H)[j, c.free_slots] = s
    c.free_slots += 1
    c.running -= 1
    A.requests(H)[p.request].slot = NONE


@compiled
def victim(H, j):
    """The running request that vLLM preempts: the last one, or the least urgent under priorities."""
    c = A.replica(H)[j]
    if A.config(H)[0].policy != PRIORITY:
        return c.run_tail
    worst = c.run_head
    s = A.slot(H)[j, worst].next
    while s != NONE:
        a, b = A.requests(H)[A.slot(H)[j, s].request], A.requests(H)[A.slot(H)[j, worst].request]
        later = A.slot(H)[j, s].request > A.slot(H)[j, worst].request
        if a.level > b.level or (a.level == b.level and later):
            worst = s
        s = A.slot(H)[j, s].next
    return worst
