"""Check that the books of a replica agree with each other."""

import numpy as np

from simulator.engine.arrays import handle
from simulator.engine.decode import held
from simulator.engine.kv_cache import PRIVATE
from simulator.engine.state import DECODE, NONE, PREFILL, RUNNING, WAITING, Fleet


def check_integrity(fleet: Fleet, j: int) -> None:
    """Raise AssertionError when the KV cache or the lists of replica ``j`` are not what the requests say."""
    slots = [s for s in range(fleet.slot.shape[1]) if fleet.slot[j, s].mode]
    _check_lists(fleet, j, slots)
    _check_decodes(fleet, j, slots)
    if fleet.config[0].caching:
        _check_pool(fleet, j, slots)
        return
    c, H = fleet.replica[j], handle(fleet)
    in_use = sum(int(held(H, j, s)) for s in slots)
    assert in_use + c.unhashed == fleet.config[0].blocks - 1, (in_use, c.unhashed)


def _check_lists(fleet: Fleet, j: int, slots: list[int]) -> None:
    c = fleet.replica[j]
    running, s = [], int(c.run_head)
    while s != NONE:
        running.append(s)
        s = int(fleet.slot[j, s].next)
    assert sorted(running) == slots and len(running) == c.running
    assert all(fleet.requests[fleet.slot[j, s].request].status == RUNNING for s in running)
    waiting = 0
    for level in range(fleet.wait_head.shape[1]):
        r, before = int(fleet.wait_head[j, level]), NONE
        while r != NONE:
            q = fleet.requests[r]
            assert q.status == WAITING and q.prev == before, r
            waiting, before, r = waiting + 1, r, int(q.next)
    assert waiting == c.waiting
    prefill = [int(s) for s in fleet.prefill[j, : c.prefilling]]
    assert prefill == [s for s in running if fleet.slot[j, s].mode == PREFILL]


def _check_decodes(fleet: Fleet, j: int, slots: list[int]) -> None:
    c, size = fleet.replica[j], fleet.config[0].block_size
    decodes = [fleet.slot[j, s] for s in slots if fleet.slot[j, s].mode == DECODE]
    assert len(decodes) == c.decoding
    assert sum(int(p.computed - p.join) for p in decodes) == c.context
    counts = np.bincount([int(p.join - p.computed) % size for p in decodes], minlength=size)
    assert (counts == fleet.phase_count[j]).all()
    ring = fleet.calendar.shape[1]
    for at in range(ring):
        s = int(fleet.calendar[j, at])
        while s != NONE:
            assert fleet.slot[j, s].final % ring == at and fleet.slot[j, s].mode == DECODE
            s = int(fleet.slot[j, s].cal_next)


def _check_pool(fleet: Fleet, j: int, slots: list[int]) -> None:
    c, block, blocks = fleet.replica[j], fleet.block, fleet.config[0].blocks
    holders: dict[int, int] = {}
    for s in slots:
        for b in fleet.table[j, s, : fleet.slot[j, s].blocks]:
            holders[int(b)] = holders.get(int(b), 0) + 1
    unhashed = [int(b) for b in fleet.free_block[j, : c.unhashed]]
    cached, b = [], int(c.oldest)
    while b != NONE:
        cached.append(b)
        b = int(block[j, b].newer)
    assert len(cached) == c.cached
    everything = sorted([*unhashed, *cached, *holders])
    assert everything == list(range(blocks - 1)), "a block is lost or in two places"
    assert all(block[j, b].holders == n for b, n in holders.items())
    assert all(block[j, b].holders == 0 and block[j, b].hash == 0 for b in unhashed)
    assert all(block[j, b].holders == 0 and block[j, b].hash != 0 for b in cached)
    reachable = set()
    for head in fleet.bucket[j]:
        b = int(head)
        while b != NONE:
            reachable.add(b)
            b = int(block[j, b].bucket_next)
    named = {b for b in range(blocks - 1) if block[j, b].hash not in (0, int(PRIVATE))}
    assert reachable == named
