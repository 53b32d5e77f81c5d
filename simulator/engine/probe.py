"""What an outsider asks of a fleet without changing it, and making a replica cold."""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.kv_cache import lookup
from simulator.engine.state import NONE


@compiled
def cached_tokens(H, r, rows, width, out):
    """Prompt tokens of request ``r`` in the prefix cache of each pod; the best of its ``width`` replicas.

    ``rows`` are the pods' first replicas, ``out`` takes the tokens. 0 without prefix caching.
    """
    size = A.config(H)[0].block_size
    for i in range(len(rows)):
        out[i] = 0
        if A.config(H)[0].caching:
            for j in range(rows[i], rows[i] + width):
                hits = lookup(H, j, r, (A.requests(H)[r].prompt - 1) // size)
                out[i] = max(out[i], hits * size)


@compiled
def forget(H, j):
    """Empty the prefix cache of replica ``j``, which holds no request: it is started anew."""
    c = A.replica(H)[j]
    if A.config(H)[0].caching:
        for i in range(A.bucket(H).shape[1]):
            A.bucket(H)[j, i] = NONE
        for b in range(A.block(H).shape[1]):
            A.block(H)[j, b].hash = np.uint64(0)
            A.block(H)[j, b].holders = 0
            A.block(H)[j, b].bucket_next = NONE
            A.free_block(H)[j, b] = b
    c.unhashed = A.config(H)[0].blocks - 1
    c.cached = 0
    c.oldest = NONE
    c.newest = NONE
    c.head_request = NONE
