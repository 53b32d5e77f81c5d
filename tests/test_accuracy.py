"""The rows that `make accuracy` measured, judged again: what docs/accuracy.md says of real vLLM on CPUs.

A figure holds if its error is at most 5 % (p99: 10 %) or what repeats of the measurement differ, whichever is larger.
Those that do not hold are named here, as in the docs: a test that lets them pass silently would be worth nothing.
"""

from pathlib import Path

import pandas as pd
import pytest

from calibration.commands.accuracy import LIMIT, P99_LIMIT, judge, lines_of
from calibration.judge.compare_runs import headline, within
from simulator.catalog.profile import load_profiles

ROWS = Path(__file__).parent / "data/cpu-vllm-0.32"
CALIBRATED = ("llama-2l-512h", "llama-4l-256h")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judge(ROWS, tmp_path_factory.mktemp("judged"), load_profiles()["cpu-llama-2l-512h"].gpu)


def misses(table):
    """(level, metric, statistic) of the headline figures with repeats that do not hold."""
    out = set()
    for row in headline(table).itertuples(index=False):
        limit = P99_LIMIT if row.statistic == "p99" else LIMIT
        if row.repeats > 1 and not within(pd.Series(row._asdict()), limit):
            out.add((row.level, row.metric, row.statistic))
    return out


def test_loads_at_other_rates_and_lengths(judged):
    assert misses(judged.tables["llama-2l-512h"]) <= set()
    small = misses(judged.tables["llama-4l-256h"])
    assert {level for level, *_ in small} <= {"mix-110%"}


def test_each_load_is_three_times_at_least_500_requests(judged):
    for name in CALIBRATED:
        rows = headline(judged.tables[name])
        loads = rows[rows["repeats"] > 1]
        assert set(loads["level"]) == {"mix-50%", "mix-85%", "mix-110%", "other-85%"}
        assert (loads["repeats"] == 3).all() and (loads["count"][loads["metric"] == "ttft_s"] >= 1500).all()


def test_prefix_cache_finds_what_vllm_found(judged):
    assert len(judged.cached) == 3 and (judged.cached["same"] == 1.0).all()
    assert (judged.cached["simulated"] == judged.cached["measured"]).all() and (
        judged.cached["measured"] > 10_000
    ).all()


def test_a_pool_that_preempts(judged):
    assert misses(judged.tables["preempting"]) == set()


def test_configurations_are_ranked_as_measured(judged):
    assert len(judged.choices) == 12
    assert judged.tau() >= TAU and judged.regret() <= 0.05


TAU = 0.7


def test_what_the_docs_say_is_what_is_printed(judged):
    text = "\n".join(lines_of(judged))
    assert "Kendall tau" in text and "MISSED" in text


def test_shipped_cpu_profiles_come_from_these_rows(judged):
    for name in CALIBRATED:
        shipped, made = load_profiles()[f"cpu-{name}"], judged.calibrations[name].profile
        assert shipped.step_time["kind"] == made.step_time["kind"] and len(shipped.errors) == len(made.errors)
        for key, value in made.step_time.items():
            if isinstance(value, float):
                assert shipped.step_time[key] == pytest.approx(value, rel=1e-3)
