"""The front door: public names, subjects of a result, hints for misspelt names, made tables, contributing."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simulator
from simulator import Result, Scenario, ServelabError, simulate

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "extensions"))

import part_tables


@pytest.fixture(scope="module")
def result():
    return simulate(Scenario.load(ROOT / "examples" / "default.yaml", ["workload.duration_s=120"]))


def test_public_names_are_there_and_told_to_type_checkers():
    for name in simulator.__all__:
        assert getattr(simulator, name) is not None and name in dir(simulator)
    tree = ast.parse((ROOT / "simulator" / "__init__.py").read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    told = {alias.name for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert told == set(simulator.__all__)


def test_notebooks_need_no_other_name():
    for book in (ROOT / "notebooks").glob("*.ipynb"):
        found = re.findall(r"from (simulator[\w.]*) import", book.read_text())
        assert set(found) <= {"simulator", "simulator.widgets"}, book.name


def test_misspelt_names_get_the_nearest(result):
    with pytest.raises(AttributeError, match="no attribute 'Scenaro' .did you mean 'Scenario'"):
        _ = simulator.Scenaro
    with pytest.raises(AttributeError, match="a result has no 'requets' .did you mean 'requests'"):
        _ = result.requets
    with pytest.raises(AttributeError, match="no '_private'$"):
        _ = result._private
    for error in (ServelabError, KeyError):
        with pytest.raises(error, match="no column 'arrival' .did you mean 'arrival_s'"):
            _ = result.requests["arrival"]
        with pytest.raises(error, match="no column 'prompt_token' .did you mean 'prompt_tokens'"):
            _ = result.requests[["arrival_s", "prompt_token"]]
        with pytest.raises(error, match="no metric 'ttft' .did you mean 'ttft_s'"):
            result.metric("ttft")
        with pytest.raises(error, match="no statistic 'p98' .did you mean 'p9.'.*it has mean, min"):
            result.metric("ttft_s", "p98")
    with pytest.raises(KeyError):
        _ = result.requests[7]


def test_frames_derived_from_a_table_are_plain(result):
    assert type(result.requests[["arrival_s"]]) is pd.DataFrame and type(result.requests.copy()) is pd.DataFrame
    assert isinstance(result.requests, pd.DataFrame) and len(result.requests[result.requests["state"] == 1]) > 0


def test_subjects_say_what_the_old_names_say(result):
    summary = result.summary().set_index(["metric", "stat"])["value"]
    rows = pd.concat([result.latency(), result.throughput()]).set_index(["metric", "stat"])["value"]
    assert len(rows) == len(summary) - 3  # those of the SLO
    pd.testing.assert_series_equal(rows.sort_index(), summary[rows.index].sort_index())
    assert result.metric("ttft_s", "p99") == summary["ttft_s", "p99"] == result.latency.percentile("ttft_s", 99)
    pd.testing.assert_frame_equal(result.latency.by("window", 60.0), result.breakdown("window", 60.0))
    pd.testing.assert_frame_equal(result.latency.limits(), result.slo())
    pd.testing.assert_frame_equal(result.latency.waterfall(90), result.waterfall(90))
    pd.testing.assert_frame_equal(result.latency.stages(), result.stage_table())
    assert str(result.latency.explain(3)) == str(result.explain(3))
    assert result.throughput.counts() == result.counts() and result.throughput.state() == result.state()
    with pytest.raises(ServelabError, match="percent must lie between 0 and 100, got 101"):
        result.latency.percentile("ttft_s", 101)


def test_cost_and_trust(result):
    pd.testing.assert_frame_equal(result.cost(), simulator.cost_summary(result))
    pd.testing.assert_frame_equal(result.cost.bill(), simulator.bill(result))
    pd.testing.assert_frame_equal(result.cost.ledger(60.0), simulator.ledger(result, window_s=60.0))
    pd.testing.assert_frame_equal(result.cost.shares("deployment"), simulator.shares(result, "deployment"))
    power = simulator.PowerConfig(idle_w=60)
    pd.testing.assert_frame_equal(result.cost.energy(power), simulator.energy(result, power))
    assert np.isclose(result.cost.bill()["usd"].sum(), result.cost.ledger()["usd"].sum())
    assert result.cost.unbilled() == ["storage, egress, cluster fee, licences: no price given"]
    told = result.trust()
    assert told["deployment"].tolist() == ["chat"] and told["trust"].tolist() == ["roofline"]
    assert any("roofline estimate" in note for note in result.trust.notes) and result.trust.stamp == result.stamp


def test_a_loaded_result_has_its_subjects_too(result, tmp_path):
    again = Result.load(result.to_parquet(tmp_path / "r"))
    pd.testing.assert_frame_equal(again.latency(), result.latency())


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.stem)
def test_tables_made_from_the_code_are_those_of_the_code(page):
    text = page.read_text()
    assert part_tables.renewed(text) == text, "make tables"


def test_every_table_stands_somewhere():
    pages = "".join(p.read_text() for p in (ROOT / "docs").glob("*.md"))
    assert {name for _, name, _, _ in part_tables.BLOCK.findall(pages)} == set(part_tables.TABLES)


def test_every_part_says_when_one_needs_it():
    for made in ("_routers", "_admission", "_autoscalers", "_serving", "_step_times"):
        rows = getattr(part_tables, made)().splitlines()[2:]
        assert rows and all(re.match(r"\| `\w+` \| (When|For|To see|The default)", row) for row in rows), rows


def test_contributing_names_files_and_targets_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:simulator|calibration|data|tests|docs|examples)/[\w./]+)`", text))
    missing = [n for n in named if "NAME" not in n and not (ROOT / n).exists()]
    assert len(named) > 30 and missing == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {t for words in re.findall(r"`make ([a-z -]+)", text) for t in words.split()} <= targets
    for what in ("GPU", "model", "router", "autoscaler", "step-time model", "stage", "file format", "version of vLLM"):
        assert re.search(rf"^\| an? {what} \|", text, re.MULTILINE), what


def test_findings_have_the_form():
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    table = (ROOT / "findings" / "README.md").read_text()
    for script in scripts:
        text = script.read_text()
        form = ("# Guess:", "# Seen:", "# Matters:", "mktemp -d", "==", "trap")
        assert [word for word in form if word not in text] == [], script.name
        assert script.name == "FORM.sh" or f"[{script.stem}]" in table, script.name
    assert scripts
