"""The decoding requests of a replica: joining, leaving and what they hold, without a write per token."""

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.state import DECODE, NONE, PREFILL, WHOLE


@compiled
def join(H, j, s, k):
    """Slot ``s`` got its last chunk in batch ``k``: it emits a token with it and with each batch after."""
    c, p = A.replica(H)[j], A.slot(H)[j, s]
    q = A.requests(H)[p.request]
    size = A.config(H)[0].block_size
    p.mode = DECODE
    p.join = k + 1
    left = c.padded if A.config(H)[0].batching == WHOLE else q.length - q.out
    p.final = k + left - 1
    p.capped = 1 if q.length == q.cap else 0
    p.skipped = NONE
    c.decoding += 1
    c.context += p.computed - p.join

    at = p.final & (A.calendar(H).shape[1] - 1)
    head = A.calendar(H)[j, at]
    p.cal_prev = NONE
    p.cal_next = head
    if head != NONE:
        A.slot(H)[j, head].cal_prev = s
    A.calendar(H)[j, at] = s

    at = (p.join - p.computed) % size
    A.phase_count(H)[j, at] += 1
    if A.config(H)[0].caching:
        head = A.phase_head(H)[j, at]
        p.phase_prev = NONE
        p.phase_next = head
        if head != NONE:
            A.slot(H)[j, head].phase_prev = s
        A.phase_head(H)[j, at] = s


@compiled
def leave(H, j, s):
    """Slot ``s`` no longer decodes implicitly."""
    c, p = A.replica(H)[j], A.slot(H)[j, s]
    c.decoding -= 1
    c.context -= p.computed - p.join
    if p.cal_prev == NONE:
        A.calendar(H)[j, p.final & (A.calendar(H).shape[1] - 1)] = p.cal_next
    else:
        A.slot(H)[j, p.cal_prev].cal_next = p.cal_next
    if p.cal_next != NONE:
        A.slot(H)[j, p.cal_next].cal_prev = p.cal_prev
    at = (p.join - p.computed) % A.config(H)[0].block_size
    A.phase_count(H)[j, at] -= 1
    if A.config(H)[0].caching:
        if p.phase_prev == NONE:
            A.phase_head(H)[j, at] = p.phase_next
        else:
            A.slot(H)[j, p.phase_prev].phase_next = p.phase_next
        if p.phase_next != NONE:
            A.slot(H)[j, p.phase_next].phase_prev = p.phase_prev


@compiled
def planned_out(H, j, p, k):
    """Whether batch ``k`` leaves slot ``p`` out: its last token, known to be the last, is in flight."""
    return p.mode == DECODE and p.capped == 1 and p.final < k


@compiled
def computed_now(H, j, s):
    """Tokens of slot ``s`` that have been computed or are in flight."""
    p = A.slot(H)[j, s]
    if p.mode == PREFILL:
        return p.computed
    last = A.replica(H)[j].k - 1
    if p.capped == 1 and p.final < last:
        last = p.final
    elif p.skipped == last:
        last -= 1
    return p.computed + (last - p.join + 1)


@compiled
def held(H, j, s):
    """Blocks that slot ``s`` holds."""
    if A.config(H)[0].caching or A.slot(H)[j, s].mode == PREFILL:
        return A.slot(H)[j, s].blocks
    size = A.config(H)[0].block_size
    return (computed_now(H, j, s) + size - 1) // size


@compiled
def settle(H, j, s):
    """Write down the tokens that decoding slot ``s`` has got so far; it leaves DECODE.

    The batches in flight that count it among their regular decodes lose it.
    """
    c, p = A.replica(H)[j], A.slot(H)[j, s]
    q = A.requests(H)[p.request]
    got = c.updated - p.join + 2
    if got > 0:
        q.out += got
        q.last = c.updated_at
    for k in range(c.updated + 1, c.k):
        if p.join <= k and not planned_out(H, j, p, k) and p.skipped != k:
            A.batch(H)[j, k & 1].regular -= 1
    leave(H, j, s)


@compiled
def drop_prefill(H, j, s):
    """Take slot ``s`` out of the list of slots in PREFILL."""
    c = A.replica(H)[j]
    at = 0
    while A.prefill(H)[j, at] != s:
        at += 1
    for i in range(at, c.prefilling - 1):
        A.prefill(H)[j, i] = A.prefill(H)[j, i + 1]
    c.prefilling -= 1


@compiled
def add_prefill(H, j, s):
    """Put slot ``s`` into the list of slots in PREFILL, which is in running order."""
    c = A.replica(H)[j]
    i = c.prefilling
    while i > 0 and A.slot(H)[j, A.prefill(H)[j, i - 1]].sequence > A.slot(H)[j, s].sequence:
        A.prefill(H)[j, i] = A.prefill(H)[j, i - 1]
        i -= 1
    A.prefill(H)[j, i] = s
    c.prefilling += 1
