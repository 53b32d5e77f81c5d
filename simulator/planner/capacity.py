"""How much traffic a design takes: the highest rate within its SLO, and the knee of latency over load."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.planner.analytic import Lengths, screened
from simulator.planner.evaluate import job
from simulator.planner.runs import Runs
from simulator.planner.sweep import with_fields
from simulator.planner.traffic import requests_of
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario

LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)


@dataclass(frozen=True)
class Capacity:
    """``factor``: the highest share of the scenario's traffic within the SLO, found to ``precision``; ``rate_rps`` its
    mean rate [request/s], or the throughput where requests wait for answers (closed loops, sessions); ``knee_rps``:
    where mean E2EL begins to rise steeply; ``curve``: a row for each load simulated, by rate.

    ``binds`` is the limit that the first load beyond breaks; ``bounded``: no load up to the highest tried broke one.
    """

    factor: float
    rate_rps: float
    precision: float
    knee_rps: float
    binds: str
    curve: pd.DataFrame
    bounded: bool = True

    def __str__(self) -> str:
        at = (
            f"highest rate within SLO: {self.rate_rps:.4g} requests/s ({self.factor:.3g} x this traffic, to "
            f"{self.precision:.0%})"
        )
        if not self.bounded:
            return f"{at}; no higher rate was tried"
        return f"{at}; {self.binds} binds; knee of latency at {self.knee_rps:.4g} requests/s"


def knee(load: np.ndarray, latency: np.ndarray) -> float:
    """Load at which a rising curve of latency lies farthest below its chord [1]_; NaN with fewer than three points.

    .. [1] Satopaa et al., "Finding a 'Kneedle' in a Haystack", ICDCS workshops 2011.

    >>> float(knee(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.1, 1.3, 9.0])))
    3.0
    """
    if len(load) < 3 or latency.max() <= latency.min():
        return float("nan")
    x = (load - load.min()) / (load.max() - load.min())
    y = (latency - latency.min()) / (latency.max() - latency.min())
    return float(load[int(np.argmax(x - y))])


def capacity(
    scenario: Scenario, seeds: tuple[int, ...] = (0,), precision: float = 0.02, runs: Runs = Runs()
) -> Capacity:
    """The highest rate at which ``scenario`` meets its SLO under every seed, by bisection of the factor on its traffic.

    Where it begins is worked out analytically; all loads see the same draws. ``precision`` is relative.
    Raises ServelabError for a precision outside (0, 1), and where even a thousandth of the traffic misses the SLO: it
    says which part.
    """
    if not 0 < precision < 1:
        raise ServelabError(f"precision must lie between 0 and 1, got {precision}")
    table = requests_of(scenario, seeds[0])
    span = float(np.nanmax(table.arrival_s)) if len(table) else 0.0
    # where requests wait for answers the rate is an outcome
    mean = float("nan") if table.reacts else len(table) / (span or 1.0)
    tried: dict[float, dict] = {}

    def look(factors: list[float]) -> None:
        new = [f for f in dict.fromkeys(factors) if f not in tried]
        jobs = [job(with_fields(scenario, {"traffic": f}), seed) for f in new for seed in seeds]
        rows = runs.rows(jobs)
        for i, f in enumerate(new):
            same = rows[i * len(seeds) : (i + 1) * len(seeds)]
            worst = min(same, key=lambda row: row["margin"])
            tried[f] = {**worst, "meets": all(r["meets"] for r in same)}

    guess = 1.0 if table.reacts else _guess(scenario, seeds[0], mean)
    look([guess * level for level in LEVELS])
    while all(row["meets"] for row in tried.values()) and max(tried) < 64 * guess:
        look([max(tried) * 1.5])
    while not any(row["meets"] for row in tried.values()) and min(tried) > 1e-3 * min(1.0, guess):
        look([min(tried) / 2])
    good = [f for f, row in tried.items() if row["meets"]]
    if not good:
        least = tried[min(tried)]
        raise ServelabError(
            f"the SLO is missed even at {min(tried):.2g} x this traffic: {least['binds']} binds, "
            f"{least['attainment']:.2%} of requests are good ({-least['margin']:.2%} short)"
        )
    low = max(good)
    above = [f for f in tried if f > low]
    while above and min(above) / low - 1 > precision:
        middle = (low * min(above)) ** 0.5
        look([middle])
        if tried[middle]["meets"]:
            low = middle
        above = [f for f in tried if f > low]
    rate = {f: row["throughput_rps"] if table.reacts else f * mean for f, row in tried.items()}
    curve = pd.DataFrame([{"factor": f, "rate_rps": rate[f], **tried[f]} for f in sorted(tried)])
    top = float(curve.loc[curve["factor"] <= low * 1.3, "e2el_s_mean"].max())
    near = curve[curve["e2el_s_mean"] <= top]
    bend = knee(near["rate_rps"].to_numpy(float), near["e2el_s_mean"].to_numpy(float))
    return Capacity(low, rate[low], precision, bend, tried[min(above)]["binds"] if above else "", curve, bool(above))


def _guess(scenario: Scenario, seed: int, mean_rps: float) -> float:
    """Factor at which the analytic model says that the SLO is reached; 1 where it does not apply."""
    one = screened(scenario, Lengths.of(requests_of(scenario, seed)))
    d = resolve_deployment(scenario, 0).config
    most = (
        d.replicas
        if d.autoscaler.kind == "none"
        else max(d.replicas, getattr(d.autoscaler, "max_replicas", d.replicas))
    )
    return max(one * most / mean_rps, 1e-3) if one and len(scenario.deployments) == 1 else 1.0
