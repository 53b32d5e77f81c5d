"""What can be done to a trace before it is replayed; seeds are fixed, tolerances four standard errors."""

import json
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from simulator.errors import ServelabError
from simulator.workload import RequestTable, SyntheticWorkload, TraceWorkload, generate, write_trace
from simulator.workload.transforms import bootstrap, rescale, take, thin

SEED = np.random.SeedSequence(0)
HOURS = 10


@pytest.fixture(scope="module")
def table() -> RequestTable:
    """Ten hours at 0.5, 1.0, 1.5, ... request/s, a tenth of them with a system prompt."""
    points = [[3600.0 * h, 0.5 + 0.5 * h] for h in range(HOURS)]
    one = {
        "arrivals": {"kind": "profile", "points": points, "interpolation": "step"},
        "prompt_tokens": {"kind": "uniform", "min": 1, "max": 10_000},
        "output_tokens": {"kind": "uniform", "min": 1, "max": 100},
        "shared_prefix": {"groups": 2, "tokens": 50, "share": 0.1},
    }
    config = {"duration_s": 3600.0 * HOURS, "classes": [one]}
    return generate(SyntheticWorkload.model_validate(config), np.random.SeedSequence(5))


@pytest.fixture(scope="module")
def path(table, tmp_path_factory):
    return write_trace(table, tmp_path_factory.mktemp("trace") / "t.parquet")


def same(a: RequestTable, b: RequestTable) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in RequestTable.__dataclass_fields__)


def replay(path, seed=SEED, **config):
    out = generate(TraceWorkload.model_validate({"path": str(path)} | config), seed)
    out.check()
    return out


def test_take_keeps_rows_whole(table):
    assert same(take(table, np.arange(len(table))), table)
    assert same(take(table, np.arange(100, 300)), table.slice(100, 300))
    shared = np.flatnonzero(np.diff(table.segment_start))[:5]
    assert np.array_equal(take(table, shared).segment_stream, table.segment_stream[:5])


def test_sample_thins(table, path):
    out = replay(path, sample=0.3)
    n = len(table)
    assert len(out) == pytest.approx(0.3 * n, abs=4 * np.sqrt(0.21 * n))
    assert np.isin(out.arrival_s, table.arrival_s).all()
    place = np.searchsorted(table.arrival_s, out.arrival_s)
    assert np.array_equal(table.prompt_tokens[place], out.prompt_tokens)
    assert same(replay(path, sample=0.3), out)
    assert not same(replay(path, sample=0.3, seed=np.random.SeedSequence(1)), out)
    larger = thin(table, 0.5, np.random.default_rng(2))
    assert np.isin(thin(table, 0.2, np.random.default_rng(2)).arrival_s, larger.arrival_s).all()


def test_a_thinned_poisson_process_is_poisson():
    columns = np.cumsum(np.random.default_rng(0).exponential(1.0, 40_000)), np.ones(40_000), np.ones(40_000)
    interval = np.diff(thin(RequestTable.from_columns(*columns), 0.25, np.random.default_rng(1)).arrival_s)
    assert stats.kstest(interval, "expon", args=(0, 4.0)).pvalue > 0.001


def test_rescaled_to_a_rate(table, path):
    out = replay(path, rate_rps=20.0, end_s=3600.0 * HOURS)
    assert len(out) == len(table)
    factor = len(table) / (3600 * HOURS) / 20
    assert out.arrival_s == pytest.approx(table.arrival_s * factor)
    part = replay(path, rate_rps=2.0, start_s=7200.0, end_s=10_800.0)
    assert part.arrival_s[-1] == pytest.approx(len(part) / 2, rel=0.01)
    assert np.array_equal(replay(path, rate_rps=20.0, limit=7).arrival_s, replay(path, rate_rps=20.0).arrival_s[:7])


def test_scale_is_as_before(table, path):
    assert np.array_equal(replay(path, rate_scale=4.0).arrival_s, table.arrival_s / 4)


def test_bootstrap_lays_whole_blocks_end_to_end(table, path):
    out = replay(path, bootstrap={"block_s": 3600.0}, end_s=3600.0 * HOURS)
    edges = np.searchsorted(table.arrival_s, np.arange(HOURS + 1) * 3600.0)
    hours = np.searchsorted(out.arrival_s, np.arange(HOURS + 1) * 3600.0)
    sources = []
    for a, b in pairwise(hours):
        match = [
            k
            for k in range(HOURS)
            if np.array_equal(out.prompt_tokens[a:b], table.prompt_tokens[edges[k] : edges[k + 1]])
        ]
        assert len(match) == 1
        k = match[0]
        inside = table.arrival_s[edges[k] : edges[k + 1]] - 3600 * k
        assert out.arrival_s[a:b] - 3600 * len(sources) == pytest.approx(inside, abs=1e-6)
        sources.append(k)
    assert len(set(sources)) < HOURS  # ten draws of ten with replacement: all different once in 2756


def test_bootstrap_has_the_mean_and_the_spread_of_its_blocks(table):
    hour = np.histogram(table.arrival_s, np.arange(HOURS + 1) * 3600.0)[0]
    counts = [len(bootstrap(table, 3600.0 * HOURS, 3600.0, None, np.random.default_rng(s))) for s in range(200)]
    spread = hour.std() * np.sqrt(HOURS)
    assert np.mean(counts) == pytest.approx(hour.sum(), abs=4 * spread / np.sqrt(200))
    assert np.std(counts) == pytest.approx(spread, rel=4 / np.sqrt(400))


def test_bootstrap_length_and_seed(path):
    out = replay(path, bootstrap={"block_s": 1800.0, "duration_s": 100_000.0})
    assert 99_000 < out.arrival_s[-1] < 100_000
    assert same(replay(path, bootstrap={"block_s": 1800.0, "duration_s": 100_000.0}), out)
    assert not same(
        replay(path, bootstrap={"block_s": 1800.0, "duration_s": 100_000.0}, seed=np.random.SeedSequence(1)), out
    )


def test_bootstrap_copies_of_a_conversation_share_nothing_but_the_system_prompt():
    n = 40  # four blocks of ten rows: stream 0 everywhere, stream 1 + block in one block only
    table = RequestTable.from_columns(
        np.arange(n) * 1.0,
        np.full(n, 20),
        np.ones(n),
        segment_start=np.arange(n + 1) * 2,
        segment_stream=np.column_stack((np.zeros(n), 1 + np.arange(n) // 10)).ravel(),
        segment_tokens=np.full(2 * n, 8),
    )
    out = bootstrap(table, 40.0, 10.0, 200.0, np.random.default_rng(0))
    stream = out.segment_stream.reshape(-1, 2)
    assert len(out) == 200 and set(stream[:, 0]) == {0}
    own = stream[:, 1].reshape(20, 10)
    assert all(len(set(row)) == 1 for row in own) and len(set(own[:, 0])) == 20
    out.check()


def test_two_million_requests_in_under_five_seconds(path):
    import time

    began = time.perf_counter()
    out = replay(path, bootstrap={"block_s": 600.0, "duration_s": 1_000_000.0}, sample=0.99, rate_rps=5.0)
    assert len(out) > 2_000_000
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({"sample": 0.0}, ValidationError, "greater than 0"),
        ({"sample": 1.5}, ValidationError, "less than or equal to 1"),
        ({"rate_rps": 0.0}, ValidationError, "greater than 0"),
        (
            {"rate_rps": 2.0, "rate_scale": 2.0},
            ValidationError,
            r"give rate_rps \(2.0\) or rate_scale \(2.0\), not both",
        ),
        ({"bootstrap": {"block_s": 0.0}}, ValidationError, "greater than 0"),
        ({"bootstrap": {}}, ValidationError, "Field required"),
        (
            {"bootstrap": {"block_s": 20_000.0}},
            ServelabError,
            r"bootstrap.block_s must be at most half of the 3\d+.\d+ s .*, got 20000.0",
        ),
        (
            {"bootstrap": {"block_s": 10.0, "duration_s": 1e12}},
            ServelabError,
            "requests would result, at most 1e.08 can be held",
        ),
        ({"limit": 1, "sample": 1e-12}, ServelabError, "no request is left of sample 1e-12"),
    ],
)
def test_bad_transforms_are_refused(path, config, error, says):
    with pytest.raises(error, match=says):
        replay(path, **config)


def test_a_burst_at_one_moment_has_no_rate():
    table = RequestTable.from_columns(np.zeros(3), np.ones(3), np.ones(3))
    with pytest.raises(ServelabError, match="all 3 requests arrive at once"):
        rescale(table, 0.0, 2.0)


def test_fields_survive_json():
    config = TraceWorkload.model_validate(
        {"path": "a", "sample": 0.5, "bootstrap": {"block_s": 3600.0}, "rate_rps": 2.0}
    )
    assert TraceWorkload.model_validate(json.loads(config.model_dump_json())) == config
