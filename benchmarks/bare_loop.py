"""The yardstick: a minimal compiled loop of first come, first served chunked prefill.

It knows a token budget, a limit of sequences and a number of blocks that it never runs out of, and an affine step
time. No preemption, no prefix cache, no second batch in flight, no records but the completion times.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def bare_loop(arrival, prompt, output, budget, max_seqs, blocks, size, base, per_prefill, per_decode, per_context):
    """Completion time [s] of each request."""
    n = len(arrival)
    end = np.zeros(n)
    ids = np.zeros(max_seqs, np.int64)
    done = np.zeros(max_seqs, np.int64)  # tokens computed
    left = np.zeros(max_seqs, np.int64)  # output tokens to come
    running, following, finished, t, free = 0, 0, 0, 0.0, blocks
    while finished < n:
        if running == 0 and arrival[following] > t:
            t = arrival[following]
        room, prefill, decodes, context = budget, 0, 0, 0
        for i in range(running):
            if done[i] >= prompt[ids[i]]:
                if done[i] % size == 0:
                    free -= 1
                done[i] += 1
                room -= 1
                decodes += 1
                context += done[i]
                left[i] -= 1
            else:
                part = min(prompt[ids[i]] - done[i], room)
                free -= (done[i] + part + size - 1) // size - (done[i] + size - 1) // size
                done[i] += part
                room -= part
                prefill += part
                if done[i] == prompt[ids[i]]:
                    left[i] -= 1
        while room > 0 and running < max_seqs and following < n and arrival[following] <= t:
            if (prompt[following] + size - 1) // size > free:
                break
            part = min(prompt[following], room)
            free -= (part + size - 1) // size
            ids[running] = following
            done[running] = part
            left[running] = output[following] - (1 if part == prompt[following] else 0)
            room -= part
            prefill += part
            running += 1
            following += 1
        t += base + per_prefill * prefill + per_decode * decodes + per_context * context
        kept = 0
        for i in range(running):
            if left[i] == 0:
                end[ids[i]] = t
                free += (done[i] + size - 1) // size
                finished += 1
            else:
                ids[kept], done[kept], left[kept] = ids[i], done[i], left[i]
                kept += 1
        running = kept
    return end
