"""Designs that a plan is chosen from: what they cost, how they fared, and what a plan must show."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from simulator.core.slo import LIMITS
from simulator.planner.runs import Row
from simulator.planner.sweep import label
from simulator.scenario import Scenario

PARETO = {"usd_per_hour": -1, "ttft_s_p99": -1, "tpot_s_p99": -1, "throughput_tok_s": 1}


class Claim(BaseModel):
    """What a plan must hold: the SLO, in a share ``probability`` of worlds, shown at ``confidence``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probability: float = Field(default=0.9, gt=0, lt=1)
    confidence: float = Field(default=0.9, gt=0, lt=1)

    @property
    def looks(self) -> tuple[int, int]:
        """Worlds of a first look, in all of which a design must hold, and of a second, of which one may fail.

        So chosen that a design which holds in less than ``probability`` p of all worlds is accepted with a chance of 1
        - ``confidence`` at most: p^n for n worlds without a failure, and n (1 - p) p^(m - 1) for one failure among the
        first n and none up to m. Three quarters of the chance go to the first.

        >>> Claim().looks, 0.9**25 + 25 * 0.1 * 0.9**43 <= 0.1
        ((25, 44), True)
        """
        p, chance = self.probability, 1 - self.confidence
        n = int(np.ceil(np.log(0.75 * chance) / np.log(p)))
        m = 1 + int(np.ceil(np.log((chance - p**n) / (n * (1 - p))) / np.log(p)))
        return n, max(m, n + 1)


@dataclass
class Design:
    """One combination of choices. ``search`` is its row in the search world, ``proof`` its rows in fresh worlds."""

    fields: dict[str, Any]
    scenario: Scenario
    usd_per_hour: float
    screened_rps: float | None = None
    search: Row | None = None
    proof: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its choices, as text."""
        return ", ".join(f"{k}={label(v)}" for k, v in self.fields.items())

    @property
    def held(self) -> int:
        """Fresh worlds in which it held."""
        return sum(bool(r["meets"]) for r in self.proof)


def misses(row: Row) -> str:
    """What of the SLO a row breaks, and how far each limit is, as text."""
    near = [
        f"{LIMITS[name]} {row[f'{name}_of_limit']:.2f} x its limit"
        if np.isfinite(row[f"{name}_of_limit"])
        else f"{LIMITS[name]} never met"
        for name in LIMITS
        if f"{name}_of_limit" in row
    ]
    short = (
        f"{row['attainment']:.2%} of requests good, {row['worst_window']:.2%} in the worst window "
        f"({row['margin']:+.2%} to the target)"
    )
    return f"{row['binds']} binds; {short}; {', '.join(near)}; {row['state']}"


def why_not(d: Design) -> str:
    """What speaks against a design that was simulated."""
    if d.proof:
        worst = min(d.proof, key=lambda r: float(r["margin"]))
        return (
            f"holds in {d.held} of {len(d.proof)} fresh worlds (the slowest first); in the worst of them "
            f"{misses(worst)}"
        )
    return f"in the search world {misses(d.search)}" if d.search else "not simulated"


def pareto(frame: pd.DataFrame) -> np.ndarray:
    """Which rows no other row beats in cost, p99 TTFT, p99 TPOT and throughput at once; rows without figures are not.

    >>> f = pd.DataFrame({"usd_per_hour": [1.0, 2.0, 2.0], "ttft_s_p99": [2.0, 1.0, 3.0], "tpot_s_p99": [1.0, 1.0, 1.0],
    ...     "throughput_tok_s": [5.0, 5.0, 5.0]})
    >>> pareto(f).tolist()
    [True, True, False]
    """
    if not set(PARETO) <= set(frame.columns):
        return np.zeros(len(frame), bool)
    value = np.column_stack([sign * frame[name].astype(float) for name, sign in PARETO.items()])
    known = ~np.isnan(value).any(axis=1)
    out = np.zeros(len(frame), bool)
    for i in np.flatnonzero(known):
        others = value[known]
        beaten = (others >= value[i]).all(axis=1) & (others > value[i]).any(axis=1)
        out[i] = not beaten.any()
    return out


def replicas(d: Design) -> int:
    return d.scenario.deployments[0].replicas


def margin(d: Design) -> float:
    rows = d.proof or ([d.search] if d.search else [])
    return min((float(r["margin"]) for r in rows), default=-np.inf)


def nearness(d: Design) -> tuple[float, float]:
    """How near a design comes to its SLO: its margin, then how far the limit that is missed most is exceeded."""
    rows = d.proof or ([d.search] if d.search else [])
    over = [float(v) for r in rows for name, v in r.items() if name.endswith("_of_limit") and not np.isnan(v)]
    return margin(d), -max(over, default=np.inf)


def cost(d: Design) -> float:
    """USD an hour: of the machines, or, where pods come and go, as simulated."""
    moves = d.scenario.moves
    row = d.search
    return float(row["usd_per_hour"]) if moves and row and not np.isnan(row["usd_per_hour"]) else d.usd_per_hour
