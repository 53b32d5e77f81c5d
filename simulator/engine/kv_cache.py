"""Who fits in memory: the block pool with vLLM's prefix cache.

vLLM keeps one queue of free blocks, the next to be reused in front. Blocks without a hash are put back at
the front, blocks with a hash at the end, so the queue is always *unhashed blocks, then cached blocks from the
least to the most recently released*. Here these are a stack (their identity never matters) and a linked list.

Without prefix caching only the number of free blocks matters, and nothing but ``replica.unhashed`` is used.

A block's hash chains over the content of the prompt: pieces (stream, offset, tokens). ``OWN_STREAM + row`` is
the stream of a request's own tokens, prompt remainder and outputs, which no other request has unless it names it.
"""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.state import NONE
from simulator.workload.columns import OWN_STREAM

_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_OWN = np.uint64(OWN_STREAM)
PRIVATE = np.uint64(2)  # in place of the hash of a cached block that only its own request could ever find
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@compiled
def mix(state, value):
    """One step of splitmix64 over ``state`` and ``value`` (both uint64)."""
    z = (state ^ value) + _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@compiled
def own_start(H, r):
    """Tokens of the prompt of ``r`` before its own stream."""
    q = A.requests(H)[r]
    total = 0
    for i in range(q.segment, q.segment + q.segments):
        total += A.segment_tokens(H)[i]
    return total


@compiled
def chain(H, r, before, index):
    """Hash of block ``index`` of request ``r`` after the chain hash ``before``."""
    size = A.config(H)[0].block_size
    q = A.requests(H)[r]
    position, need = index * size, size
    h = mix(before, _ONE)
    start = 0  # of the segment, in tokens of the prompt
    for i in range(q.segment, q.segment + q.segments):
        length = A.segment_tokens(H)[i]
        if need > 0 and position < start + length:
            offset = position - start
            part = min(need, length - offset)
            h = mix(mix(mix(h, np.uint64(A.segment_stream(H)[i])), np.uint64(offset)), np.uint64(part))
            position += part
            need -= part
        start += length
    if need > 0:
        h = mix(mix(mix(h, _OWN + np.uint64(r)), np.uint64(position - start)), np.uint64(need))
    return h if h != _ZERO else _ONE


@compiled
def bucket_of(H, h):
    return np.int64(h & np.uint64(A.bucket(H).shape[1] - 1))


@compiled
def find(H, j, h):
    """The first cached block with hash ``h``, or NONE."""
    b = A.bucket(H)[j, bucket_of(H, h)]
    while b != NONE and A.block(H)[j, b].hash != h:
        b = A.block(H)[j, b].bucket_next
    return b


@compiled
def publish(H, j, b, h):
    """Make block ``b`` reachable under ``h``, behind older blocks of the same hash."""
    A.block(H)[j, b].hash = h
    A.block(H)[j, b].bucket_next = NONE
    at = bucket_of(H, h)
    last = A.bucket(H)[j, at]
    if last == NONE:
        A.bucket(H)[j, at] = b
        return
    while A.block(H)[j, last].bucket_next != NONE:
        last = A.block(H)[j, last].bucket_next
    A.block(H)[j, last].bucket_next = b


@compiled
def unpublish(H, j, b):
    """Evict block ``b`` from the prefix cache."""
    at = bucket_of(H, A.block(H)[j, b].hash)
    if A.bucket(H)[j, at] == b:
        A.bucket(H)[j, at] = A.block(H)[j, b].bucket_next
    else:
        p = A.bucket(H)[j, at]
        while A.block(H)[j, p].bucket_next != b:
            p = A.block(H)[j, p].bucket_next
        A.block(H)[j, p].bucket_next = A.block(H)[j, b].bucket_next
    A.block(H)[j, b].hash = _ZERO
    A.block(H)[j, b].bucket_next = NONE


@compiled
def unlink(H, j, b):
    """Take a cached block out of the queue of free blocks."""
    c, k = A.replica(H)[j], A.block(H)[j, b]
    if k.older == NONE:
        c.oldest = k.newer
    else:
        A.block(H)[j, k.older].newer = k.newer
    if k.newer == NONE:
        c.newest = k.older
    else:
        A.block(H)[j, k.newer].older = k.older
    c.cached -= 1


@compiled
def take(H, j):
    """A free block for a request; evicts the least recently released one when no unhashed block is left."""
    c = A.replica(H)[j]
    if c.unhashed > 0:
        c.unhashed -= 1
        b = A.free_block(H)[j, c.unhashed]
    else:
        b = c.oldest
        unlink(H, j, b)
        if A.block(H)[j, b].hash == PRIVATE:
            A.block(H)[j, b].hash = _ZERO
        else:
            unpublish(H, j, b)
    A.block(H)[j, b].holders = 1
    return b


@compiled
def touch(H, j, b):
    """One more request holds the cached block ``b``."""
    if A.block(H)[j, b].holders == 0:
        unlink(H, j, b)
    A.block(H)[j, b].holders += 1


@compiled
def release(H, j, b):
    """One request less holds block ``b``."""
    c, k = A.replica(H)[j], A.block(H)[j, b]
    k.holders -= 1
    if k.holders > 0:
        return
    if k.hash == _ZERO:
        A.free_block(H)[j, c.unhashed] = b
        c.unhashed += 1
        return
    k.older = c.newest
    k.newer = NONE
    if c.newest == NONE:
        c.oldest = b
    else:
        A.block(H)[j, c.newest].newer = b
    c.newest = b
    c.cached += 1


@compiled
def free_blocks(H, j):
    """Blocks that can be given out, cached ones included."""
    return A.replica(H)[j].unhashed + A.replica(H)[j].cached


@compiled
def lookup(H, j, r, limit):
    """Longest run of cached blocks from the start of ``r``, at most ``limit``; the blocks go to ``hit[j]``."""
    c = A.replica(H)[j]
    if c.head_request != r:
        c.head_request = r
        c.head_hashes = 0
    if A.requests(H)[r].preempted == 0 and A.config(H)[0].named_streams == 0:
        limit = min(limit, own_start(H, r) // A.config(H)[0].block_size)
    n = 0
    while n < limit:
        if n == c.head_hashes:
            before = A.head_hash(H)[j, n - 1] if n > 0 else _ZERO
            A.head_hash(H)[j, n] = chain(H, r, before, n)
            c.head_hashes += 1
        b = find(H, j, A.head_hash(H)[j, n])
        if b == NONE:
            break
        A.hit(H)[j, n] = b
        n += 1
    return n


@compiled
def grow(H, j, s, tokens):
    """Give slot ``s`` blocks for ``tokens`` tokens. The caller has checked that they are free."""
    size = A.config(H)[0].block_size
    p = A.slot(H)[j, s]
    need = (tokens + size - 1) // size
    if A.config(H)[0].caching == 0:
        A.replica(H)[j].unhashed -= need - p.blocks
        p.blocks = need
        return
    while p.blocks < need:
        A.table(H)[j, s, p.blocks] = take(H, j)
        p.blocks += 1


@compiled
def publish_full(H, j, s, tokens):
    """Cache the blocks of slot ``s`` that its first ``tokens`` tokens fill.

    A block with tokens of the request's own stream gets no entry in the table unless some request names such
    streams: nobody else can find it, and `name_private` makes up for it when the request itself is to look.
    """
    size = A.config(H)[0].block_size
    p = A.slot(H)[j, s]
    full = tokens // size
    shared = full if A.config(H)[0].named_streams else min(full, p.own // size)
    while p.hashed < shared:
        publish_next(H, j, s, p.hashed)
        p.hashed += 1
    while p.hashed < full:
        A.block(H)[j, A.table(H)[j, s, p.hashed]].hash = PRIVATE
        p.hashed += 1


@compiled
def publish_next(H, j, s, index):
    """Publish block ``index`` of slot ``s``; all before it are published."""
    p = A.slot(H)[j, s]
    p.hash = chain(H, p.request, p.hash, index)
    publish(H, j, A.table(H)[j, s, index], p.hash)
    p.named = index + 1


@compiled
def name_private(H, j, s):
    """Publish the private blocks of slot ``s``, whose request is preempted and will look for them."""
    p = A.slot(H)[j, s]
    while p.named < p.hashed:
        publish_next(H, j, s, p.named)


@compiled
def give_back(H, j, s, held):
    """Release the ``held`` blocks of slot ``s``, the last first."""
    p = A.slot(H)[j, s]
    if A.config(H)[0].caching == 0:
        A.replica(H)[j].unhashed += held
    else:
        for i in range(held - 1, -1, -1):
            release(H, j, A.table(H)[j, s, i])
    p.blocks = 0
    p.hashed = 0
