"""simulate(scenario, seed) -> Result: the only place that makes an environment and a seed sequence."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from simulator.cluster.course import Progress, in_one_pass, routed_in_one_pass
from simulator.cluster.fleets import Fleets
from simulator.cluster.router.base import Router
from simulator.cluster.router.config import fixed_choices, make_router
from simulator.core.seeds import named_rng, named_seed
from simulator.engine.uncached import StepSeconds
from simulator.pricing.price_table import own_rows
from simulator.results.result import Result
from simulator.run.notes import assumed, facts, notes_of, stretched
from simulator.run.resolved import QueueKey, Steps, build_replicas, resolve_deployment
from simulator.run.surroundings import Surroundings, plain, pods_at_most, watches_all
from simulator.run.tabulate import tabulate
from simulator.scenario import Scenario
from simulator.workload import RequestTable, generate
from simulator.workload.rows import noted


def simulate(
    scenario: Scenario,
    seed: int = 0,
    *,
    steps: Steps = "off",
    method: Literal["auto", "compiled", "simpy"] = "auto",
    progress: Progress = lambda time_s, arrived: None,
    step_seconds: StepSeconds | None = None,
    queue_key: QueueKey | None = None,
    requests: RequestTable | None = None,
) -> Result:
    """Run ``scenario`` once.

    Args:
        seed: of all random draws; the same scenario, seed and version give the same bytes.
        steps: whether batches are logged: ``off``, ``sampled`` (one in 64) or ``full``.
        method: ``compiled`` is one pass over the trace, for routers that do not look at the replicas and for
            ``least_outstanding`` before one deployment; ``simpy`` routes request by request; ``auto`` chooses. Both
            give the same records.
        progress: called now and then with the simulated time [s] and the requests that have arrived.
        step_seconds: your own step time [s], in place of the scenario's; runs uncompiled, and the result says so.
            See `simulator.engine.uncached.python_loop` for its arguments.
        queue_key: your own order of waiting: ``queue_key(arrival_s, prompt_tokens, max_tokens, priority)`` gives a
            number for each request, the smallest is served first. Preemption stays that of fcfs.
        requests: a table to serve instead of the scenario's workload.

    After Ctrl-C the result holds what was reached: ``result.partial`` is true and requests still in the system
    are in flight. Raises ServelabError for a scenario that cannot be simulated.
    """
    root = np.random.SeedSequence(seed)
    found = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
    table, said = (requests, []) if requests is not None else _workload(scenario, root)
    watched = watches_all(scenario)
    fleets = Fleets(
        [
            build_replicas(
                scenario, r, table, steps, pods_at_most(r, scenario.reclaimed), watched, step_seconds, queue_key
            )
            for r in found
        ]
    )
    router = make_router(scenario.router, len(fleets), named_rng(root, "router"))
    choices = _fixed(scenario, fleets, router, table) if method != "simpy" else None
    around = None
    if choices is not None:
        used, stopped_at = "compiled", in_one_pass(fleets, choices, table.arrival_s, progress)
    elif method != "simpy" and _least_alone(scenario, fleets, table):
        used, stopped_at = "compiled", routed_in_one_pass(fleets, table.arrival_s, progress)
    else:
        around = Surroundings(scenario, found, fleets, router, table, root, progress)
        used, stopped_at = "simpy", around.run()
    tables, itl = tabulate(fleets, found, table, stopped_at, around)
    unsent = 0 if stopped_at is not None else len(table) - len(tables["requests"]["state"])
    meta = {
        "scenario": scenario.to_mapping(),
        "seed": seed,
        "version": _version(),
        "method": used,
        "steps": steps,
        "partial": stopped_at is not None,
        "slo": scenario.slo.model_dump(),
        "prices": scenario.prices.model_dump(),
        "price_rows": own_rows(scenario.prices, scenario.base_dir),
        "notes": [
            *said,
            *notes_of(found, step_seconds, queue_key, stopped_at, unsent),
            *assumed(scenario),
            *(n for r, p in zip(found, fleets.parts, strict=True) for n in stretched(r, p, table, step_seconds)),
        ],
        "traffic_classes": _classes(scenario, table),
        "tenants": list(table.tenants),
        "deployments": [facts(r, step_seconds) for r in found],
        "stages": stages_of(scenario),
        "fragmentation": around.supply.fragmentation() if around and around.supply else None,
    }
    return Result.from_columns(meta, tables, *itl)


def _least_alone(scenario: Scenario, fleets: Fleets, table: RequestTable) -> bool:
    """Whether nothing but the router ``least_outstanding`` stands between the clients and one deployment of
    replicas."""
    part = fleets.parts[0]
    single = len(fleets.parts) == 1 and part.width == 1 and not fleets.in_step and part.python_loop is None
    return single and scenario.router.kind == "least_outstanding" and not table.reacts and plain(scenario)


def _fixed(scenario: Scenario, fleets: Fleets, router: Router, table: RequestTable) -> np.ndarray | None:
    """The pod of each request where that is known beforehand, and nothing depends on how they fare."""
    if table.reacts or any(part.width > 1 for part in fleets.parts) or not plain(scenario):
        return None
    return fixed_choices(router, len(table))


def stages_of(scenario: Scenario) -> list[dict[str, Any]]:
    """The stages of the path as records refer to them."""
    path = scenario.opened_path()
    return [s.model_dump(exclude_defaults=True) | {"name": s.name, "kind": s.kind} for s in path.stages] if path else []


def _workload(scenario: Scenario, root: np.random.SeedSequence) -> tuple[RequestTable, list[str]]:
    """The requests, and what reading them gave to say."""
    with noted() as said:
        table = generate(scenario.workload, named_seed(root, "workload"), scenario.base_dir)
    return table, said


def _classes(scenario: Scenario, table: RequestTable) -> list[dict[str, Any]]:
    """The classes of traffic, each with its own SLO or None."""
    own = {c.name: c.slo for c in getattr(scenario.workload, "classes", ()) if c.slo is not None}
    return [{"name": name, "slo": own[name].model_dump() if name in own else None} for name in table.classes]


def _version() -> str:
    try:
        return version("servelab")
    except PackageNotFoundError:
        return "unknown"
