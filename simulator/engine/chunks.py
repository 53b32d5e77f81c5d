"""How many tokens a request gets in a batch, and the entry in the batch's books."""

from simulator.engine import arrays as A
from simulator.engine import decode
from simulator.engine.compiled import compiled


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
