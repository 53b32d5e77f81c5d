import doctest
import importlib
import pkgutil

import pytest

import calibration
import simulator

MODULES = [
    m.name
    for package in (simulator, calibration)
    for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not m.name.endswith(("vllm_worker", "vllm_recorder", "vllm_oracle", "live_schedule"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_some_are_there():
    examples = sum(
        len(t.examples) for name in MODULES for t in doctest.DocTestFinder().find(importlib.import_module(name))
    )
    assert examples > 80
