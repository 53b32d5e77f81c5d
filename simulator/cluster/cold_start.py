"""What a new pod goes through before it takes requests, phase by phase."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog import constants

PHASES = (
    "schedule",
    "node",
    "driver",
    "image_pull",
    "image_extract",
    "container",
    "weights",
    "engine_init",
    "compile",
    "readiness",
    "wake",
)


class PodConfig(BaseModel):
    """Containerisation choices of a deployment. None: the figure of data/platform.csv, which names its source."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image: str = Field(default="vllm", min_length=1, description="name; a node that has it does not pull it")
    image_bytes: float | None = Field(default=None, ge=0, description="on disk [B]")
    image_pull_bytes: float | None = Field(default=None, ge=0, description="compressed, as pulled [B]")
    layers_cached: float = Field(default=0.0, ge=0, le=1, description="share of the layers that every node has")
    pull_bytes_per_s: float | None = Field(default=None, gt=0, description="from the registry [B/s]")
    extract_bytes_per_s: float | None = Field(default=None, gt=0, description="unpacking, of bytes on disk [B/s]")
    weights: Literal["volume", "image"] = Field(
        default="volume", description="volume: read over the network; image: pulled and unpacked with the image"
    )
    weights_bytes: float | None = Field(default=None, ge=0, description="None: the model's own [B]")
    weights_bytes_per_s: float | None = Field(default=None, gt=0, description="of the volume [B/s]")
    page_cache_bytes_per_s: float | None = Field(
        default=None, gt=0, description="when the node has read these weights before [B/s]"
    )
    container_s: float | None = Field(default=None, ge=0, description="[s]")
    engine_init_s: float | None = Field(default=None, ge=0, description="without weights and compilation [s]")
    compile_s: float | None = Field(
        default=None, ge=0, description="torch.compile and graph capture, nothing cached [s]"
    )
    compile_cached_s: float | None = Field(default=None, ge=0, description="the same with a cache [s]")
    compile_cache: Literal["none", "node", "shared"] = Field(
        default="none", description="who finds what another pod compiled: nobody, pods of the same node, all"
    )
    readiness_s: float | None = Field(default=None, ge=0, description="until the readiness probe sees it [s]")
    schedule_s: float | None = Field(default=None, ge=0, description="placing the pod on a node [s]")
    node_s: float | None = Field(default=None, ge=0, description="an instance, where the scenario has no nodes [s]")
    driver_s: float | None = Field(
        default=None, ge=0, description="GPU driver on it, where the scenario has no nodes [s]"
    )
    drain_s: float = Field(default=120.0, ge=0, description="a pod that is to go may finish its requests so long [s]")
    sleeping: int = Field(
        default=0, ge=0, description="pods kept asleep instead of removed: they hold their GPUs and wake fast"
    )
    wake_s: float | None = Field(default=None, ge=0, description="a sleeping pod to ready [s]")
    there_at_start: bool = Field(
        default=True, description="the first replicas are ready at time 0, else they start then"
    )

    def figure(self, name: str) -> float:
        """A figure as given, or that of data/platform.csv."""
        value = getattr(self, name)
        return float(constants("platform")[name] if value is None else value)


def chain(
    pod: PodConfig,
    weights_bytes: float,
    *,
    new_node: bool = False,
    has_image: bool = False,
    has_weights: bool = False,
    has_compiled: bool = False,
) -> list[tuple[str, float]]:
    """Phases of a cold start and how long each takes [s], from the scheduled pod to the ready one.

    ``new_node``: an instance of its own comes first; ``has_image``, ``has_weights`` (in the page cache) and
    ``has_compiled``: what the node has already.

    >>> pod = PodConfig(image_bytes=20e9, image_pull_bytes=10e9, pull_bytes_per_s=1e8, extract_bytes_per_s=2e8,
    ...     weights_bytes_per_s=1e9, container_s=1, engine_init_s=10, compile_s=16, readiness_s=5)
    >>> [(name, s) for name, s in chain(pod, 16e9) if s]  # doctest: +NORMALIZE_WHITESPACE
    [('image_pull', 100.0), ('image_extract', 100.0), ('container', 1.0), ('weights', 16.0), ('engine_init', 10.0),
    ('compile', 16.0), ('readiness', 5.0)]
    >>> sum(s for _, s in chain(pod, 16e9, has_image=True))
    48.0
    """
    f = pod.figure
    phases = [("node", f("node_s")), ("driver", f("driver_s"))] if new_node else []
    inside = pod.weights == "image"
    if not has_image:
        fresh, more = 1.0 - pod.layers_cached, weights_bytes if inside else 0.0
        phases.append(("image_pull", (f("image_pull_bytes") * fresh + more) / f("pull_bytes_per_s")))
        phases.append(("image_extract", (f("image_bytes") * fresh + more) / f("extract_bytes_per_s")))
    cached = has_weights or (inside and not has_image)  # just written
    rate = f("page_cache_bytes_per_s") if cached else f("weights_bytes_per_s")
    return [
        *phases,
        ("container", f("container_s")),
        ("weights", weights_bytes / rate),
        ("engine_init", f("engine_init_s")),
        ("compile", f("compile_cached_s" if has_compiled else "compile_s")),
        ("readiness", f("readiness_s")),
    ]
