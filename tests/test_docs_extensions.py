"""What the site makes from the code: examples of its own modules, and no meaning of a field that is gone."""

import doctest
import importlib
from pathlib import Path

import pytest

from simulator import Scenario

EXTENSIONS = Path(__file__).parents[1] / "docs" / "extensions"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENSIONS))


@pytest.mark.parametrize("name", sorted(p.stem for p in EXTENSIONS.glob("*.py")))
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_meanings_are_of_fields_that_exist():
    meanings = importlib.import_module("meanings").MEANINGS
    found = importlib.import_module("schema_parts").parts(Scenario.model_json_schema())
    fields = {
        text for part in found.values() for row in part.rows for text in (row.name, f"{part.name}.{row.name}")
    }
    assert set(meanings) <= fields


def test_units_are_those_of_the_fields():
    found = importlib.import_module("schema_parts").parts(Scenario.model_json_schema())
    unit = {(part.name, row.name): row.unit for part in found.values() for row in part.rows}
    assert unit["SloConfig", "ttft_s"] == "s" and unit["PoissonWorkload", "rate_rps"] == "request/s"
    assert (
        unit["GpuSpec", "memory_bytes"] == "byte"
        and unit["PricesConfig", "usd_per_gpu_hour"] == "USD/GPU/hour"
    )
    limits = {row.name: row.limits for row in found["Deployment"].rows}
    assert limits["step_time_factor"] == "> 0, ≤ 100"
