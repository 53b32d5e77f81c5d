"""Properties of the scheduler and of the engine's time, on made-up workloads driven by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster.replicas import Replicas
from simulator.engine.integrity import check_integrity
from simulator.engine.outputs import cancel, update
from simulator.engine.queues import push_wait
from simulator.engine.scheduler import schedule
from simulator.engine.state import GONE, NONE
from simulator.run.resolved import build_replicas, resolve_deployment
from simulator.simulation import simulate
from simulator.workload import RequestTable
from tests.systems import replica, scenario, table

FLAGS = st.fixed_dictionaries(
    {
        "async_scheduling": st.booleans(),
        "enable_prefix_caching": st.booleans(),
        "enable_chunked_prefill": st.just(True),
        "scheduling_policy": st.sampled_from(["fcfs", "priority"]),
        "num_gpu_blocks": st.integers(20, 60),
        "max_num_seqs": st.integers(1, 8),
        "long_prefill_token_threshold": st.sampled_from([0, 40]),
        "watermark": st.sampled_from([0.0, 0.1]),
    }
)
REQUEST = st.tuples(st.integers(1, 150), st.integers(1, 60), st.integers(0, 40), st.integers(0, 2), st.integers(0, 2))
WORK = st.lists(REQUEST, min_size=1, max_size=14)


def made(requests):
    """Rows (prompt, output, max_tokens beyond it, priority, prefix group 0: none) -> table."""
    n = len(requests)
    prompt, output, beyond, priority, group = (np.array(c) for c in zip(*requests, strict=True))
    shared = (group > 0) & (prompt > 40)
    return RequestTable.from_columns(
        arrival_s=np.arange(n, dtype=float),
        prompt_tokens=prompt,
        output_tokens=output,
        max_tokens=output + beyond,
        priority=priority,
        segment_start=np.concatenate([[0], np.cumsum(shared)]),
        segment_stream=group[shared],
        segment_tokens=np.full(shared.sum(), 40),
    )


def drive(requests, flags, drops=(), check=True):
    """Play a workload by hand, the requests arriving one a batch; yields each batch's (tokens, preempted) by request.

    ``drops`` are rows to cancel after as many batches.
    """
    fleet, H = replica(made(requests), **flags)
    c, depth, arrived, planned = fleet.replica[0], 2 if flags["async_scheduling"] else 1, 0, 0
    while arrived < len(requests) or c.started > 0 or c.in_flight > 0:
        if arrived < len(requests):
            fleet.replica[0].started += 1
            push_wait(H, 0, arrived)
            arrived += 1
        for row in drops:
            if row == planned and row < arrived and fleet.requests["status"][row] != GONE:
                cancel(H, 0, row)
        before = fleet.requests["preempted"].copy()
        tokens = schedule(H, 0, float(planned)) if c.running + c.waiting else 0
        planned += 1
        assert planned < 20_000
        if check:
            check_integrity(fleet, 0)
        if tokens:
            k, batch, s = int(c.k) - 1, {}, int(c.run_head)
            while s != NONE:
                if fleet.slot[0, s].planned == k:
                    batch[int(fleet.slot[0, s].request)] = int(fleet.slot[0, s].tokens)
                s = int(fleet.slot[0, s].next)
            assert sum(batch.values()) == tokens <= 128
            yield batch, np.flatnonzero(fleet.requests["preempted"] > before).tolist(), fleet
            if c.in_flight < depth:
                continue
        if c.in_flight:
            update(H, 0, float(planned))
            if check:
                check_integrity(fleet, 0)
    assert c.running == c.waiting == c.in_flight == 0 and c.unhashed + c.cached == flags["num_gpu_blocks"] - 1


@settings(max_examples=40, deadline=None)
@given(WORK, FLAGS, st.lists(st.integers(0, 13), max_size=3, unique=True))
def test_books_agree_after_every_event(requests, flags, drops):
    fleet = None
    for _batch, _gone, fleet in drive(requests, flags, drops):  # noqa: B007
        pass
    if fleet is None:  # nothing was planned: all were cancelled before
        return
    for row, (_, output, _, _, _) in enumerate(requests):
        if row not in drops:
            assert fleet.requests["out"][row] == output


@settings(max_examples=40, deadline=None)
@given(WORK, FLAGS, st.data())
def test_no_decision_reads_a_length_not_yet_generated(requests, flags, data):
    """Answers that go on longer, with the same max_tokens, change no batch before the first of them would have
    ended."""
    row = data.draw(st.integers(0, len(requests) - 1))
    prompt, output, beyond, priority, group = requests[row]
    if beyond == 0:
        return
    longer = list(requests)
    longer[row] = (prompt, output + data.draw(st.integers(1, beyond)), 0, priority, group)
    longer[row] = (*longer[row][:2], output + beyond - longer[row][1], priority, group)
    ends = None
    first = []
    for batch, gone, fleet in drive(requests, flags, check=False):
        first.append((batch, gone))
        if ends is None and fleet.requests["status"][row] == GONE:
            ends = len(first) - 1
    ends = len(first) if ends is None else ends
    second = []
    for batch, gone, _ in drive(longer, flags, check=False):
        second.append((batch, gone))
        if len(second) == ends:
            break
    assert first[:ends] == second[:ends]


def test_peek_is_pure_and_advance_commits_what_is_planned_before():
    system = scenario({"async_scheduling": True}, client={"timeout_s": 30.0})
    requests = table([0.0, 0.01, 0.5, 0.5], [300, 20, 50, 60], [20, 5, 3, 1])
    r = resolve_deployment(system, 0)
    part: Replicas = build_replicas(system, r, requests, "full", r.config.replicas, False, None, None)
    for row in range(len(requests)):
        t = requests.arrival_s[row]
        part.advance(t)
        assert not (part.fleet.batch["scheduled"][:, :] >= t).any() or t == 0
        part.push(row, 0)
        before = [np.asarray(a).tobytes() for a in part.fleet]
        seen = part.peek()
        assert [np.asarray(a).tobytes() for a in part.fleet] == before
        assert seen >= t or row == 0
    for _ in part.drain():
        pass
    assert part.peek() == np.inf
    assert (part.fleet.requests["out"] == requests.output_tokens).all()


def test_outputs_come_before_clients_giving_up_before_arrivals():
    """One request takes exactly 1 s; its client's patience ends then; another request arrives then."""
    system = scenario(
        {"max_num_seqs": 1, "async_scheduling": False, "max_num_queued_reqs": 1},
        step_time={"kind": "constant", "seconds": 0.25},
        client={"timeout_s": 1.0},
    )
    q = simulate(system, requests=table([0.0, 1.0], [5, 5], [4, 8])).requests
    assert q["state"].tolist() == [1, 3]  # completed in time; taken, as the first had ended; gave up
    assert q["end_s"].tolist() == [1.0, 2.0]
    assert q["scheduled_s"].tolist() == [0.0, 1.0]


def test_a_timeout_frees_the_engine_before_its_next_batch():
    system = scenario(
        {"max_num_seqs": 1, "async_scheduling": False},
        step_time={"kind": "constant", "seconds": 0.25},
        client={"timeout_s": 1.1},
    )
    q = simulate(system, requests=table([0.0, 0.3], [5, 5], [100, 2])).requests
    assert q["state"].tolist() == [3, 3] or q["scheduled_s"][1] == 1.25
    assert q["end_s"][0] == 1.1


def test_cancelling_frees_the_blocks():
    system = scenario({"async_scheduling": True}, router={"kind": "least_outstanding"})
    requests = table([0.0, 0.0], [300, 40], [100, 100])
    part = build_replicas(system, resolve_deployment(system, 0), requests, "off", 1, False, None, None)
    for row in (0, 1):
        part.push(row, 0)
    part.advance(0.2)
    assert part.outstanding().tolist() == [2]
    part.cancel(0, 0.2)
    assert part.outstanding().tolist() == [1]
    for _ in part.drain():
        pass
    check_integrity(part.fleet, 0)
    assert part.requests(0)["state"].tolist() == [5, 1]
    assert part.requests(0)["end_s"][0] == 0.2
