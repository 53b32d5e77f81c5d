"""90 % intervals on 58 held-out load tests of real vLLM on CPUs; docs/accuracy.md has the figures with 40 worlds."""

from pathlib import Path

from calibration.judge.coverage import coverage, summary

ROWS = Path(__file__).parent / "data/cpu-vllm-0.32"


def test_intervals_hold_on_load_tests_that_told_them_nothing():
    found = summary(coverage(ROWS, worlds=12)).set_index("metric")
    assert (found["loads"] >= 50).all()
    assert (
        found.loc[["ttft_s", "tpot_s", "e2el_s"], "share"] >= 0.75
    ).all()  # 12 worlds give narrower intervals than 40
    assert found.loc["requests_per_s", "share"] >= 0.65
    assert (found["median_width"] < [1.8, 0.55, 1.3, 0.12]).all()
