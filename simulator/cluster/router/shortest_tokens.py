"""When prompts differ much in length and TTFT matters: the pod with the fewest prompt tokens before it."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import Scraping, first_least
from simulator.cluster.view import View


class ShortestTokensConfig(Scraping):
    kind: Literal["shortest_tokens"] = "shortest_tokens"


class ShortestTokens:
    """Fewest prompt tokens of requests that have no first token yet; the fewest requests, then the first, at a tie."""

    def __init__(self, config: ShortestTokensConfig, pods: int, rng: np.random.Generator) -> None:
        pass

    def choose(self, row: int, view: View) -> int:
        queued = view.signals.queued_tokens
        least = view.ready[queued[view.ready] == queued[view.ready].min()]
        return first_least(view.outstanding, least)
