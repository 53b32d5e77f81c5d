"""A scenario: everything a simulation depends on but its seed. Composes the parts' own configs; YAML in and out."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from simulator.catalog import GpuSpec, ModelSpec, find_gpu, find_model
from simulator.catalog.profile import load_profiles
from simulator.cluster.admission import AdmissionConfig
from simulator.cluster.autoscaler import AutoscalerConfig
from simulator.cluster.autoscaler.none import NoneConfig
from simulator.cluster.cold_start import PodConfig
from simulator.cluster.gateway import GatewayConfig
from simulator.cluster.pods import RolloutConfig
from simulator.cluster.pools import NodesConfig
from simulator.cluster.reclaim import ReclaimConfig
from simulator.cluster.router import RouterConfig
from simulator.cluster.router.least_outstanding import LeastOutstandingConfig
from simulator.cluster.router.weighted import WeightedConfig
from simulator.cluster.scaling import MetricsConfig
from simulator.core.slo import SloConfig
from simulator.core.stamp import stamp
from simulator.engine.api_server import ApiServerConfig
from simulator.engine.config import EngineConfig
from simulator.engine.profiled import ProfileStepTime
from simulator.engine.serving import ContinuousServing, ServingConfig
from simulator.engine.step_time import GivenStepTime, RooflineStepTime
from simulator.errors import ServelabError, nearest
from simulator.pricing.prices import PricesConfig
from simulator.topology.path import PathConfig, PathField, PresetConfig
from simulator.topology.presets import opened
from simulator.workload import WorkloadConfig

SCHEMA_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Deployment(_Part):
    """Identical replicas of one model on one kind of GPU.

    ``model`` is a catalog name, an alias, a folder with a config.json, or a mapping that defines one; ``gpu``
    a catalog name, an alias or a mapping.
    """

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


class ClientConfig(_Part):
    """``timeout_s``: a client gives up so long after it sent its request [s]; null: never."""

    timeout_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="a client gives up after so long; null: never"
    )


class Scenario(_Part):
    """Traffic, what serves it, what is wanted of it and what it costs.

    ``path``: the stages before and after the LLM, a preset's name or a graph; none: clients talk to the gateway.
    ``nodes``: the machines that pods are placed on; none: each pod gets an instance of its own.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    workload: WorkloadConfig
    deployments: tuple[Deployment, ...] = Field(min_length=1)
    router: RouterConfig = LeastOutstandingConfig()
    admission: tuple[AdmissionConfig, ...] = Field(
        default=(), description="policies that may turn a request away, in this order"
    )
    gateway: GatewayConfig = GatewayConfig()
    client: ClientConfig = ClientConfig()
    path: PathField | None = Field(default=None, description="stages around the LLM; null: none")
    nodes: NodesConfig | None = Field(
        default=None, description="machines that pods are placed on; null: each pod has an instance of its own"
    )
    slo: SloConfig = SloConfig(ttft_s=1.0, tpot_s=0.05)
    prices: PricesConfig = PricesConfig()

    _base_dir: Path = PrivateAttr(default=Path())

    @field_validator("deployments")
    @classmethod
    def _names_differ(cls, value: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        names = [d.name for d in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two deployments are named {name!r}")
        return value

    @model_validator(mode="after")
    def _nodes_are_reclaimed(self) -> "Scenario":
        for i, d in enumerate(self.deployments):
            if d.reclaim is not None and self.nodes is not None:
                raise ValueError(f"deployments.{i}.reclaim: with nodes it is nodes that go, set nodes.pools.*.reclaim")
        return self

    @model_validator(mode="after")
    def _weights_named(self) -> "Scenario":
        names = [d.name for d in self.deployments]
        for name in names if isinstance(self.router, WeightedConfig) else ():
            if name not in self.router.weights:  # type: ignore[union-attr]
                raise ValueError(f"router.weights has no weight for the deployment {name!r}")
        for name in self.router.weights if isinstance(self.router, WeightedConfig) else ():
            if name not in names:
                raise ValueError(f"router.weights: no deployment is named {name!r}{nearest(name, names)}")
        return self

    def opened_path(self) -> PathConfig | None:
        """The path as a graph of stages, a preset opened up. Raises ServelabError for a faulty override."""
        if self.path is None or isinstance(self.path, PathConfig):
            return self.path
        return opened(PresetConfig(preset=self.path) if isinstance(self.path, str) else self.path)

    @property
    def reclaimed(self) -> bool:
        """Whether machines are taken back: some are bought on the spot market, and it is said how often."""
        said = any(d.reclaim is not None for d in self.deployments)
        return self.prices.spot and (said or self.spot_nodes)

    @property
    def spot_nodes(self) -> bool:
        """Whether nodes may be reclaimed."""
        pools = self.nodes.pools if self.nodes is not None else ()
        return self.prices.spot and any(p.reclaim is not None for p in pools)

    @property
    def moves(self) -> bool:
        """Whether pods come and go, so that no hour stands for another."""
        return self.reclaimed or any(d.moves for d in self.deployments)

    @property
    def base_dir(self) -> Path:
        """The folder that relative paths of the scenario start from."""
        return self._base_dir

    @classmethod
    def of(cls, mapping: Mapping[str, Any], base_dir: Path = Path()) -> "Scenario":
        """A scenario from plain data. Raises ServelabError with the place of each fault."""
        version = mapping.get("schema_version", SCHEMA_VERSION) if isinstance(mapping, Mapping) else None
        if version != SCHEMA_VERSION:
            raise ServelabError(f"schema_version: {version!r} is not supported, this servelab reads {SCHEMA_VERSION}")
        try:
            scenario = cls.model_validate(mapping)
        except ValidationError as problem:
            raise ServelabError("\n".join(explain(problem, mapping))) from None
        scenario._base_dir = base_dir
        return scenario

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> "Scenario":
        """Read a YAML file and apply ``overrides`` like ``deployments.0.replicas=4``.

        Raises ServelabError for a missing file, for YAML that cannot be read and for a faulty scenario.
        """
        path = Path(path)
        if not path.is_file():
            raise ServelabError(f"scenario {str(path)!r}: no such file")
        try:
            text = path.read_text()
        except UnicodeDecodeError as problem:
            raise ServelabError(f"scenario {str(path)!r} is not YAML: {problem}") from None
        mapping = read_yaml(text, f"scenario {str(path)!r}")
        for override in overrides:
            mapping = overridden(mapping, override)
        return cls.of(mapping, path.parent)

    def to_mapping(self) -> dict[str, Any]:
        """Plain data that `of` reads back; defaults are written out, unset options left out."""
        return json.loads(self.model_dump_json(exclude_none=True))

    def stamp(self, seed: int | None = None) -> str:
        """Hash of the scenario, and the seed: what a chart of it has in its corner."""
        return stamp(self.to_mapping(), seed)

    def to_yaml(self, folder: Path | None = None) -> str:
        """The scenario as a file; with ``folder``, its relative paths are made to start there."""
        mapping = self.to_mapping()
        if folder is not None:
            named = [(mapping["workload"], "path"), (mapping["prices"], "file")]
            for d in mapping["deployments"]:
                named.append((d, "model"))
                if d["step_time"].get("name") not in load_profiles():
                    named.append((d["step_time"], "name"))
            for part, key in named:
                target = self._base_dir / part[key] if isinstance(part.get(key), str) else None
                if target is not None and target.exists():
                    part[key] = os.path.relpath(target, folder)
        return yaml.safe_dump(mapping, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML whose duplicate keys are errors and whose 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=deep)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str, what: str) -> dict[str, Any]:
    """The mapping that ``text`` is; ``what`` it is called. Raises ServelabError for anything else."""
    mapping = yaml_value(text, what)
    if not isinstance(mapping, dict):
        raise ServelabError(f"{what}: expected a mapping, got {type(mapping).__name__}")
    return mapping


def yaml_value(text: str, what: str) -> Any:
    """The value that ``text`` is. Raises ServelabError for what is not YAML, or holds what cannot be made of it,
    such as 2024-99-99."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ServelabError(f"{what} is not YAML that can be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as problem:
        raise ServelabError(f"{what} is not YAML: {problem}") from None


def overridden(mapping: dict[str, Any], override: str) -> dict[str, Any]:
    """``mapping`` with one ``path=value`` applied; the value is YAML, and a mapping replaces the subtree.

    >>> overridden({"deployments": [{"replicas": 1}]}, "deployments.0.replicas=4")
    {'deployments': [{'replicas': 4}]}
    """
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise ServelabError(f"--set {override!r}: expected path=value, such as deployments.0.replicas=4")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as problem:
        raise ServelabError(f"--set {override!r}: the value is not YAML: {problem}") from None

    def put(node: Any, keys: list[str], at: str) -> Any:
        if not keys:
            return value
        key, rest = keys[0], keys[1:]
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ServelabError(
                    f"--set {override!r}: {at or 'the scenario'} has no item {key!r}, it has {len(node)}"
                )
            return [put(v, rest, f"{at}.{key}") if i == int(key) else v for i, v in enumerate(node)]
        node = {} if node is None else node
        if not isinstance(node, dict):
            raise ServelabError(f"--set {override!r}: {at} is {node!r}, it has no field {key!r}")
        return {**node, key: put(node.get(key), rest, f"{at}.{key}".lstrip("."))}

    return put(mapping, path.split("."), "")


def explain(problem: ValidationError, mapping: Any) -> Iterator[str]:
    """A line for each fault: where, what was given, what is allowed, the nearest right name."""
    for error in problem.errors():
        where = _place(error["loc"], mapping)
        given = error.get("input")
        if error["type"] == "extra_forbidden":
            key = str(error["loc"][-1])
            yield f"{where}: unknown field{nearest(key, _known_fields())}"
        elif error["type"] == "missing":
            yield f"{where}: this field is required"
        elif error["type"] == "union_tag_invalid":
            context = error["ctx"]
            tags = [t.strip().strip("'") for t in context["expected_tags"].split(",")]
            yield (
                f"{where}: {context['discriminator']} is {context['tag']!r}{nearest(context['tag'], tags)}, "
                f"expected one of {', '.join(tags)}"
            )
        else:
            shown = "" if isinstance(given, dict | list) else f", got {given!r}"
            yield f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _steps(loc: tuple[Any, ...], mapping: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of ``loc`` that are keys of the file (not names of union members), each with its node."""
    node = mapping
    for i, part in enumerate(loc):
        if isinstance(node, list) and isinstance(part, int) and part < len(node):
            yield part, node
            node = node[part]
        elif isinstance(node, dict) and (part in node or i == len(loc) - 1):
            yield part, node
            node = node.get(part)


def _place(loc: tuple[Any, ...], mapping: Any) -> str:
    return ".".join(str(part) for part, _ in _steps(loc, mapping)) or "scenario"


@cache
def _known_fields() -> tuple[str, ...]:
    """Every field name of a scenario and its parts."""
    schema = Scenario.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    return tuple(dict.fromkeys(name for part in parts for name in part.get("properties", {})))
