"""When caches can be seen (KV events): the pod whose KV cache holds most of the prompt."""

from typing import Literal

import numpy as np
from pydantic import Field

from simulator.cluster.router.base import RouterPart, first_least
from simulator.cluster.view import View


class PrecisePrefixConfig(RouterPart):
    kind: Literal["precise_prefix"] = "precise_prefix"
    balance_abs_threshold: int = Field(
        default=32, ge=0, description="cached tokens do not count when outstanding requests differ by more than this"
    )
    balance_rel_threshold: float = Field(default=1.1, ge=1, description="and by more than this factor")


class PrecisePrefix:
    """Most prompt tokens in the pod's real prefix cache; the fewest outstanding at a tie, or when loads differ too
    much.

    It knows each pod's cache exactly and at once: an upper bound of what routing by KV events can do.
    """

    def __init__(self, config: PrecisePrefixConfig, pods: int, rng: np.random.Generator) -> None:
        self._config = config

    def choose(self, row: int, view: View) -> int:
        ready, load = view.ready, view.outstanding[view.ready]
        most, least = int(load.max()), int(load.min())
        if most - least > self._config.balance_abs_threshold and most > self._config.balance_rel_threshold * least:
            return int(ready[load.argmin()])
        cached = view.cached_tokens(row)
        return first_least(view.outstanding, ready[cached == cached.max()])
