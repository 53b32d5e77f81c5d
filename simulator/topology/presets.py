"""Topologies of one line, and what they stand for when opened up."""

from typing import Any

from pydantic import ValidationError

from simulator.catalog import constants, load_stages
from simulator.errors import ServelabError, nearest
from simulator.topology.path import HopConfig, PathConfig, PresetConfig

PRESETS = ("monolith", "microservices", "kubernetes")


def default_hop() -> HopConfig:
    """A hop inside a cluster with a service mesh, figures of data/platform.csv."""
    c = constants("platform")
    return HopConfig(
        network_s=c["hop_network"],
        bytes_per_s=c["hop_bytes_per_s"],
        bytes_per_token=c["bytes_per_token"],
        sidecar_p90_s=c["sidecar_pair_p90"],
        sidecar_p99_s=c["sidecar_pair_p99"],
    )


def _application() -> list[dict[str, Any]]:
    """The stages of an enterprise application around an LLM, data/stages.csv: assumptions, to be set by the user."""
    stages = []
    for row in load_stages():
        stage = {
            "name": row["stage"],
            "after": [row["after"]] if "after" in row else [],
            "workers": int(row["workers"]),
            "service": {"kind": "gamma", "mean_s": float(row["mean_s"]), "cv": float(row["cv"])},
            "cpu": float(row["cpu"]),
            "memory_bytes": float(row["memory_bytes"]),
            "off_critical_path": bool(int(row["off_critical_path"])),
        }
        stages.append(stage)
    at = next(i for i, s in enumerate(stages) if s["after"] == ["llm"])
    stages.insert(at, {"name": "llm", "kind": "llm", "after": ["guardrail_in", "reranking"]})
    return stages


def _kubernetes() -> list[dict[str, Any]]:
    c = constants("platform")
    gateway = next(s for s in _application() if s["name"] == "gateway")
    picker = {"name": "endpoint_picker", "workers": 1, "prompt_token_s": c["picker_s_per_byte"] * c["bytes_per_token"]}
    return [gateway, picker, {"name": "llm", "kind": "llm"}]


def opened(config: PresetConfig) -> PathConfig:
    """The path that a preset stands for.

    Raises ServelabError for an override of a stage or a field that does not exist.
    """
    stages = _kubernetes() if config.preset == "kubernetes" else _application()
    names = [s["name"] for s in stages]
    for name in (*config.stages, *config.without):
        if name not in names:
            raise ServelabError(f"path: {config.preset} has no stage {name!r}{nearest(name, names)}")
    for stage in stages:
        stage |= config.stages.get(stage["name"], {})
    for name in config.without:
        gone = next(s for s in stages if s["name"] == name)
        stages.remove(gone)
        for stage in stages:
            if name in (stage.get("after") or ()):
                kept = [b for b in stage["after"] if b != name]
                stage["after"] = list(dict.fromkeys([*kept, *(gone.get("after") or ())]))
    mapping: dict[str, Any] = {"stages": stages}
    if config.preset == "monolith":
        for stage in stages:
            if stage.get("kind") != "llm":
                stage |= {"pool": "process"}
        mapping["pools"] = [{"name": "process", "workers": config.workers, "per_pod": True, "hold": "request"}]
    else:
        mapping["hop"] = (config.hop or default_hop()).model_dump(exclude_none=True)
    try:
        return PathConfig.model_validate(mapping)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise ServelabError(f"path: {config.preset}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
