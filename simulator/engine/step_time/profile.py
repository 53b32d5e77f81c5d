"""When a calibrated profile fits, shipped or your own: its parameters (``step_time: {kind: profile}``), and what to say
where it is stretched."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from simulator.catalog import GpuSpec, ModelSpec
from simulator.catalog.profile import Profile, find_profile, match_profile
from simulator.engine.config import EngineSettings
from simulator.engine.step_time.base import StepTime
from simulator.engine.step_time.config import GivenStepTime, build_step_time
from simulator.errors import ServelabError


class ProfileStepTime(BaseModel):
    """Step times of a calibrated profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["profile"] = "profile"
    name: str | None = Field(
        default=None, description="of `servelab list profiles`, or a file; null: the nearest to model, GPU and flags"
    )


def given(profile: Profile) -> GivenStepTime:
    """The step-time configuration inside a profile. Raises ServelabError where it is none."""
    try:
        return TypeAdapter(GivenStepTime).validate_python(profile.step_time)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ServelabError(f"profile {profile.name}: step_time.{place}: {first['msg']}") from None


def build_profiled(
    config: ProfileStepTime, model: ModelSpec, gpu: GpuSpec, settings: EngineSettings, base_dir: Path
) -> tuple[StepTime, Profile]:
    """The step time of the profile that ``config`` names or that comes nearest; differences become notes."""
    sought = (
        model.name,
        gpu.name,
        "bfloat16" if settings.dtype == "auto" else settings.dtype,
        settings.quantization,
        settings.tensor_parallel_size,
        settings.version,
    )
    if config.name is None:
        profile, differ = match_profile(*sought)
    else:
        profile = find_profile(config.name, base_dir)
        differ = profile.mismatches(*sought)
    inner = build_step_time(given(profile), model, gpu, settings)
    source = f"profile {profile.name}"
    if profile.date:
        source += f" of {profile.date}"
    notes = tuple(f"{source} is used for another {text}" for text in differ)
    return replace(inner, trust="extrapolated" if differ else profile.trust, source=source, notes=notes), profile


def outside(profile: Profile, reached: Mapping[str, float]) -> list[str]:
    """A note for each quantity that went beyond what the profile was measured over."""
    out = []
    for name, value in reached.items():
        if name in profile.domain and value > profile.domain[name][1]:
            out.append(
                f"profile {profile.name} was measured up to {name} = {profile.domain[name][1]:,.0f}, "
                f"this run reached {value:,.0f}: extrapolated"
            )
    return out


def worst(profile: Profile) -> str:
    """The largest held-out error of a mean, as text; empty where none was measured."""
    rows: list[Any] = [e for e in profile.errors if not e.in_sample and e.statistic in ("mean", "median")]
    if not rows:
        return ""
    row = max(rows, key=lambda e: abs(e.error))
    return f"{row.metric} {row.statistic} {row.error:+.1%} ({row.what})"
