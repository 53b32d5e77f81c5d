"""What an autoscaler sees and what it answers, and the bounds that every one of them has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from simulator.errors import nearest

METRICS = ("concurrency", "queue_depth", "kv_use", "request_rate", "token_rate", "duty_cycle")
"""What the engine emits: requests in it, requests that wait, share of the KV cache in use (0 to 1), requests/s,
tokens/s, share of time in a step (0 to 1)."""

MOST_REPLICAS = 100_000


def emitted(metric: str) -> str:
    """``metric`` itself; ValueError for one that the engine does not emit."""
    if metric not in METRICS:
        raise ValueError(
            f"metric {metric!r}: the engine does not emit it{nearest(metric, METRICS)}; "
            f"expected one of {', '.join(METRICS)}"
        )
    return metric


Metric = Annotated[str, AfterValidator(emitted)]


class Bounds(BaseModel):
    """The fewest and the most replicas that a policy may want, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    min_replicas: int = Field(default=1, ge=1, le=MOST_REPLICAS, description="never fewer")
    max_replicas: int = Field(ge=1, le=MOST_REPLICAS, description="never more")

    @model_validator(mode="after")
    def _in_order(self) -> "Bounds":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self

    def clipped(self, replicas: int) -> int:
        """``replicas``, or the bound that it passes."""
        return min(max(replicas, self.min_replicas), self.max_replicas)


@dataclass(frozen=True)
class PodReading:
    """One pod. ``started_s``: when it was created [s]. ``ready_since_s``: when it last became ready [s].

    ``values``: metric name to value; a missing key is a missing metric (not scraped yet).
    """

    pod: int
    started_s: float
    ready: bool
    ready_since_s: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Reading:
    """The deployment at ``now_s`` [s]. ``replicas``: the number wanted at present (spec.replicas).

    ``pods``: those that exist and are not terminating. ``totals``: metrics of the whole deployment, the
    gateway's waiting requests included (external metrics); a missing key is a missing metric.
    """

    now_s: float
    replicas: int
    pods: tuple[PodReading, ...]
    totals: Mapping[str, float]

    @property
    def ready(self) -> int:
        """How many pods are ready."""
        return sum(p.ready for p in self.pods)


@dataclass(frozen=True)
class Decision:
    """How many replicas are wanted from now on, and why, in words."""

    replicas: int
    why: str


class Autoscaler(Protocol):
    """A policy. Its history takes each decision as carried out at once: the next reading has its replicas."""

    period_s: float
    """Time between decisions [s]; infinity: none is ever needed."""

    def decide(self, reading: Reading) -> Decision:
        """How many replicas to want, given ``reading``; the times of readings rise."""
