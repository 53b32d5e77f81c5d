"""A generator for a trace: known generators are found again, real traces are met within stated bounds."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from simulator.command.app import app
from simulator.errors import ServelabError
from simulator.workload import SyntheticWorkload, generate
from simulator.workload.fit_arrivals import fit_arrivals, joined, loosened
from simulator.workload.fit_lengths import fit_length, histogram, likelihood, mixture
from simulator.workload.fitting import fit_workload
from simulator.workload.table import RequestTable
from simulator.workload.trace import read_trace, write_trace

TRACES = Path(__file__).parents[2] / "shared" / "data" / "traces"
LENGTHS = {
    "prompt_tokens": {"kind": "lognormal", "median": 400.0, "sigma": 0.9},
    "output_tokens": {"kind": "lognormal", "median": 90.0, "sigma": 0.5},
}


def synthetic(arrivals, duration_s=2000.0, seed=3, **more):
    config = {"duration_s": duration_s, "classes": [{"name": "x", "arrivals": arrivals, **LENGTHS, **more}]}
    return generate(SyntheticWorkload.model_validate(config), np.random.SeedSequence(seed))


def test_steps_of_the_rate_are_found():
    points = [[0.0, 4.0], [600.0, 20.0], [900.0, 8.0]]
    t = synthetic({"kind": "profile", "interpolation": "step", "points": points})
    found, facts = fit_arrivals(t.arrival_s, 2000.0)
    assert facts["steps"] == 3 and "cv" not in found
    for (time, rate), (there, real) in zip(found["points"], points, strict=True):
        assert abs(time - there) < 15 and rate == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("cv", [0.4, 1.0, 2.5])
def test_irregularity_is_found(cv):
    t = synthetic({"kind": "gamma", "rate_rps": 10.0, "cv": cv})
    found, _ = fit_arrivals(t.arrival_s, 2000.0)
    assert found["kind"] == ("poisson" if cv == 1 else "gamma") and found["rate_rps"] == pytest.approx(10, rel=0.1)
    assert found.get("cv", 1.0) == pytest.approx(cv, rel=0.08)


def test_a_poisson_process_has_no_steps_as_a_rule():
    steps = [
        fit_arrivals(synthetic({"kind": "poisson", "rate_rps": 5.0}, seed=s).arrival_s, 2000.0)[1]["steps"]
        for s in range(20)
    ]
    assert np.mean(np.array(steps) == 1) >= 0.7 and max(steps) <= 4


def test_coarse_times_are_spread():
    t = synthetic({"kind": "poisson", "rate_rps": 10.0})
    coarse, step = loosened(np.floor(t.arrival_s / 3) * 3, np.random.default_rng(0))
    assert step == pytest.approx(3.0) and fit_arrivals(coarse, 2000.0)[0]["kind"] == "poisson"
    fine, none = loosened(t.arrival_s, np.random.default_rng(0))
    assert none == 0.0 and fine is t.arrival_s


def test_joining_stops_at_the_penalty():
    assert joined(np.array([10, 10, 50, 50]), 1e9).tolist() == [0]
    assert joined(np.array([10, 10, 50, 50]), 0.0).tolist() == [0, 1, 2, 3]


def test_the_simplest_of_equals_is_taken():
    rng = np.random.default_rng(1)
    plain = np.rint(rng.lognormal(6, 0.8, 20_000)).clip(1)
    chosen, _ = fit_length(plain[::2], plain[1::2])
    assert (
        chosen["kind"] == "lognormal"
        and chosen["median"] == pytest.approx(np.exp(6), rel=0.02)
        and chosen["sigma"] == pytest.approx(0.8, rel=0.02)
    )
    two = np.rint(
        np.where(rng.random(20_000) < 0.3, rng.lognormal(3, 0.4, 20_000), rng.lognormal(7, 0.5, 20_000))
    ).clip(1)
    chosen, scores = fit_length(two[::2], two[1::2])
    assert (
        chosen["kind"] == "mixture"
        and len(chosen["parts"]) == 2
        and chosen["parts"][0]["weight"] == pytest.approx(0.3, abs=0.02)
    )
    assert scores["mixture of 2"] > scores["lognormal"] + 0.1
    spiky = np.where(rng.random(20_000) < 0.4, 1024, rng.integers(1, 4000, 20_000))
    chosen, _ = fit_length(spiky[::2], spiky[1::2])
    assert chosen["kind"] == "histogram" and 1024 in chosen["edges"] and 1025 in chosen["edges"]
    assert fit_length(np.full(9, 7), np.full(9, 7))[0] == {"kind": "fixed", "tokens": 7}


def test_likelihoods_are_of_whole_tokens():
    rng = np.random.default_rng(2)
    tokens = np.rint(rng.lognormal(3, 0.7, 5000)).clip(1).astype(int)
    for config in (mixture(tokens, 1), mixture(tokens, 2), histogram(tokens)):
        assert np.exp(likelihood(config, np.arange(1, tokens.max() + 1))).sum() == pytest.approx(1.0, abs=0.01)


def test_system_prompts_are_found():
    t = synthetic({"kind": "poisson", "rate_rps": 5.0}, shared_prefix={"groups": 3, "tokens": 500, "share": 0.6})
    found = fit_workload(t)
    one = found.mapping["classes"][0]["shared_prefix"]
    assert (one["groups"], one["tokens"]) == (3, 500) and one["share"] == pytest.approx(0.6, abs=0.02)
    assert found.sample.prompt_tokens.mean() == pytest.approx(t.prompt_tokens.mean(), rel=0.05)


def quality(found):
    return found.quality.set_index("measure")


@pytest.mark.parametrize("name", ["azure_llm_2023_conv.csv", "azure_llm_2023_code.csv", "mooncake_conversation.jsonl"])
def test_real_traces(name):
    path = TRACES / name
    if not path.is_file():
        pytest.skip(f"no trace {name} beside the project")
    found = fit_workload(read_trace(path))
    q = quality(found)
    for measure in ("rate", "prompt, mean", "prompt, p50", "output, mean", "output, p50"):
        assert abs(q.loc[measure, "difference"]) < 0.06, measure
    assert q.loc["Kolmogorov-Smirnov distance, prompt", "generator"] < 0.025
    assert q.loc["Kolmogorov-Smirnov distance, output", "generator"] < 0.025
    assert abs(q.loc["dispersion of counts in 10 s", "difference"]) < 0.35
    assert q.loc["dispersion of counts in 10 s", "trace"] > 1.4  # a Poisson process would miss it
    if "mooncake" in name:
        assert any("steps of 2.9" in n or "steps of 3" in n for n in found.notes) and any(
            "37.4%" in n for n in found.notes
        )


def test_a_wrong_generator_shows():
    """The quality table tells a Poisson process from what it is held against."""
    t = synthetic({"kind": "gamma", "rate_rps": 10.0, "cv": 3.0})
    q = quality(fit_workload(t))
    assert abs(q.loc["cv of intervals", "difference"]) < 0.1
    assert q.loc["dispersion of counts in 10 s", "trace"] > 4


def test_command(tmp_path):
    path = write_trace(synthetic({"kind": "poisson", "rate_rps": 5.0}, 600.0), tmp_path / "trace.csv")
    out, picture = tmp_path / "w.yaml", tmp_path / "fit.png"
    call = CliRunner().invoke(app, ["fit-workload", str(path), "--out", str(out), "--report", str(picture)])
    assert (
        call.exit_code == 0 and "Kolmogorov-Smirnov distance, prompt" in call.output and picture.stat().st_size > 10_000
    )
    config = SyntheticWorkload.model_validate(yaml.safe_load(out.read_text())["workload"])
    assert config.classes[0].name == "trace"
    said = json.loads(CliRunner().invoke(app, ["fit-workload", str(path), "--json"]).output)
    assert said["workload"]["source"] == "synthetic" and len(said["quality"]) > 15


@pytest.mark.parametrize(
    "table, says",
    [
        (
            RequestTable.from_columns(np.arange(9.0), np.ones(9, int), np.ones(9, int)),
            "has 9 requests, a fit needs at least 50",
        ),
        (RequestTable.from_columns(np.zeros(60), np.ones(60, int), np.ones(60, int)), "above 0"),
        (
            RequestTable.from_columns(np.arange(60.0), np.ones(60, int), np.ones(60, int), until_s=np.full(60, 99.0)),
            "wait for answers",
        ),
    ],
)
def test_what_cannot_be_fitted(table, says):
    with pytest.raises(ServelabError, match=says):
        fit_workload(table)
