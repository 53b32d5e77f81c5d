"""servelab: simulate, calibrate and price an LLM deployment before buying the GPUs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.errors import ServelabError
    from simulator.results.comparison import compare
    from simulator.results.result import Result
    from simulator.scenario import Scenario
    from simulator.simulation import simulate

__all__ = ["Result", "Scenario", "ServelabError", "compare", "simulate"]

_HOME = {
    "compare": "simulator.results.comparison",
    "Result": "simulator.results.result",
    "Scenario": "simulator.scenario",
    "ServelabError": "simulator.errors",
    "simulate": "simulator.simulation",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'simulator' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
