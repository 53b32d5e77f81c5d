"""When looking at every pod is too dear: the better of two pods at random."""

from typing import Literal

import numpy as np

from simulator.cluster.router.base import Drawn, RouterPart
from simulator.cluster.view import View


class PowerOfTwoConfig(RouterPart):
    """Power of two choices [1]_, as Ray Serve and many proxies route.

    .. [1] Mitzenmacher, The power of two choices in randomized load balancing, IEEE TPDS 12(10), 2001.
    """

    kind: Literal["power_of_two"] = "power_of_two"


class PowerOfTwo:
    """Of two different pods drawn at random the one with fewer requests sent and not ended, the first drawn at a
    tie."""

    def __init__(self, config: PowerOfTwoConfig, pods: int, rng: np.random.Generator) -> None:
        self._drawn = Drawn(rng, 2)

    def choose(self, row: int, view: View) -> int:
        ready, outstanding = view.ready, view.outstanding
        n = len(ready)
        if n == 1:
            return int(ready[0])
        one, two = self._drawn[row].tolist()
        i = int(one * n)
        k = int(two * (n - 1))
        k += k >= i
        a, b = int(ready[i]), int(ready[k])
        return b if outstanding[b] < outstanding[a] else a
