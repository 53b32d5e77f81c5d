"""Requests that wait for answers: sessions, agents, closed loops; their shares in the prefix cache."""

import numpy as np
import pytest
from systems import AFFINE

from simulator.cluster.clients import Clients
from simulator.errors import ServelabError
from simulator.records.tables import State
from simulator.scenario import Scenario
from simulator.simulation import simulate
from simulator.workload import SyntheticWorkload, generate
from simulator.workload.columns import OWN_STREAM
from simulator.workload.table import RequestTable
from simulator.workload.trace import read_trace, write_trace

BASE = {
    "name": "chat",
    "arrivals": {"kind": "poisson", "rate_rps": 0.5},
    "prompt_tokens": {"kind": "lognormal", "median": 200.0, "sigma": 0.8, "max": 2000},
    "output_tokens": {"kind": "uniform", "min": 2, "max": 200},
}
H100 = {"model": "llama-3.1-8b", "gpu": "h100", "step_time": AFFINE}
TALK = {
    "turns": {"kind": "uniform", "min": 1, "max": 6},
    "wait_s": {"kind": "exponential", "mean_s": 8.0},
    "next_prompt_tokens": {"kind": "uniform", "min": 10, "max": 60},
}
LOOP = {"kind": "closed_loop", "concurrency": 6, "requests": 120}


def scenario(*classes, replicas=1, duration_s=None, **engine):
    workload = {"source": "synthetic", "classes": list(classes)}
    if duration_s is not None:
        workload["duration_s"] = duration_s
    engine = {"version": "0.32", "max_model_len": 32768, **engine}
    return Scenario.of({"workload": workload, "deployments": [{**H100, "replicas": replicas, "engine": engine}]})


def table(*classes, duration_s=300.0, seed=1):
    config = SyntheticWorkload.model_validate({"classes": list(classes), "duration_s": duration_s})
    return generate(config, np.random.SeedSequence(seed))


def segments(t, row):
    a, b = t.segment_start[row : row + 2]
    return list(zip((t.segment_stream[a:b]).tolist(), t.segment_tokens[a:b].tolist(), strict=True))


def test_a_turn_begins_with_all_turns_before_it():
    t = table({**BASE, "session": TALK, "shared_prefix": {"groups": 2, "tokens": 100, "share": 0.5}})
    some = 0
    for row in range(len(t)):
        before = np.flatnonzero((t.session == t.session[row]) & (np.arange(len(t)) < row))
        system = [s for s in segments(t, row) if s[0] < OWN_STREAM]
        assert system == [s for s in segments(t, before[0] if len(before) else row) if s[0] < OWN_STREAM]
        own = [s for s in segments(t, row) if s[0] >= OWN_STREAM]
        assert [s - OWN_STREAM for s, _ in own] == before.tolist()
        if len(before):
            last = before[-1]
            assert sum(n for _, n in segments(t, row)) == t.prompt_tokens[last] + t.output_tokens[last]
            assert 10 <= t.prompt_tokens[row] - t.prompt_tokens[last] - t.output_tokens[last] <= 60
            assert t.after[row] == last and np.isnan(t.arrival_s[row])
            some += 1
    assert some > 100


def test_stripped_reasoning_breaks_the_prefix():
    talk = {**TALK, "stripped_share": 0.5, "turns": {"kind": "fixed", "tokens": 3}}
    t = table({**BASE, "session": talk})
    first = np.flatnonzero(t.after == -1)
    one, two = first, first + 2
    visible = t.output_tokens - np.rint(0.5 * t.output_tokens).astype(int)
    for a, c in zip(one.tolist(), two.tolist(), strict=True):
        found = segments(t, c)
        assert found[0] == (OWN_STREAM + a, t.prompt_tokens[a])  # the answer stands elsewhere and is new
        assert found[1] == (OWN_STREAM + a + 1, t.prompt_tokens[a + 1] - t.prompt_tokens[a])
        assert t.prompt_tokens[a + 1] - t.prompt_tokens[a] - visible[a] in range(10, 61)


def test_the_engine_finds_whole_blocks_of_the_conversation():
    # one session at a time and a pool that keeps everything: a turn finds all full blocks that were computed
    kept = simulate(scenario({**BASE, "arrivals": {**LOOP, "concurrency": 1, "requests": 30}, "session": TALK}))
    q = kept.requests
    later = q[q["session"].duplicated()]
    before = q.iloc[later.index - 1]
    computed = (before["prompt_tokens"] + before["generated_tokens"] - 1).to_numpy()  # the last token is never fed
    assert (later["cached_tokens"].to_numpy() == computed // 16 * 16).all() and len(later) > 50
    stripped = simulate(
        scenario(
            {**BASE, "arrivals": {**LOOP, "concurrency": 1, "requests": 30}, "session": {**TALK, "stripped_share": 0.9}}
        )
    ).requests
    assert stripped["cached_tokens"].sum() < 0.9 * q["cached_tokens"].sum()


def test_turns_wait_for_answers_and_thinking():
    run = simulate(scenario({**BASE, "session": TALK}, duration_s=300.0, replicas=2))
    q = run.requests
    assert (q["state"] == State.COMPLETED).all() and (q["arrival_s"] < 300).all()
    gap = (q["arrival_s"] - q.groupby("session")["end_s"].shift()).dropna()
    assert len(gap) > 200 and (gap > 0).all() and 6 < gap.mean() < 10


def test_a_session_ends_where_a_turn_fails():
    slow = scenario({**BASE, "session": {**TALK, "turns": {"kind": "fixed", "tokens": 4}}}, duration_s=120.0)
    run = simulate(Scenario.of({**slow.to_mapping(), "client": {"timeout_s": 0.5}}))
    q = run.requests
    lost = q[q["state"] == State.TIMED_OUT]
    assert 5 < len(lost) < len(q)
    for session, end in zip(lost["session"], lost["end_s"], strict=True):
        mine = q[q["session"] == session]
        assert (mine["arrival_s"] < end).all() and mine["state"].iloc[-1] == State.TIMED_OUT
    assert any("not sent" in note for note in run.meta["notes"])


def test_context_limit_ends_a_session():
    limit = 900
    t = table({**BASE, "session": {**TALK, "max_context_tokens": limit}})
    later = t.after >= 0
    assert (t.prompt_tokens + t.output_tokens)[later].max() <= limit
    free = table({**BASE, "session": TALK})
    assert (free.prompt_tokens + free.output_tokens).max() > limit and len(free) > len(t)


@pytest.mark.parametrize("think_s", [0.0, 3.0])
def test_a_closed_loop_keeps_its_concurrency_and_obeys_littles_law(think_s):
    wait = {"kind": "exponential", "mean_s": think_s} if think_s else {"kind": "fixed", "seconds": 0.0}
    loop = {**LOOP, "requests": 1200, "wait_s": wait}
    run = simulate(scenario({**BASE, "arrivals": loop}, replicas=2))
    q = run.requests
    assert len(q) == 1200 and (q["state"] == State.COMPLETED).all()
    times = np.sort(np.concatenate([q["arrival_s"], q["end_s"]]))
    inside = np.searchsorted(np.sort(q["arrival_s"]), times, "right") - np.searchsorted(
        np.sort(q["end_s"]), times, "right"
    )
    assert inside.max() == 6
    # the response time law of a closed network: N = X (R + Z), over the part where all users are busy
    half = q[(q["arrival_s"] > q["end_s"].max() * 0.1) & (q["arrival_s"] < q["end_s"].max() * 0.9)]
    rate = len(half) / (q["end_s"].max() * 0.8)
    assert rate * ((half["end_s"] - half["arrival_s"]).mean() + think_s) == pytest.approx(
        6, rel=0.05 if think_s else 0.02
    )


def test_mean_value_analysis_of_one_server():
    """Machine repairman: exponential service on one server, N users with think time Z, against exact MVA [1]_.

    .. [1] Reiser, Lavenberg, "Mean-value analysis of closed multichain queuing networks", JACM 27(2), 1980.
    """
    users, think_s, service_s, n = 5, 4.0, 1.0, 20_000
    rng = np.random.default_rng(3)
    after = np.full(n, -2)
    after[:users] = -1
    arrival = np.full(n, np.nan)
    arrival[:users] = 0.0
    t = RequestTable.from_columns(
        arrival,
        np.ones(n, int),
        np.ones(n, int),
        after=after,
        wait_s=rng.exponential(think_s, n),
        pool=np.zeros(n, int),
    )
    length = rng.exponential(service_s, n)
    calls = iter(length)
    one = scenario(
        BASE,
        duration_s=1.0,
        max_num_seqs=1,
        max_num_batched_tokens=64,
        enable_prefix_caching=False,
        async_scheduling=False,
    )
    run = simulate(one, requests=t, step_seconds=lambda *batch: next(calls))
    q = run.requests
    response, queue = 0.0, 0.0
    for k in range(1, users + 1):
        response = service_s * (1 + queue)
        rate = k / (response + think_s)
        queue = rate * response
    assert (q["end_s"] - q["arrival_s"]).mean() == pytest.approx(response, rel=0.03)
    assert n / q["end_s"].max() == pytest.approx(rate, rel=0.03)


def test_clients_in_lockstep_give_what_request_by_request_does():
    """An open workload has the same records whether or not the run watches for answers."""
    open_loop = scenario(BASE, duration_s=200.0, replicas=3)
    plain = simulate(open_loop, seed=4)
    t = table(BASE, duration_s=200.0, seed=9)
    watched = RequestTable.from_columns(**{n: getattr(t, n) for n in ("arrival_s", "prompt_tokens", "output_tokens")})
    late = RequestTable.from_columns(
        **{n: getattr(watched, n) for n in ("arrival_s", "prompt_tokens", "output_tokens")},
        until_s=np.full(len(t), 1e9),
    )
    assert late.reacts and not watched.reacts
    for method in ("compiled", "simpy"):
        a = simulate(open_loop, requests=watched, steps="full", method=method)
        b = simulate(open_loop, requests=late, steps="full")
        assert a.requests.equals(b.requests) and a.steps.equals(b.steps) and a.itl.equals(b.itl)
    assert len(plain.requests)


def test_everything_stands_in_the_file(tmp_path):
    t = table(
        {**BASE, "session": TALK, "tenants": {"a": 2.0, "b": 1.0}},
        {**BASE, "name": "jobs", "arrivals": {**LOOP, "duration_s": 50.0}},
    )
    for name in ("t.csv", "t.csv.gz", "t.parquet"):
        back = read_trace(write_trace(t, tmp_path / name))
        for column in (
            "arrival_s",
            "prompt_tokens",
            "output_tokens",
            "max_tokens",
            "priority",
            "session",
            "after",
            "wait_s",
            "pool",
            "until_s",
            "segment_start",
            "segment_stream",
            "segment_tokens",
        ):
            np.testing.assert_array_equal(getattr(back, column), getattr(t, column), err_msg=column)
        assert [back.classes[i] for i in back.traffic_class] == [t.classes[i] for i in t.traffic_class]
        assert [back.tenants[i] for i in back.tenant] == [t.tenants[i] for i in t.tenant]


def test_merged_classes_keep_their_chains():
    talk, jobs = {**BASE, "session": TALK}, {**BASE, "name": "jobs", "arrivals": LOOP}
    both, alone = table(jobs, talk), table(talk)
    mine = np.flatnonzero(both.traffic_class == 1)
    np.testing.assert_array_equal(both.prompt_tokens[mine], alone.prompt_tokens)
    back = {int(row): i for i, row in enumerate(mine)}
    assert [back.get(int(r), -1) for r in both.after[mine]] == alone.after.tolist()
    for row in mine[:200]:
        assert [(back[s - OWN_STREAM], n) for s, n in segments(both, row)] == [
            (s - OWN_STREAM, n) for s, n in segments(alone, back[int(row)])
        ]


def test_parts_of_sessions_are_refused(tmp_path):
    path = write_trace(table({**BASE, "session": TALK}), tmp_path / "t.csv")
    for change in ({"limit": 3}, {"sample": 0.5}, {"rate_scale": 2.0}, {"start_s": 5.0}):
        raw = {"workload": {"source": "trace", "path": str(path), **change}, "deployments": [H100]}
        with pytest.raises(ServelabError, match="depend on each other"):
            simulate(Scenario.of(raw))


@pytest.mark.parametrize(
    "columns, says",
    [
        (dict(after=[-1, 1]), "request 1: after must be -1, -2 or an earlier row, got 1"),
        (dict(after=[-1, -2]), "request 1: pool must be at least 0 with after -2, got -1"),
        (dict(after=[-1, 0], wait_s=[0.0, -1.0]), "request 1: wait_s must be at least 0 s, got -1.0"),
        (dict(after=[-1, 0], arrival_s=[0.0, 2.0]), r"request 1: arrival_s must be empty \(NaN\) with after, got 2.0"),
    ],
)
def test_bad_chains_are_refused(columns, says):
    given = {"arrival_s": [0.0, np.nan], "prompt_tokens": [5, 5], "output_tokens": [5, 5], **columns}
    with pytest.raises(ServelabError, match=says):
        RequestTable.from_columns(**{k: np.array(v) for k, v in given.items()})


def test_requests_do_not_count_sessions():
    with pytest.raises(ValueError, match="requests .5. does not say which"):
        SyntheticWorkload.model_validate({"classes": [{**BASE, "session": TALK}], "requests": 5})


def test_due_times_of_open_requests_come_first():
    t = RequestTable.from_columns(
        np.array([0.0, 1.0, np.nan]),
        np.ones(3, int),
        np.ones(3, int),
        after=np.array([-1, -1, 0]),
        wait_s=np.full(3, 0.5),
    )
    clients = Clients(t)
    assert clients.take() == 0
    clients.ended(0, 0.5, True)
    assert [(clients.due(), clients.take()) for _ in range(2)] == [(1.0, 1), (1.0, 2)] and clients.due() == np.inf


def test_round_robin_goes_by_what_is_sent():
    """Sessions of two turns: by rows, all first turns would go to one of two replicas."""
    talk = {**TALK, "turns": {"kind": "fixed", "tokens": 2}}
    raw = scenario({**BASE, "session": talk}, duration_s=200.0, replicas=2).to_mapping()
    q = simulate(Scenario.of({**raw, "router": {"kind": "round_robin"}})).requests
    sent = q.sort_values(["arrival_s", "request_id"])["replica"].to_numpy()
    assert (np.diff(sent) != 0).all()


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_stopped_run_keeps_what_it_reached(stop_at):
    """Ctrl-C: nothing ends after the time that was reached."""
    seen = []

    def interrupt(time_s, arrived):
        seen.append(time_s)
        if len(seen) == stop_at:
            raise KeyboardInterrupt

    loop = {**LOOP, "requests": 60_000, "concurrency": 40}
    run = simulate(scenario({**BASE, "arrivals": loop}, replicas=2), progress=interrupt)
    q = run.requests
    assert run.partial and 0 < len(q) < 60_000 and (q["state"] == State.IN_FLIGHT).sum() <= 40
    reached = float(run.meta["notes"][0].split("stopped at ")[1].split(" s")[0])
    assert q["end_s"].max() <= reached + 1e-3 and run.instances["end_s"].max() <= reached + 1e-3
