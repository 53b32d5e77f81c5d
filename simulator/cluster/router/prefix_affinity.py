"""When many prompts begin alike and caches cannot be seen: consistent hashing with bounded loads."""

from bisect import bisect_left
from hashlib import blake2b
from typing import Literal

import numpy as np
from pydantic import Field

from simulator.cluster.router.base import RouterPart
from simulator.cluster.view import View


class PrefixAffinityConfig(RouterPart):
    """Consistent hashing with bounded loads [1]_ of the first shared part of the prompt.

    .. [1] Mirrokni, Thorup, Zadimoghaddam, Consistent hashing with bounded loads, SODA 2018.
    """

    kind: Literal["prefix_affinity"] = "prefix_affinity"
    replication: int = Field(default=100, ge=1, le=10_000, description="points of each pod on the ring")
    mean_load_factor: float = Field(
        default=1.25, gt=1, description="a pod with more than so many times the mean of outstanding is passed over"
    )


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class PrefixAffinity:
    """The first pod on the ring from the prefix's point that is ready and not over its bound.

    A pod that comes or goes moves only the prefixes next to its own points.
    """

    def __init__(self, config: PrefixAffinityConfig, pods: int, rng: np.random.Generator) -> None:
        self._factor = config.mean_load_factor
        ring = sorted((_point(f"pod {p} {i}"), p) for p in range(pods) for i in range(config.replication))
        self._points, self._pods = [point for point, _ in ring], [pod for _, pod in ring]

    def choose(self, row: int, view: View) -> int:
        outstanding = view.outstanding
        ready = set(view.ready.tolist())
        bound = self._factor * (float(outstanding[view.ready].sum()) + 1) / len(ready)
        start = bisect_left(self._points, _point(f"prefix {view.prefix(row)}"))
        seen: set[int] = set()
        for i in range(len(self._pods)):
            pod = self._pods[(start + i) % len(self._pods)]
            if pod in ready and pod not in seen:
                if outstanding[pod] + 1 <= np.ceil(bound):
                    return pod
                seen.add(pod)
                if len(seen) == len(ready):
                    break
        return int(view.ready[outstanding[view.ready].argmin()])
