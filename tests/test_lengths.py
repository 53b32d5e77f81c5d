"""Lengths and presets of the source ``synthetic``: against theory, and against the traces they are from."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from scipy.integrate import trapezoid

from simulator.workload import LengthConfig, SyntheticWorkload, generate, read_trace
from simulator.workload.lengths import draw_joint_lengths, draw_lengths
from simulator.workload.presets import BASES, preset, preset_rows
from simulator.workload.processes import ArrivalConfig

ARRIVALS: TypeAdapter = TypeAdapter(ArrivalConfig)
LENGTH: TypeAdapter = TypeAdapter(LengthConfig)
FIXED = {"kind": "fixed", "tokens": 10}
N = 40_000


def draws(config, n=N, seed=3):
    return draw_lengths(LENGTH.validate_python(config), n, np.random.default_rng(seed))


PRESETS = ("chat", "code_completion", "document_chat", "rag", "summarisation", "reasoning", "agentic", "batch")


def test_histogram():
    value = draws({"kind": "histogram", "edges": [1, 5, 10, 100, 200], "counts": [1.0, 0.0, 3.0, 0.0]})
    assert set(value[value < 10]) == {1, 2, 3, 4} and value.max() == 99 and value[value > 4].min() == 10
    assert np.mean(value < 10) == pytest.approx(0.25, abs=4 * 0.5 / np.sqrt(N))
    inside = value[value >= 10]
    assert inside.mean() == pytest.approx(54.5, abs=4 * 26 / np.sqrt(len(inside)))


def test_bounded_pareto():
    value = draws({"kind": "pareto", "alpha": 1.1, "min": 100, "max": 100_000})
    law = stats.truncpareto(1.1, 1000, scale=100)
    assert stats.kstest(value, law.cdf).statistic < 1.95 / np.sqrt(N) + 0.006  # rounding moves the smallest by 0.6 %
    assert value.min() == 100 and value.max() > 50_000
    assert set(draws({"kind": "pareto", "alpha": 1.0, "min": 7, "max": 7}, 10)) == {7}


def test_lognormal_mixture():
    parts = [{"weight": 3.0, "median": 200.0, "sigma": 0.5}, {"weight": 1.0, "median": 6000.0, "sigma": 1.0}]
    value = draws({"kind": "mixture", "parts": parts, "max": 1_000_000})

    def cdf(x):
        return sum(p["weight"] / 4 * stats.lognorm(p["sigma"], scale=p["median"]).cdf(x) for p in parts)

    assert stats.kstest(value, cdf).statistic < 1.95 / np.sqrt(N) + 0.004
    bound = draws({"kind": "mixture", "parts": parts, "min": 150, "max": 900})
    assert (bound.min(), bound.max()) == (150, 900)
    assert np.mean(bound == 900) == pytest.approx(1 - cdf(899.5), abs=4 * 0.5 / np.sqrt(N))


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.3, 0.95])
def test_rank_correlation(correlation):
    prompt = LENGTH.validate_python({"kind": "lognormal", "median": 2000.0, "sigma": 1.0})
    output = LENGTH.validate_python({"kind": "pareto", "alpha": 0.8, "min": 500, "max": 50_000})
    a, b = draw_joint_lengths(prompt, output, correlation, N, np.random.default_rng(4))
    assert stats.spearmanr(a, b).statistic == pytest.approx(correlation, abs=4 / np.sqrt(N))
    assert np.median(a) == pytest.approx(2000, rel=0.03)
    alone, _ = draw_joint_lengths(prompt, output, 0.0, N, np.random.default_rng(4))
    assert np.array_equal(a, alone)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"kind": "histogram", "edges": [1, 5], "counts": [1.0, 2.0]}, r"one more than counts \(3\), got 2"),
        ({"kind": "histogram", "edges": [5, 5], "counts": [1.0]}, r"edges must rise, got \[5, 5\]"),
        ({"kind": "histogram", "edges": [1, 5], "counts": [0.0]}, "more than 0"),
        ({"kind": "pareto", "alpha": 1.0, "min": 9, "max": 5}, r"max must be at least min \(9\), got 5"),
        ({"kind": "pareto", "alpha": 0.0, "min": 1, "max": 5}, "greater than 0"),
        ({"kind": "mixture", "parts": []}, "at least 1 item"),
    ],
)
def test_bad_lengths_are_refused(config, says):
    with pytest.raises(ValidationError, match=says):
        LENGTH.validate_python(config)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_generates(name):
    one = {"preset": name, "arrivals": {"kind": "poisson", "rate_rps": 5.0}}
    config = SyntheticWorkload.model_validate({"requests": 5000, "classes": [one]})
    assert config.classes[0].name == name
    assert SyntheticWorkload.model_validate(config.model_dump(exclude_none=True)) == config
    table = generate(config, np.random.SeedSequence(0))
    assert len(table) == 5000 and table.prompt_tokens.max() > 1000
    own = SyntheticWorkload.model_validate(
        {"requests": 5, "classes": [one | {"output_tokens": FIXED, "shared_prefix": None}]}
    )
    assert own.classes[0].output_tokens.tokens == 10 and own.classes[0].shared_prefix is None


def test_every_figure_of_a_preset_has_a_unit_a_basis_a_source_and_a_date():
    assert tuple(preset_rows()) == PRESETS
    for row in (row for rows in preset_rows().values() for row in rows):
        assert row["basis"] in BASES and len(row["source"]) > 20 and len(row["date"]) == 10, dict(row)
        assert (row["basis"] == "assumption") == row["source"].startswith("assumption"), dict(row)
        assert row["unit"] in ("token", "count", ""), dict(row)


@pytest.mark.parametrize(
    ("name", "trace"),
    [
        ("chat", "azure_llm_2023_conv.csv"),
        ("code_completion", "azure_llm_2023_code.csv"),
        ("document_chat", "mooncake_conversation.jsonl"),
    ],
)
def test_fitted_presets_are_the_quantiles_of_their_traces(name, trace):
    path = Path(__file__).parents[2] / "shared" / "data" / "traces" / trace
    if not path.is_file():
        pytest.skip(f"the trace {trace} is not here")
    table, fields = read_trace(path), preset(name)
    for column in ("prompt_tokens", "output_tokens"):
        real = getattr(table, column)
        assert np.array_equal(np.rint(np.quantile(real, fields[column]["levels"])), fields[column]["values"])
        mean = trapezoid(fields[column]["values"], fields[column]["levels"])  # of what is drawn
        assert mean == pytest.approx(real.mean(), rel=0.02), column
    assert fields["correlation"] == round(stats.spearmanr(table.prompt_tokens, table.output_tokens).statistic, 3)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ValidationError, match=r"unknown preset 'summarization' \(did you mean 'summarisation'\?\)"):
        SyntheticWorkload.model_validate({"requests": 1, "classes": [{"preset": "summarization"}]})
