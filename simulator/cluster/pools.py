"""Configs of nodes: pools of like machines, and who adds and removes nodes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simulator.catalog import GpuSpec, find_gpu
from simulator.cluster.reclaim import ReclaimConfig


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Window(_Part):
    """A stretch of time, ``from_s`` included and ``to_s`` not."""

    from_s: float = Field(ge=0, description="[s] since the start")
    to_s: float = Field(gt=0, description="[s] since the start")

    @model_validator(mode="after")
    def _forward(self) -> "Window":
        if self.to_s <= self.from_s:
            raise ValueError(f"to_s={self.to_s:g} must be later than from_s={self.from_s:g}")
        return self


class PoolConfig(_Part):
    """Nodes of one kind. ``gpu`` is a catalog name or alias; ``h100:1g.10gb`` a MIG slice.

    The defaults of ``provision_s`` and ``driver_s`` are assumptions: clouds differ by minutes. Set your own.
    """

    name: str = Field(min_length=1)
    gpu: str
    gpus_per_node: int | None = Field(default=None, ge=1, description="GPUs, or slices, of a node; null: the catalog's")
    nodes: int = Field(default=0, ge=0, description="there and ready from the start; at least min_nodes are")
    min_nodes: int = Field(default=0, ge=0, description="never removed below")
    max_nodes: int | None = Field(default=None, ge=0, description="null: as many as at the start")
    priority: int = Field(default=0, description="the pool with the highest is grown first")
    images: tuple[str, ...] = Field(default=(), description="container images that new nodes have already")
    provision_s: float = Field(default=120.0, ge=0, description="request to running machine [s]; assumption")
    driver_s: float = Field(default=30.0, ge=0, description="running machine to usable GPUs [s]; assumption")
    unavailable: tuple[Window, ...] = Field(default=(), description="when no new node can be had (sold out)")
    reclaim: ReclaimConfig | None = Field(default=None, description="its nodes are spot machines; null: they stay")

    @field_validator("gpu")
    @classmethod
    def _gpu_is_known(cls, value: str) -> str:
        find_gpu(value)
        return value

    @model_validator(mode="after")
    def _most_is_not_least(self) -> "PoolConfig":
        if self.max_nodes is not None and self.max_nodes < self.start_nodes:
            raise ValueError(
                f"max_nodes={self.max_nodes} of pool {self.name!r} is less than its nodes={self.nodes} "
                f"or min_nodes={self.min_nodes}"
            )
        return self

    @property
    def spec(self) -> GpuSpec:
        """The GPU's figures, or the slice's."""
        return find_gpu(self.gpu)

    @property
    def slots(self) -> int:
        """GPUs, or slices, of one node."""
        return self.gpus_per_node or self.spec.gpus_per_node

    @property
    def start_nodes(self) -> int:
        """Nodes at the start."""
        return max(self.nodes, self.min_nodes)

    @property
    def most_nodes(self) -> int:
        """Nodes at most."""
        return self.start_nodes if self.max_nodes is None else self.max_nodes

    def available_from_s(self, now_s: float) -> float:
        """When a node asked for at ``now_s`` can be had [s]: at once, or when it is no longer sold out."""
        for window in sorted(self.unavailable, key=lambda w: w.from_s):
            if window.from_s <= now_s < window.to_s:
                now_s = window.to_s
        return now_s

    def ready_s(self, now_s: float) -> float:
        """When a node asked for at ``now_s`` has usable GPUs [s]. A sold-out cloud serves the request later."""
        return self.available_from_s(now_s) + self.provision_s + self.driver_s


class NoProvisionerConfig(_Part):
    """The nodes of the start, for ever."""

    kind: Literal["none"] = "none"


class _Provisioner(_Part):
    sold_out_known: bool = Field(
        default=False,
        description="the cloud refuses at once when sold out, so that such a pool is passed over; "
        "false: found out by max_node_provision_time_s",
    )
    max_node_provision_time_s: float = Field(
        default=900, gt=0, description="a node not ready so long after its request is given up [s]"
    )
    backoff_s: float = Field(default=300, ge=0, description="a pool is not grown after a failed request [s]")
    backoff_max_s: float = Field(default=1800, ge=0, description="backoff_s doubles up to it [s]")
    backoff_reset_s: float = Field(default=10_800, ge=0, description="so long without failure: first backoff [s]")


class ClusterAutoscalerConfig(_Provisioner):
    """Kubernetes' Cluster Autoscaler with the expanders priority and least-waste. Defaults: its FAQ and flags."""

    kind: Literal["cluster_autoscaler"] = "cluster_autoscaler"
    scan_interval_s: float = Field(default=10, gt=0, description="between looks at the pending pods [s]")
    unneeded_time_s: float = Field(default=600, ge=0, description="a node is unneeded so long before it goes [s]")
    utilization_threshold: float = Field(
        default=0.5, ge=0, le=1, description="share of used GPUs under which a node counts as underused"
    )
    scale_down_delay_after_add_s: float = Field(
        default=600, ge=0, description="no node is removed so long after one was added [s]"
    )


class KarpenterConfig(_Provisioner):
    """Karpenter: decides once a batch of pods is complete, takes the cheapest pool.

    Defaults: its settings page (batches) and consolidateAfter; launch and registration time-outs together
    are 900 s; on a lack of capacity it is told at once and passes over the offer for 180 s.
    """

    kind: Literal["karpenter"] = "karpenter"
    batch_idle_s: float = Field(default=1, ge=0, description="a batch ends after so long without a new pod [s]")
    batch_max_s: float = Field(default=10, ge=0, description="and at the latest so long after its first [s]")
    consolidate_after_s: float = Field(default=0, ge=0, description="a node is empty so long before it goes [s]")
    sold_out_known: bool = True
    backoff_s: float = Field(default=180, ge=0, description="a pool is not grown after a failed request [s]")
    backoff_max_s: float = Field(default=180, ge=0, description="backoff_s doubles up to it [s]")


ProvisionerConfig = Annotated[
    NoProvisionerConfig | ClusterAutoscalerConfig | KarpenterConfig, Field(discriminator="kind")
]


class NodesConfig(_Part):
    """The nodes that replicas run on.

    ``placement``, among nodes that hold a pod: ``first_fit`` the oldest, ``best_fit`` the one with the fewest
    free GPUs, ``spread`` the one with the most.
    """

    pools: tuple[PoolConfig, ...] = Field(min_length=1)
    placement: Literal["first_fit", "best_fit", "spread"] = "first_fit"
    provisioner: ProvisionerConfig = NoProvisionerConfig()

    @field_validator("pools")
    @classmethod
    def _names_differ(cls, value: tuple[PoolConfig, ...]) -> tuple[PoolConfig, ...]:
        names = [pool.name for pool in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two pools are named {name!r}")
        return value

    @model_validator(mode="after")
    def _nodes_come_in_time(self) -> "NodesConfig":
        limit = getattr(self.provisioner, "max_node_provision_time_s", None)
        for pool in self.pools:
            takes = pool.provision_s + pool.driver_s
            if limit is not None and pool.most_nodes > pool.start_nodes and takes > limit:
                raise ValueError(
                    f"pool {pool.name!r}: provision_s + driver_s = {takes:g} s is more than "
                    f"max_node_provision_time_s={limit:g}, so that no node would ever come"
                )
        return self
