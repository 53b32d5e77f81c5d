"""A deployment: identical replicas of one model on one kind of GPU, and how they come and go."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.catalog import GpuSpec, ModelSpec, find_gpu, find_model
from simulator.cluster.autoscaler.config import AutoscalerConfig
from simulator.cluster.autoscaler.none import NoneConfig
from simulator.cluster.cold_start import PodConfig
from simulator.cluster.reclaim import ReclaimConfig
from simulator.cluster.rollout import RolloutConfig
from simulator.cluster.scaling import MetricsConfig
from simulator.engine.api_server import ApiServerConfig
from simulator.engine.config import EngineConfig
from simulator.engine.serving.config import ContinuousServing, ServingConfig
from simulator.engine.step_time.config import GivenStepTime
from simulator.engine.step_time.profile import ProfileStepTime
from simulator.engine.step_time.roofline import RooflineStepTime


class Deployment(BaseModel):
    """Identical replicas of one model on one kind of GPU.

    ``model`` is a catalog name, an alias, a folder with a config.json, or a mapping that defines one; ``gpu``
    a catalog name, an alias or a mapping.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="llm", min_length=1, description="what results call it")
    model: str | ModelSpec = Field(description="a name of the catalog, a folder with a config.json, or a mapping")
    gpu: str | GpuSpec = Field(description="a name of the catalog, or a mapping")
    engine: EngineConfig = EngineConfig()
    serving: ServingConfig = ContinuousServing()
    step_time: GivenStepTime | ProfileStepTime = RooflineStepTime()
    step_time_factor: float = Field(
        default=1.0, gt=0, le=100, description="all GPU step times times this: what if the model is off?"
    )
    api_server: ApiServerConfig | None = Field(
        default=None, description="null: that of the profile; without one it takes no time"
    )
    replicas: int = Field(default=1, ge=0, le=100_000, description="pods at the start; for good without an autoscaler")
    traffic_classes: tuple[str, ...] = Field(default=(), description="classes it serves; none: all")
    data_parallel_size: int = Field(default=1, ge=1, le=256, description="engines of one pod, each on GPUs of its own")
    expert_parallel: bool = Field(
        default=False, description="experts are spread over the engines of a pod, which then step together (MoE only)"
    )
    autoscaler: AutoscalerConfig = NoneConfig()
    metrics: MetricsConfig = MetricsConfig()
    pod: PodConfig = PodConfig()
    rollout: RolloutConfig | None = Field(default=None, description="a rolling update; null: none")
    reclaim: ReclaimConfig | None = Field(
        default=None,
        description="how spot machines of its pods are taken back (where prices.purchase buys some). With nodes: "
        "see pools",
    )
    priority: int = Field(default=0, description="of its pods: higher ones evict lower ones from full nodes")
    across_nodes: bool = Field(
        default=False, description="a tensor-parallel group may span nodes, over the slower link"
    )

    @property
    def moves(self) -> bool:
        """Whether its pods come and go."""
        return self.autoscaler.kind != "none" or self.rollout is not None or not self.pod.there_at_start

    @model_validator(mode="after")
    def _some_replica(self) -> "Deployment":
        if self.replicas == 0 and self.autoscaler.kind == "none":
            raise ValueError("replicas=0 without an autoscaler: nothing would ever serve")
        return self

    def model_spec(self, base_dir: Path = Path()) -> ModelSpec:
        """The model's architecture. Raises ServelabError for an unknown name, with the nearest."""
        if isinstance(self.model, ModelSpec):
            return self.model
        folder = base_dir / self.model
        return find_model(folder if (folder / "config.json").is_file() else self.model)

    def gpu_spec(self) -> GpuSpec:
        """The GPU's figures. Raises ServelabError for an unknown name, with the nearest."""
        return self.gpu if isinstance(self.gpu, GpuSpec) else find_gpu(self.gpu)
