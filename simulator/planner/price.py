"""What a fleet costs an hour before anything is simulated: machines that are always there."""

import math

from simulator.catalog import find_gpu
from simulator.cost.machines import cheapest, units
from simulator.cost.price_table import own_rows, price_list
from simulator.cost.prices import offers, own_prices
from simulator.cost.rentals import bought_usd_per_hour
from simulator.resolved import resolve_deployment
from simulator.scenario import Scenario


def fleet_usd_per_hour(scenario: Scenario) -> float:
    """USD an hour of the machines of ``scenario`` with the pods and nodes of its start, bought as its prices say.

    With an autoscaler that is what it costs before it scales. Raises ServelabError for a GPU without a price.
    """
    prices = scenario.prices
    listed = price_list(own_rows(prices, scenario.base_dir))
    found = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
    own = own_prices(prices, {r.gpu.name for r in found})
    if scenario.nodes is not None:
        kinds = [(p.gpu.partition(":")[0], p.slots if ":" not in p.gpu else find_gpu(p.gpu.partition(":")[0]).gpus_per_node, p.start_nodes)
                 for p in scenario.nodes.pools]  # fmt: skip
        kinds = [(find_gpu(name).name, gpus, count) for name, gpus, count in kinds]
    else:
        kinds = [(r.gpu.name, r.gpus, r.config.replicas) for r in found]
    total = []
    for gpu, gpus, count in kinds:
        if gpu in own:
            total.append(own[gpu] * gpus * count)
        elif count:
            plan = cheapest(units(offers(listed, gpu, prices), gpus), count)
            machines = [unit.offer for unit in plan for _ in range(unit.machines)]
            machines += [plan[-1].offer] * max(0, prices.committed - len(machines))
            total.append(math.fsum(bought_usd_per_hour(o, i, prices, listed) for i, o in enumerate(machines)))
    return math.fsum(total)
