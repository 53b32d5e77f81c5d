"""The pages are true: their examples run, and every block that does not run says why."""

import re
import shutil
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest
from doc_examples import ROOT, parsed, shorter
from sybil.evaluators.skip import Skipper

from simulator.workload import AzureConversation, generate, write_trace

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
LANGUAGES = {"python", "sh", "yaml", "json", "text"}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


def examples(page: Path) -> list:
    return list(parsed(page))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a reader has: the examples, shortened, and logs of his own."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for file in (tmp_path / "examples").iterdir():
        file.write_text(shorter(file.read_text()))
    table = generate(AzureConversation(rate_rps=2.0, duration_s=300.0), np.random.SeedSequence(5))
    write_trace(table, tmp_path / "trace.csv")
    columns = zip(table.arrival_s, table.prompt_tokens, table.output_tokens, strict=True)
    rows = [f"{t:.3f},{p},{o}" for t, p, o in columns]
    (tmp_path / "access.csv").write_text("\n".join(["ts,in,out", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "tutorial" and examples(p)], ids=lambda p: p.stem)
def test_examples_run(page, folder):
    for example in parsed(page):
        try:
            example.evaluate()
        except SkipTest:
            continue


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_block_that_is_not_run_says_why(page):
    for example in parsed(page):
        if isinstance(example.region.evaluator, Skipper):
            action, reason = example.parsed
            assert action == "next" and re.fullmatch(r'"\w[^"]{9,}"', reason or ""), example


@pytest.mark.parametrize("page", DOCS, ids=_name)
def test_every_block_has_a_language(page):
    opened = re.findall(r"^```([^\n]*)\n.*?^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert {word for word in opened if not word.startswith("{")} <= LANGUAGES  # {...} is a directive


def test_links_of_the_readme():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert len(targets) > 10 and [t for t in targets if not (ROOT / t).is_file()] == []


def test_the_tutorial_goes_all_the_way(folder):
    for example in parsed(ROOT / "docs" / "tutorial.md"):
        example.evaluate()
    record = (folder / "decision.md").read_text()
    assert record.startswith("# Decision record") and "## Alternatives and why not" in record
    assert record == (folder / "plan" / "decision.md").read_text()  # command line and Python give the same
