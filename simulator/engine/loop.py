"""The engine core of a replica in simulated time.

One batch is in flight, or two with asynchronous scheduling: then batch k + 1 is planned while batch k computes,
so the outputs of batch k are not known to it. At equal times outputs come before clients giving up, these before
arrivals, arrivals in order of their rows. A batch is planned at the latest information before its time, so
`run` up to ``t`` commits the batches that are planned before ``t`` and the outputs that are there at ``t``.
"""

import numpy as np

from simulator.engine import arrays as A
from simulator.engine.compiled import compiled
from simulator.engine.front import deliver, drop_abandoned, next_arrival, next_deadline, outside
from simulator.engine.kv_cache import free_blocks
from simulator.engine.outputs import update
from simulator.engine.scheduler import schedule
from simulator.engine.state import DECODE, NONE, PLAN, RESERVED, WAIT, WHOLE
from simulator.engine.step_time.base import KERNELS
from simulator.engine.step_time.config import gpu_seconds
from simulator.engine.whole_batch import launches_at

# why `run` came back
REACHED, IDLE, FULL, CHUNK, STUCK = 0, 1, 2, 3, 4


@compiled
def decode_span(H, j, k):
    """Shortest and longest context [token] of the sequences that decode in batch ``k``."""
    least, most = np.int64(2**62), np.int64(0)
    s = A.replica(H)[j].run_head
    while s != NONE:
        p = A.slot(H)[j, s]
        if p.mode == DECODE and p.join <= k:
            context = p.computed + (k - p.join) + 1
            least, most = min(least, context), max(most, context)
        s = p.next
    return (least, most) if most > 0 else (np.int64(0), np.int64(0))


@compiled
def barrier(H, j, t):
    """When replica ``j``, which would plan at ``t``, may: ranks in lockstep begin their batches together [s]."""
    n = A.config(H)[0].lockstep
    if n == 1:
        return t
    lead = A.replica(H)[j - j % n]
    return lead.wave if t <= lead.wave else max(t, lead.wave_end)


@compiled
def join_wave(H, j, b):
    """Batch ``b`` of rank ``j`` becomes part of the batches that begin with it: all of them last as long as the
    longest.

    Ranks without requests run a dummy batch meanwhile, which takes no longer than the others.
    """
    n = A.config(H)[0].lockstep
    first = j - j % n
    lead = A.replica(H)[first]
    if b.scheduled != lead.wave or lead.wave_end == 0:
        lead.wave = b.scheduled
        lead.wave_end = b.end
    lead.wave_end = max(lead.wave_end, b.end)
    for k in range(first, first + n):
        c = A.replica(H)[k]
        other = A.batch(H)[k, (c.updated + 1) & 1]
        if c.in_flight > 0 and other.scheduled == lead.wave:
            other.end = lead.wave_end
            other.gpu = lead.wave_end - other.start
            c.gpu_free = other.end


@compiled
def begin(H, j, now):
    """Time the batch just planned at ``now`` [s]: the host prepares it, then the GPU takes it in turn."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    b = A.batch(H)[j, (c.k - 1) & 1]
    least, most = decode_span(H, j, b.k) if cfg.step_code == KERNELS else (0, 0)
    b.gpu = cfg.time_factor * gpu_seconds(
        cfg.step_code,
        A.step_params(H),
        b.decodes + b.prefill_tokens,
        b.prefill_tokens,
        b.prefill_seqs,
        b.pairs,
        b.prefill_kv,
        b.decodes,
        b.decode_kv,
        b.sampled,
        least,
        most,
    )
    owner = A.replica(H)[j - j % cfg.share]  # instances on the same GPUs take turns, batch by batch
    b.start = max(now + cfg.host, owner.gpu_free)
    b.end = b.start + b.gpu
    owner.gpu_free = b.end
    if cfg.lockstep > 1:
        join_wave(H, j, b)
    b.running = c.running
    b.waiting = c.waiting
    b.used = c.reserved if cfg.batching == RESERVED else cfg.blocks - 1 - free_blocks(H, j)


@compiled
def has_room(H, j, t):
    """Whether the logs can take one more batch that ends at ``t`` [s]."""
    if A.config(H)[0].sample_steps > 0 and A.log(H)[0] >= len(A.steps(H)):
        return False
    if A.log(H)[1] + 2 * A.slot(H).shape[1] + 2 > len(A.itl_over(H)):
        return False
    if A.config(H)[0].sample_steps == 1 and A.log(H)[2] + 2 * A.slot(H).shape[1] + 2 > len(A.gaps(H)):
        return False
    return t < A.config(H)[0].timeline * A.window(H).shape[1]


@compiled
def account(H, j, b):
    """Add batch ``b`` to the books."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    c.steps += 1
    c.busy += b.gpu
    c.prefill_busy += b.gpu * (b.prefill_tokens / (b.prefill_tokens + b.decodes))
    c.pairs += b.pairs
    c.prefill_tokens += b.prefill_tokens
    c.decode_tokens += b.decodes
    c.decode_kv += b.decode_kv
    c.prefill_kv += b.prefill_kv
    c.sampled += b.sampled
    c.most_decodes = max(c.most_decodes, b.decodes)
    c.most_prefill = max(c.most_prefill, b.prefill_tokens)
    c.most_kv = max(c.most_kv, b.decode_kv)
    w = A.window(H)[j, np.int64(b.end / cfg.timeline)]
    w.busy += b.gpu
    w.kv += b.used / (cfg.blocks - 1)
    w.steps += 1
    w.prefill_tokens += b.prefill_tokens
    w.decode_tokens += b.decodes
    w.running += b.running
    w.waiting += b.waiting
    w.preempted += b.preempted
    if cfg.sample_steps > 0 and b.k % cfg.sample_steps == 0:
        s = A.steps(H)[A.log(H)[0]]
        A.log(H)[0] += 1
        s.scheduled_s = b.scheduled
        s.start_s = b.start
        s.end_s = b.end
        s.prefill_pairs = b.pairs
        s.step = b.k
        s.prefill_tokens = b.prefill_tokens
        s.prefill_seqs = b.prefill_seqs
        s.decode_seqs = b.decodes
        s.decode_kv = b.decode_kv
        s.running = b.running
        s.waiting = b.waiting
        s.used_blocks = b.used
        s.preempted = b.preempted
        s.replica = j


@compiled
def wakes_at(H, j, until):
    """When a replica without work plans again: the next request out of the API server, or the window of a batcher
    closes (inf for neither).

    What happens outside before that, and not after ``until`` [s], is let happen.
    """
    c = A.replica(H)[j]
    while True:
        ready = A.requests(H)[c.front_head].ready if c.front_head != NONE else np.inf
        ready = min(ready, launches_at(H, j))
        first = min(next_deadline(H, j), next_arrival(H, j))
        if first > min(ready, until) or first == np.inf:
            return ready
        outside(H, j, first, True)


@compiled
def peek(H, j):
    """Earliest time [s] at which replica ``j``, left alone, changes for an outsider; inf if never. Changes nothing."""
    c = A.replica(H)[j]
    if c.phase == WAIT:
        return A.batch(H)[j, (c.updated + 1) & 1].end
    if c.in_flight > 0 or c.running > 0:
        return barrier(H, j, c.decision)
    ready = A.requests(H)[c.front_head].ready if c.front_head != NONE else np.inf
    return barrier(H, j, max(c.decision, min(launches_at(H, j), ready, next_arrival(H, j))))


@compiled
def run(H, j, until, most):
    """Advance replica ``j`` to ``until`` [s], at most ``most`` batches; returns why it came back."""
    cfg, c = A.config(H)[0], A.replica(H)[j]
    depth = 2 if cfg.asynchronous else 1
    steps = 0
    while True:
        if c.phase == WAIT:
            b = A.batch(H)[j, (c.updated + 1) & 1]
            t = b.end
            if t > until:
                outside(H, j, until, True)
                return REACHED
            if not has_room(H, j, t):
                return FULL
            if steps >= most:
                return CHUNK
            outside(H, j, t, False)
            update(H, j, t)
            account(H, j, b)
            c.decision = t
            c.phase = PLAN
            steps += 1
            continue
        now = c.decision
        if c.in_flight == 0 and c.running == 0 and (c.waiting == 0 or cfg.batching == WHOLE):
            ready = peek(H, j)
            if ready >= until:
                outside(H, j, until, True)
                return IDLE if ready == np.inf else REACHED
            ready = wakes_at(H, j, until)
            if ready == np.inf:
                continue
            now = max(now, ready)
        now = barrier(H, j, now)
        if now >= until:
            outside(H, j, until, True)
            return REACHED
        outside(H, j, now, True)
        drop_abandoned(H, j)
        deliver(H, j, now)
        c.decision = now
        if schedule(H, j, now) > 0:
            c.fault = 0
            begin(H, j, now)
            if c.in_flight == depth:
                c.phase = WAIT
        elif c.in_flight > 0:
            c.phase = WAIT
        elif c.running + c.waiting > 0 and now >= launches_at(H, j):
            c.fault += 1  # an empty batch may have preempted; two in a row cannot go on
            if c.fault > 2:
                return STUCK


@compiled
def advance(H, until, most):
    """Advance all replicas to ``until`` [s]; returns the worst of their reasons (`FULL` asks for room first)."""
    worst = REACHED
    for j in range(len(A.replica(H))):
        c = A.replica(H)[j]
        if c.phase == WAIT and A.batch(H)[j, (c.updated + 1) & 1].end > until and not A.config(H)[0].timeouts:
            continue
        code = run(H, j, until, most)
        if code == FULL or code == STUCK:
            return code
        worst = max(worst, code) if code != IDLE else worst
    return worst


@compiled
def next_change(H, j):
    """Time [s] of what replica ``j`` does next by itself, and whether that is planning a batch."""
    c = A.replica(H)[j]
    t, plans = peek(H, j), c.phase != WAIT
    gives_up = next_deadline(H, j)
    return (gives_up, False) if gives_up < t or (plans and gives_up == t) else (t, plans)


@compiled
def until_notice(fleets, until, most):
    """Advance several fleets in step to ``until`` [s] or, sooner, to where a watched request has ended.

    At one time all outputs come before any batch is planned. Returns the reason, the fleet it concerns (`FULL`,
    `STUCK`) and the time reached: all that happens before it is done, and all outputs at it.
    """
    reached, steps = -np.inf, 0
    while True:
        first, plans, f, j = np.inf, True, 0, 0
        for i in range(len(fleets)):
            for k in range(len(A.replica(fleets[i]))):
                t, planning = next_change(fleets[i], k)
                if t < first or (t == first and plans and not planning):
                    first, plans, f, j = t, planning, i, k
        if first > until or first == np.inf or (plans and first == until):
            for i in range(len(fleets)):
                for k in range(len(A.replica(fleets[i]))):
                    run(fleets[i], k, until, 1)
            return (IDLE if first == np.inf else REACHED), 0, until
        if steps >= most:
            return CHUNK, 0, max(reached, first if plans else reached)
        code = run(fleets[f], j, np.nextafter(first, np.inf) if plans else first, most)
        if code == FULL or code == STUCK:
            return code, f, reached
        reached = first
        steps += 1
        if A.log(fleets[f])[3] > 0:
            until = min(until, first)
