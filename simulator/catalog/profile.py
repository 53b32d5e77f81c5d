"""A profile: step-time parameters fitted to measurements, what they rest on and how wrong they were found to be.

JSON, written by ``servelab calibrate`` and the only thing the simulator takes over from it. ``data/profiles``
holds those that ship.
"""

import datetime
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.catalog.files import data_folder
from simulator.catalog.gpu import GpuSpec
from simulator.catalog.model import ModelSpec
from simulator.catalog.tables import find_gpu, find_model
from simulator.errors import ServelabError, nearest

SCHEMA: Literal["servelab.profile/1"] = "servelab.profile/1"
Trust = Literal["measured", "fitted", "extrapolated", "roofline", "user"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Covariance(_Part):
    """Of the parameters named, in their units: ``matrix[i][j]``."""

    parameters: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]


class ErrorRow(_Part):
    """One comparison with measurement: simulated / measured - 1 where ``error`` is of one statistic."""

    what: str = Field(description="run, load level or way of holding out")
    metric: str
    statistic: str = "mean"
    error: float = Field(description="relative, signed; of a median or larger set absolute, as statistic says")
    noise_floor: float | None = Field(default=None, description="half-width of repeats; null: unknown")
    count: int = Field(ge=0, description="requests or rows it rests on")
    in_sample: bool = Field(default=False, description="the fit saw these data")


class Profile(_Part):
    """See the module. ``models`` and ``gpu`` are catalog names or their own definitions."""

    schema_name: Literal["servelab.profile/1"] = Field(default=SCHEMA, alias="schema")
    name: str = Field(min_length=1)
    models: tuple[str | ModelSpec, ...] = Field(min_length=1)
    gpu: str | GpuSpec
    dtype: str = "bfloat16"
    quantization: tuple[str, ...] = ("none",)
    tensor_parallel_size: tuple[int, ...] = (1,)
    engine_version: str
    engine: dict[str, Any] = Field(default_factory=dict, description="flags it was measured with")
    step_time: dict[str, Any] = Field(description="a step_time of a scenario")
    api_server: dict[str, Any] = Field(default_factory=dict, description="an api_server of a scenario")
    units: dict[str, str] = Field(default_factory=dict)
    covariance: Covariance | None = None
    discrepancy: dict[str, float] = Field(
        default_factory=dict, description="standard deviation of relative held-out errors, by metric"
    )
    domain: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="of what was measured: decode_seqs, prefill_tokens, decode_kv, context"
    )
    trust: Trust = "fitted"
    provenance: dict[str, Any] = Field(default_factory=dict, description="source, date, hardware, notes")
    errors: tuple[ErrorRow, ...] = ()

    @property
    def date(self) -> str:
        """Day of the measurement, ISO."""
        return str(self.provenance.get("date", ""))

    def age_days(self, today: datetime.date | None = None) -> int | None:
        """Days since the measurement; None where its date is not known."""
        try:
            return ((today or datetime.date.today()) - datetime.date.fromisoformat(self.date)).days
        except ValueError:
            return None

    def model_specs(self) -> tuple[ModelSpec, ...]:
        """The models it was measured on."""
        return tuple(m if isinstance(m, ModelSpec) else find_model(m) for m in self.models)

    def gpu_spec(self) -> GpuSpec:
        """The GPU it was measured on."""
        return self.gpu if isinstance(self.gpu, GpuSpec) else find_gpu(self.gpu)

    def mismatches(self, model: str, gpu: str, dtype: str, quantization: str, tp: int, version: str) -> list[str]:
        """What differs from what it was measured on, worst first, as text."""
        out = []
        names = [m.name for m in self.model_specs()]
        if model not in names:
            out.append(f"model {model}, the profile is of {', '.join(names[:3])}{' and others' if names[3:] else ''}")
        if gpu != self.gpu_spec().name:
            out.append(f"GPU {gpu}, the profile is of {self.gpu_spec().name}")
        if tp not in self.tensor_parallel_size:
            out.append(f"tensor_parallel_size {tp}, the profile is of {'/'.join(map(str, self.tensor_parallel_size))}")
        if dtype != self.dtype:
            out.append(f"dtype {dtype}, the profile is of {self.dtype}")
        if quantization not in self.quantization:
            out.append(f"quantization {quantization}, the profile is of {'/'.join(self.quantization)}")
        if version != self.engine_version:
            out.append(f"vLLM {version}, the profile is of {self.engine_version}")
        return out

    def to_json(self) -> str:
        """The file's text; lists of numbers stand on one line."""
        text = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in text.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read_profile(path: Path) -> Profile:
    """The profile in a file. Raises ServelabError for a file that is none, or of another schema."""
    try:
        data = json.loads(path.read_text())
    except OSError:
        raise ServelabError(f"profile {str(path)!r}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise ServelabError(f"profile {str(path)!r} is not JSON: {problem}") from None
    said = data.get("schema") if isinstance(data, Mapping) else None
    if said != SCHEMA:
        raise ServelabError(f"profile {str(path)!r}: schema is {said!r}, this servelab reads {SCHEMA!r}")
    try:
        return Profile.model_validate(data)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ServelabError(f"profile {str(path)!r}: {place}: {first['msg']}") from None


@lru_cache
def load_profiles() -> Mapping[str, Profile]:
    """Profiles that ship, by name."""
    found = [read_profile(path) for path in sorted((data_folder() / "profiles").glob("*.json"))]
    return MappingProxyType({p.name: p for p in found})


def find_profile(name: str, base_dir: Path = Path()) -> Profile:
    """A profile by catalog name or by path. Raises ServelabError naming the nearest."""
    known = load_profiles()
    if name in known:
        return known[name]
    if name.endswith(".json") or (base_dir / name).is_file():
        return read_profile(base_dir / name)
    raise ServelabError(f"profile: {name!r} is not there{nearest(name, known)}; `servelab list profiles` shows all")


def match_profile(
    model: str, gpu: str, dtype: str, quantization: str, tp: int, version: str
) -> tuple[Profile, list[str]]:
    """The shipped profile of that model and GPU with the fewest other differences, and these.

    Raises ServelabError where none is of that model on that GPU.
    """
    ranked = []
    for profile in load_profiles().values():
        differ = profile.mismatches(model, gpu, dtype, quantization, tp, version)
        if not any(d.startswith(("model ", "GPU ")) for d in differ):
            ranked.append((len(differ), profile.step_time["kind"] == "roofline", profile.name, differ))
    if not ranked:
        there = sorted(p.name for p in load_profiles().values() if gpu == p.gpu_spec().name)
        said = f"; of this GPU there are {', '.join(there)}" if there else ""
        raise ServelabError(
            f"step_time: no profile of {model} on {gpu}{said}; name one, measure one with `servelab calibrate`, "
            "or use kind: roofline"
        )
    best = min(ranked)
    return load_profiles()[best[2]], best[3]
