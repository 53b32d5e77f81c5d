"""The scenario's ``path``: a graph of stages, written out or as a preset of one line."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from simulator.errors import nearest
from simulator.topology.service import ConstantService, ServiceConfig

Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HopConfig(_Part):
    """What it costs to go from one service to the next: network, serialisation of the payload, a pair of sidecars."""

    network_s: float = Field(default=0.0, ge=0, description="one way [s]")
    bytes_per_s: float | None = Field(default=None, gt=0, description="serialisation; None: takes no time [B/s]")
    payload_bytes: float = Field(default=0.0, ge=0, description="of a request beside its text [B]")
    bytes_per_token: float = Field(default=4.0, ge=0, description="text [B/token]")
    sidecar_p90_s: float | None = Field(default=None, gt=0, description="of a sidecar pair; None: there is none [s]")
    sidecar_p99_s: float | None = Field(default=None, gt=0, description="the same [s]")

    @model_validator(mode="after")
    def _both(self) -> "HopConfig":
        p90, p99 = self.sidecar_p90_s, self.sidecar_p99_s
        if (p90 is None) != (p99 is None) or (p90 is not None and p99 is not None and p99 <= p90):
            raise ValueError(f"sidecar_p90_s {p90} and sidecar_p99_s {p99}: give both, the second larger")
        return self


class StageBatch(_Part):
    """A stage that serves several requests at once."""

    max_batch_size: int = Field(ge=1, description="[request]")
    max_delay_s: float = Field(default=0.0, ge=0, description="wait for more [s]")
    item_s: float = Field(default=0.0, ge=0, description="for each request of the batch [s]")


class Stage(_Part):
    """A queueing station that requests pass, in order of arrival; or, with ``kind: llm``, the deployments.

    Its service time is a draw of ``service`` plus what tokens cost. Replicas of a stage are alike: together they are
    ``replicas x workers`` servers behind one queue.
    """

    name: str = Field(min_length=1)
    kind: Literal["service", "llm"] = "service"
    after: tuple[str, ...] | None = Field(default=None, description="stages that come before; None: the one above")
    workers: int = Field(default=1, description="requests that one replica serves at a time")
    replicas: int = Field(default=1, ge=1)
    pool: str | None = Field(default=None, description="pool whose workers serve it, in place of its own")
    service: ServiceConfig = ConstantService(mean_s=0.0)
    prompt_token_s: float = Field(default=0.0, ge=0, description="[s/token]")
    output_token_s: float = Field(default=0.0, ge=0, description="after the LLM [s/token]")
    batch: StageBatch | None = None
    probability: Share = Field(default=1.0, description="of requests that need this stage")
    branches: dict[str, Share] = Field(default_factory=dict, description="exactly one of these stages follows")
    cache_hit_probability: Share = Field(
        default=0.0, description="a response cache: hits skip all later stages that are not on_cache_hit"
    )
    on_cache_hit: bool = Field(default=False, description="run for answers from the cache, too")
    optional: bool = Field(default=False, description="the request goes on when this stage fails")
    off_critical_path: bool = Field(default=False, description="the client does not wait for it")
    streaming: bool = Field(default=False, description="after the LLM: passes tokens on as they come")
    failure_probability: Share = 0.0
    timeout_s: float | None = Field(default=None, gt=0, description="of one attempt, queue included [s]")
    retries: int = Field(default=0, ge=0, le=100)
    backoff_s: float = Field(
        default=0.0, ge=0, description="before the first retry, twice as long before each next [s]"
    )
    hop: bool = Field(default=True, description="reached over the network, where the path has hops")
    cpu: float = Field(default=0.0, ge=0, description="cores of one replica")
    memory_bytes: float = Field(default=0.0, ge=0, description="of one replica [B]")
    gpu: str | None = Field(default=None, description="GPU of one replica")
    gpus: int = Field(default=1, ge=1, description="of one replica, where it has a gpu")

    @model_validator(mode="after")
    def _sound(self) -> "Stage":
        if self.workers < 1:
            raise ValueError(f"stage {self.name!r} has workers={self.workers}, it needs at least 1")
        if self.branches and abs(sum(self.branches.values()) - 1) > 1e-9:
            raise ValueError(
                f"the branches of stage {self.name!r} have probabilities that sum to "
                f"{sum(self.branches.values()):g}, not 1"
            )
        return self


class Pool(_Part):
    """Workers that several stages share, as in one process.

    hold: ``request`` keeps a worker from a request's first stage of the pool to its end, the LLM included (a thread for
    each request); ``stage`` only while it is served.
    """

    name: str = Field(min_length=1)
    workers: int = Field(ge=1, description="of one replica")
    per_pod: bool = Field(default=False, description="so many for each ready pod of the LLM: scales as a whole")
    hold: Literal["stage", "request"] = "stage"
    cpu: float = Field(default=0.0, ge=0, description="cores of one replica")
    memory_bytes: float = Field(default=0.0, ge=0, description="[B]")


class PathConfig(_Part):
    """Stages, the pools they share and the hops between them."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    pools: tuple[Pool, ...] = ()
    hop: HopConfig | None = Field(default=None, description="None: no network between stages")

    @model_validator(mode="after")
    def _graph(self) -> "PathConfig":
        names = [s.name for s in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are named {name!r}")
        if sum(s.kind == "llm" for s in self.stages) != 1:
            raise ValueError(
                f"a path needs exactly one stage of kind llm, got {sum(s.kind == 'llm' for s in self.stages)}"
            )
        pools = [p.name for p in self.pools]
        for i, stage in enumerate(self.stages):
            for other in (*self.before(i), *stage.branches):
                if other not in names:
                    raise ValueError(
                        f"stage {stage.name!r} refers to {other!r}{nearest(other, names)}, which is not a stage"
                    )
            if stage.pool is not None and stage.pool not in pools:
                raise ValueError(
                    f"stage {stage.name!r} is in the pool {stage.pool!r}{nearest(stage.pool, pools)}, which is not "
                    "a pool"
                )
            for other in stage.branches:
                if stage.name not in self.before(names.index(other)):
                    raise ValueError(f"stage {stage.name!r} branches to {other!r}, which must have it in its after")
        self.order()
        return self

    def before(self, i: int) -> tuple[str, ...]:
        """The stages that come before stage ``i``."""
        given = self.stages[i].after
        if given is not None:
            return given
        return (self.stages[i - 1].name,) if i else ()

    def order(self) -> list[int]:
        """Stages in an order in which all that come before one stand before it. Raises ValueError for a cycle."""
        place = {s.name: i for i, s in enumerate(self.stages)}
        left = {i: {place[b] for b in self.before(i)} for i in range(len(self.stages))}
        out: list[int] = []
        while left:
            free = [i for i, before in left.items() if not before - set(out)]
            if not free:
                around = " -> ".join(self.stages[i].name for i in self._cycle(left))
                raise ValueError(f"the stages have a cycle: {around}")
            out += free
            for i in free:
                del left[i]
        return out

    @staticmethod
    def _cycle(left: dict[int, set[int]]) -> list[int]:
        seen: list[int] = []
        i = next(iter(left))
        while i not in seen:
            seen.append(i)
            i = next(b for b in left[i] if b in left)
        return [*seen[seen.index(i) :], i][::-1]


class PresetConfig(_Part):
    """A topology of one line. ``stages`` overrides fields of its stages by name, ``without`` leaves some out."""

    preset: Literal["monolith", "microservices", "kubernetes"]
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    without: tuple[str, ...] = ()
    workers: int = Field(default=32, ge=1, description="of the monolith's process, by ready pod")
    hop: HopConfig | None = Field(default=None, description="None: that of data/platform.csv")


def _given_as(value: Any) -> str:
    if isinstance(value, str):
        return "name"
    return "preset" if isinstance(value, PresetConfig) or (isinstance(value, dict) and "preset" in value) else "graph"


PathField = Annotated[
    Annotated[Literal["monolith", "microservices", "kubernetes"], Tag("name")]
    | Annotated[PresetConfig, Tag("preset")]
    | Annotated[PathConfig, Tag("graph")],
    Discriminator(_given_as),
]
