"""servelab: simulate, calibrate and price an LLM deployment before buying the GPUs.

What a notebook needs is here, by subject, and imported on first use, so that the command answers at once. Everything
else is internal and may change.
"""

# ruff: noqa: F401 (names for readers and type checkers; they are imported on first use)

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator import charts
    from simulator.catalog import find_gpu, find_model, load_prices
    from simulator.catalog.profile import find_profile
    from simulator.cost.bill import COSTS, HOURS_PER_MONTH, bill, cost_summary
    from simulator.cost.energy import PowerConfig, carbon_kg, energy, find_grid
    from simulator.cost.ledger import ledger, shares
    from simulator.cost.lines import unbilled
    from simulator.errors import ServelabError
    from simulator.export.decision import as_html, as_markdown, headline
    from simulator.planner.capacity import Capacity, capacity
    from simulator.planner.designs import Claim, why_not
    from simulator.planner.intervals import intervals, trust_of
    from simulator.planner.plan import Plan, plan
    from simulator.planner.plan_file import PlanFile
    from simulator.planner.runs import Runs
    from simulator.planner.sensitivity import sensitivity
    from simulator.planner.sweep import sweep, with_fields
    from simulator.planner.worlds import Uncertainty
    from simulator.pricing.api import api_cost_usd, break_even, find_api_price
    from simulator.pricing.commitments import break_even_use, effective_usd_per_hour, find_commitment, upfront_usd
    from simulator.pricing.onpremises import OnPremises, annuity_usd, capital_recovery_factor, cumulative, monthly
    from simulator.records.metrics import column, completed, latency
    from simulator.records.tables import State
    from simulator.report import write_report
    from simulator.results.comparison import compare
    from simulator.results.result import Result
    from simulator.scenario import Scenario
    from simulator.simulation import simulate
    from simulator.widgets import explore
    from simulator.workload import AzureConversation, RequestTable, generate, read_trace, write_trace
    from simulator.workload.fitting import FittedWorkload, fit_workload

# subject -> module -> names, in the order of the reference
PUBLIC: dict[str, dict[str, str]] = {
    "Simulate": {
        "simulator.scenario": "Scenario",
        "simulator.simulation": "simulate",
        "simulator.results.result": "Result",
        "simulator.results.comparison": "compare",
        "simulator.errors": "ServelabError",
        "simulator.records.metrics": "latency completed column",
        "simulator.records.tables": "State",
    },
    "Traffic": {
        "simulator.workload": "generate read_trace write_trace RequestTable AzureConversation",
        "simulator.workload.fitting": "fit_workload FittedWorkload",
    },
    "Catalog": {"simulator.catalog": "find_gpu find_model load_prices", "simulator.catalog.profile": "find_profile"},
    "Plan": {
        "simulator.planner.sweep": "sweep with_fields",
        "simulator.planner.capacity": "capacity Capacity",
        "simulator.planner.plan": "plan Plan",
        "simulator.planner.designs": "Claim why_not",
        "simulator.planner.worlds": "Uncertainty",
        "simulator.planner.intervals": "intervals trust_of",
        "simulator.planner.sensitivity": "sensitivity",
        "simulator.planner.plan_file": "PlanFile",
        "simulator.planner.runs": "Runs",
        "simulator.export.decision": "headline as_markdown as_html",
    },
    "Cost": {
        "simulator.cost.bill": "bill cost_summary COSTS HOURS_PER_MONTH",
        "simulator.cost.ledger": "ledger shares",
        "simulator.cost.lines": "unbilled",
        "simulator.pricing.commitments": "find_commitment effective_usd_per_hour upfront_usd break_even_use",
        "simulator.pricing.api": "find_api_price api_cost_usd break_even",
        "simulator.pricing.onpremises": "OnPremises capital_recovery_factor annuity_usd monthly cumulative",
        "simulator.cost.energy": "PowerConfig energy find_grid carbon_kg",
    },
    "Show": {"simulator.charts": "charts", "simulator.report": "write_report", "simulator.widgets": "explore"},
}
_HOME = {name: module for parts in PUBLIC.values() for module, names in parts.items() for name in names.split()}

__all__ = [*_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from simulator.errors import nearest

        close = "" if name.startswith("_") else nearest(name, _HOME)
        raise AttributeError(f"module 'simulator' has no attribute {name!r}{close}")
    module = import_module(_HOME[name])
    return module if name == "charts" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
