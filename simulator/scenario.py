"""A scenario: everything a simulation depends on but its seed. Composes the parts' own configs; YAML in and out."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from simulator.catalog.profile import load_profiles
from simulator.cluster.admission.config import AdmissionConfig
from simulator.cluster.deployment import Deployment
from simulator.cluster.gateway import GatewayConfig
from simulator.cluster.pools import NodesConfig
from simulator.cluster.router.config import RouterConfig
from simulator.cluster.router.least_outstanding import LeastOutstandingConfig
from simulator.cluster.router.weighted import WeightedConfig
from simulator.core.faults import explain
from simulator.core.slo import SloConfig
from simulator.core.stamp import stamp
from simulator.core.yaml_text import overridden, read_yaml
from simulator.errors import ServelabError, nearest
from simulator.pricing.prices import PricesConfig
from simulator.topology.path import PathConfig, PathField, PresetConfig
from simulator.topology.presets import opened
from simulator.workload import WorkloadConfig

SCHEMA_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
            raise ServelabError("\n".join(explain(problem, mapping, known_fields))) from None
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


@cache
def known_fields() -> tuple[str, ...]:
    """Every field name of a scenario and its parts."""
    schema = Scenario.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    return tuple(dict.fromkeys(name for part in parts for name in part.get("properties", {})))
