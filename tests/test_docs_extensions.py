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


def test_no_meaning_is_given_that_the_scenario_has_itself(monkeypatch):
    schema_parts, used = importlib.import_module("schema_parts"), set()

    class Seen(dict):
        def get(self, key, default=None):
            used.update({key} & self.keys())
            return super().get(key, default)

    monkeypatch.setattr(schema_parts, "MEANINGS", Seen(schema_parts.MEANINGS))
    schema_parts.parts(Scenario.model_json_schema())
    assert set(schema_parts.MEANINGS) == used


def test_units_are_those_of_the_fields():
    found = importlib.import_module("schema_parts").parts(Scenario.model_json_schema())
    unit = {(part.name, row.name): row.unit for part in found.values() for row in part.rows}
    assert unit["SloConfig", "ttft_s"] == "s" and unit["PoissonWorkload", "rate_rps"] == "request/s"
    assert unit["GpuSpec", "memory_bytes"] == "byte" and unit["PricesConfig", "usd_per_gpu_hour"] == "USD/GPU/hour"
    limits = {row.name: row.limits for row in found["Deployment"].rows}
    assert limits["step_time_factor"] == "> 0, ≤ 100"
