"""What is not known, drawn together: step times, traffic, prices. A world is one draw of all of them and a day of
traffic.

Step times: coefficients from the covariance of the deployment's profile, all times a factor for what the model itself
gets wrong: lognormal, with the standard deviation of held-out errors that the profile states (inter-token latency or
TPOT), or else that of its trust level in data/discrepancy.csv. Traffic and prices are uniform over the ranges given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from simulator.catalog import load_discrepancy
from simulator.catalog.profile import Profile
from simulator.core.seeds import named_rng
from simulator.engine.step_time.profile import given
from simulator.planner.traffic import fresh, times
from simulator.run.resolved import Resolved, resolve_deployment
from simulator.scenario import Scenario

Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LATENCIES = ("ttft_s", "tpot_s", "e2el_s")
THROUGHPUT = ("requests_per_s", "throughput")  # what profiles call its error


class Uncertainty(BaseModel):
    """Ranges that worlds are drawn from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    traffic: tuple[Factor, Factor] = Field(default=(1.0, 1.0), description="growth: times the rate")
    prices: tuple[Factor, Factor] = Field(default=(1.0, 1.0), description="times every price")
    step_time: bool = Field(default=True, description="draw step times from what is known of their error")
    block_s: float = Field(default=600.0, gt=0, description="blocks that fresh days of a trace are made of [s]")

    @field_validator("traffic", "prices")
    @classmethod
    def _upwards(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] < value[0]:
            raise ValueError(f"a range goes from low to high, got {value}")
        return value


@dataclass(frozen=True)
class World:
    """``step``: factor on step times of each deployment; ``coefficients``: a drawn step time for each, or None."""

    seed: int
    traffic: float = 1.0
    price: float = 1.0
    step: tuple[float, ...] = ()
    coefficients: tuple[dict[str, Any] | None, ...] = ()
    residual: tuple[tuple[str, float], ...] = ()

    def of(self, scenario: Scenario, block_s: float) -> Scenario:
        """``scenario`` as it is in this world."""
        workload = times(fresh(scenario.workload, block_s), self.traffic)
        mapping = scenario.model_copy(update={"workload": workload}).to_mapping()
        self._tighten(mapping)
        for i, d in enumerate(mapping["deployments"]):
            if i < len(self.step):
                d["step_time_factor"] *= self.step[i]
            if i < len(self.coefficients):
                d |= self.coefficients[i] or {}
        return Scenario.of(mapping, scenario.base_dir)

    def _tighten(self, mapping: dict[str, Any]) -> None:
        """Limits of SLOs over the residual factors: latencies times a factor meet a limit where they meet it over
        the factor."""
        residual = dict(self.residual)
        own = [c.get("slo") for c in mapping["workload"].get("classes", ())]
        for slo in (mapping["slo"], *own):
            for name in LATENCIES:
                if slo and slo.get(name):
                    slo[name] /= residual.get(name, 1.0)


@dataclass(frozen=True)
class Doubt:
    """How wrong the step times of a deployment may be: relative standard deviation, and what says so."""

    sd: float
    source: str


def _own(r: Resolved) -> Mapping[str, float]:
    """What a profile says of its error, where it is of this model on this GPU; another vLLM version or TP size is
    let pass."""
    p = r.profile
    if p is None or p.gpu_spec().name != r.gpu.name or r.model.name not in [m.name for m in p.model_specs()]:
        return {}
    return p.discrepancy


def doubt(r: Resolved) -> Doubt:
    """What is known of the error of a deployment's step times."""
    own = _own(r)
    for name in ("itl", "tpot_s"):
        if own.get(name):
            return Doubt(own[name], f"held-out {name} of profile {r.profile.name}" if r.profile else "")
    row = load_discrepancy()[r.step_time.trust, r.model.moe_layers > 0]
    return Doubt(row[0], row[1])


def worlds(scenario: Scenario, u: Uncertainty, n: int, seed: int = 0) -> list[World]:
    """``n`` worlds; the same for the same arguments, and the first ones the same for another ``n``."""
    return drawn([resolve_deployment(scenario, i) for i in range(len(scenario.deployments))], u, n, seed)


def drawn(found: Sequence[Resolved], u: Uncertainty, n: int, seed: int = 0) -> list[World]:
    """`worlds` of deployments that are looked up."""
    out = []
    for k in range(n):
        rng = named_rng(np.random.SeedSequence([seed, k]), "world")
        traffic, price = rng.uniform(*u.traffic), rng.uniform(*u.prices)
        normal = rng.standard_normal(len(found))
        step = [float(np.exp(z * doubt(r).sd)) for z, r in zip(normal, found, strict=True)] if u.step_time else []
        fitted = [_coefficients(r.profile, rng) for r in found] if u.step_time else []
        out.append(
            World(
                1000 * (seed + 1) + k,
                float(traffic),
                float(price),
                tuple(step),
                tuple(fitted),
                _residual(found, rng, u),
            )
        )
    return out


def hard_world(scenario: Scenario, u: Uncertainty, probability: float, seed: int = 0) -> World:
    """A world whose step times are slower than in a share ``probability`` of all: what fails here holds in no more
    of them."""
    found = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
    z = NormalDist().inv_cdf(probability)
    step = tuple(float(np.exp(z * doubt(r).sd)) for r in found) if u.step_time else ()
    return World(1000 * (seed + 1) - 1, float(np.mean(u.traffic)), float(np.mean(u.prices)), step)


def _residual(found: Sequence[Resolved], rng: np.random.Generator, u: Uncertainty) -> tuple[tuple[str, float], ...]:
    """Factors on latencies and throughput for error that a profile's load tests showed beyond that of its step
    times."""
    r = found[0]
    z = float(rng.standard_normal())
    own, step = _own(r), doubt(r).sd
    if not u.step_time or not own:
        return ()
    known = [(m, own.get(m, 0.0), z) for m in LATENCIES]
    known.append(("throughput", max(own.get(name, 0.0) for name in THROUGHPUT), -z))
    return tuple((m, float(np.exp(at * max(sd**2 - step**2, 0.0) ** 0.5))) for m, sd, at in known)


def _coefficients(profile: Profile | None, rng: np.random.Generator) -> dict[str, Any] | None:
    """The profile's step time with coefficients drawn from their covariance, and its API server; None where it has
    none."""
    if profile is None or profile.covariance is None:
        return None
    names, matrix = profile.covariance.parameters, np.array(profile.covariance.matrix)
    base = given(profile).model_dump(exclude_none=True)
    shift = rng.multivariate_normal(np.zeros(len(names)), matrix, method="eigh")
    drawn = {k: list(v) if isinstance(v, tuple) else v for k, v in base.items()}
    for name, by in zip(names, shift.tolist(), strict=True):
        _add(drawn, name, by)
    try:
        drawn = type(given(profile)).model_validate(drawn).model_dump(exclude_none=True)
    except ValidationError:  # a draw outside the bounds, such as times that fall with the tokens
        drawn = base
    return {"step_time": drawn, **({"api_server": dict(profile.api_server)} if profile.api_server else {})}


def _add(step_time: dict[str, Any], name: str, by: float) -> None:
    """Add to a coefficient within its bounds; ``seconds[1]`` lifts all knots, ``rise[16]`` that knot and all later
    ones."""
    base, _, rest = name.partition("[")
    if not rest:
        if base in step_time:
            most = 1.0 if base.endswith("efficiency") else np.inf
            step_time[base] = float(np.clip(step_time[base] + by, 1e-3 if most == 1.0 else 0.0, most))
        return
    at = float(rest.rstrip("]"))
    for place, knot in enumerate(step_time["tokens"]):
        if knot >= at:
            step_time["seconds"][place] = max(step_time["seconds"][place] + by, 0.0)
