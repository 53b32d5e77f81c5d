"""The kinds of routers: ``router:`` of a scenario, and the router that it makes."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from simulator.cluster.router.base import Router
from simulator.cluster.router.least_outstanding import LeastOutstanding, LeastOutstandingConfig
from simulator.cluster.router.power_of_two import PowerOfTwo, PowerOfTwoConfig
from simulator.cluster.router.precise_prefix import PrecisePrefix, PrecisePrefixConfig
from simulator.cluster.router.prefix_affinity import PrefixAffinity, PrefixAffinityConfig
from simulator.cluster.router.random import Random, RandomConfig
from simulator.cluster.router.round_robin import RoundRobin, RoundRobinConfig
from simulator.cluster.router.scorers import Scorers, ScorersConfig
from simulator.cluster.router.session_sticky import SessionSticky, SessionStickyConfig
from simulator.cluster.router.shortest_tokens import ShortestTokens, ShortestTokensConfig
from simulator.cluster.router.vllm_balancer import VllmBalancer, VllmBalancerConfig
from simulator.cluster.router.weighted import Weighted, WeightedConfig

ROUTERS: dict[str, Any] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_outstanding": LeastOutstanding,
    "power_of_two": PowerOfTwo,
    "shortest_tokens": ShortestTokens,
    "session_sticky": SessionSticky,
    "prefix_affinity": PrefixAffinity,
    "precise_prefix": PrecisePrefix,
    "scorers": Scorers,
    "vllm_balancer": VllmBalancer,
    "weighted": Weighted,
}

RouterConfig = Annotated[
    RoundRobinConfig
    | RandomConfig
    | LeastOutstandingConfig
    | PowerOfTwoConfig
    | ShortestTokensConfig
    | SessionStickyConfig
    | PrefixAffinityConfig
    | PrecisePrefixConfig
    | ScorersConfig
    | VllmBalancerConfig
    | WeightedConfig,
    Field(discriminator="kind"),
]


def make_router(config: Any, pods: int, rng: np.random.Generator) -> Router:
    """The router of a ``router:`` config over pods 0 ... ``pods`` - 1."""
    return ROUTERS[config.kind](config, pods, rng)


def fixed_choices(router: Router, requests: int) -> np.ndarray | None:
    """The pods that ``router`` gives to requests 0 ... n - 1 whatever the pods do; None if that matters."""
    choose_all = getattr(router, "choose_all", None)
    return None if choose_all is None else choose_all(requests)
