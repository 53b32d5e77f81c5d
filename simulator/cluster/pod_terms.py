"""What a pod's life is made of: its states, its record, and what it goes by."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from simulator.cluster.cold_start import PodConfig
from simulator.cluster.nodes import Pod
from simulator.cluster.reclaim import ReclaimConfig
from simulator.cluster.replicas import Replicas
from simulator.cluster.supply import Supply

PENDING, STARTING, READY, DRAINING, SLEEPING, GONE = range(6)
COUNTERS = (
    "busy",
    "prefill_busy",
    "area",
    "prefill_tokens",
    "decode_tokens",
    "pairs",
    "decode_kv",
    "prefill_kv",
    "sampled",
    "steps",
)


@dataclass
class Life:
    """One pod from the wish for it to its end; ``held_s`` is when it got its GPUs."""

    pod: Pod
    slot: int
    generation: int
    state: int
    wanted_s: float
    held_s: float | None = None
    ready_s: float | None = None
    end_s: float | None = None
    node: int = -1
    reclaimed: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PodTerms:
    """What the pods of a deployment have in common; ``part`` are the replicas whose places they take."""

    name: str
    part: Replicas
    template: Pod
    config: PodConfig
    weights_bytes: float
    reclaim: ReclaimConfig | None = None


@dataclass(frozen=True)
class PodWorld:
    """What the lives of pods go by: the clock, the nodes (None: each pod has an instance of its own), the numbers of
    pods, and chance."""

    clock: Any
    supply: Supply | None
    numbers: count
    rng: np.random.Generator


@dataclass(frozen=True)
class PodNews:
    """Who is told of a pod's life.

    opened(slot, accepting, now)  a pod begins or ceases to take requests
    noticed(part, now)            requests ended with it
    note                          gets events
    give_way(pod, now)            a pod that a higher priority evicts
    """

    opened: Callable[[int, bool, float], None]
    noticed: Callable[[Replicas, float], None]
    note: Callable[..., None]
    give_way: Callable[[Pod, float], None]
