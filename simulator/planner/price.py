"""What a fleet costs an hour before anything is simulated: machines that are always there, and what comes with them."""

import math
from typing import Any

import numpy as np

from simulator.cost.bill import bill
from simulator.cost.rentals import Rental, rentals
from simulator.pricing.price_table import own_rows
from simulator.records.tables import empty
from simulator.results.result import Result
from simulator.run.notes import facts
from simulator.run.resolved import Resolved, resolve_deployment
from simulator.scenario import Scenario
from simulator.simulation import stages_of

HOUR_S = 3600.0


def fleet_usd_per_hour(scenario: Scenario) -> float:
    """USD an hour of ``scenario`` with the pods and nodes of its start: the bill of an hour without requests.

    Machines, licences, cluster fee, storage and stages are in it; egress and a paid API, which depend on the requests,
    are not. With an autoscaler that is what it costs before it scales. Raises ServelabError for a GPU without a price.
    """
    return math.fsum(bill(at_start(scenario))["usd"])


def gpu_prices(scenario: Scenario) -> list[Rental]:
    """The machines, or GPUs at your own price, that ``scenario`` is priced with: one rental for each kind and way of
    buying."""
    run = at_start(scenario, least=1)
    return list({(r.what, r.usd_per_unit_hour): r for r in rentals(run, scenario.prices)}.values())


def at_start(scenario: Scenario, least: int = 0) -> Result:
    """An hour of the pods and nodes that ``scenario`` starts with, ``least`` of each at least, as records: nothing
    is simulated."""
    found = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
    meta = {
        "scenario": scenario.to_mapping(),
        "prices": scenario.prices.model_dump(),
        "price_rows": own_rows(scenario.prices, scenario.base_dir),
        "deployments": [facts(r, None) for r in found],
        "stages": stages_of(scenario),
    }
    return Result.from_columns(meta, {"instances": _pods(found, least), "nodes": _nodes(scenario, least)})


def _pods(found: list[Resolved], least: int) -> dict[str, Any]:
    rows = [(i, place, r) for i, r in enumerate(found) for place in range(max(r.config.replicas, least))]
    out = empty("instances", len(rows))
    for k, (i, place, r) in enumerate(rows):
        out["deployment"][k], out["replica"][k], out["gpu"][k], out["gpus"][k] = i, place, r.gpu.name, r.gpus
    return _for_an_hour(out)


def _nodes(scenario: Scenario, least: int) -> dict[str, Any]:
    rows = [p for p in (scenario.nodes.pools if scenario.nodes else ()) for _ in range(max(p.start_nodes, least))]
    out = empty("nodes", len(rows))
    out["node"] = np.arange(len(rows))
    for k, p in enumerate(rows):
        out["pool"][k], out["gpu"][k], out["gpus"][k] = p.name, p.spec.name, p.slots
    return _for_an_hour(out)


def _for_an_hour(out: dict[str, Any]) -> dict[str, Any]:
    out["start_s"][:], out["end_s"][:] = 0.0, HOUR_S
    return out
