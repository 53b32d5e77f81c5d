"""Which replica a request goes to. A router is one file: its config, its class, and a line in `ROUTERS`."""

from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field

from simulator.cluster.router.least_outstanding import LeastOutstanding, LeastOutstandingConfig
from simulator.cluster.router.random import Random, RandomConfig
from simulator.cluster.router.round_robin import RoundRobin, RoundRobinConfig


class Router(Protocol):
    """A routing policy over replicas 0 ... n - 1."""

    def choose(self, row: int, outstanding: np.ndarray) -> int:
        """The replica for request ``row``, given the requests sent to each replica and not ended yet."""


ROUTERS: dict[str, Any] = {"round_robin": RoundRobin, "random": Random, "least_outstanding": LeastOutstanding}

RouterConfig = Annotated[
    RoundRobinConfig | RandomConfig | LeastOutstandingConfig, Field(discriminator="kind")
]


def make_router(config: Any, replicas: int, rng: np.random.Generator) -> Router:
    """The router of a ``router:`` config over ``replicas`` replicas."""
    return ROUTERS[config.kind](replicas, rng)


def fixed_choices(router: Router, requests: int) -> np.ndarray | None:
    """The replicas that ``router`` gives to requests 0 ... n - 1 whatever the replicas do; None if that matters."""
    choose_all = getattr(router, "choose_all", None)
    return None if choose_all is None else choose_all(requests)
