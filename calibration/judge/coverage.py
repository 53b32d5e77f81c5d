"""Do the intervals hold? ``python -m calibration.coverage tests/data/cpu-vllm-0.32``: 90 % intervals on held-out load
tests of real vLLM.

For each load test the figures of `simulator.planner.worlds` are drawn: coefficients from the profile's covariance, a
factor on step times and residual factors on latencies and throughput. What is drawn is not told by the load tests that
are judged: the discrepancy of a profile is that of the load-test errors of the other model's profile
(`calibration.judge.discrepancy`), on another engine.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from calibration.judge.compare_runs import makespan_s, simulated_run, values
from calibration.judge.discrepancy import spread
from calibration.judge.replay import deployment, request_table
from calibration.measure.accuracy_plans import CHOICES, MODELS
from calibration.measure.measured import MeasuredRun
from calibration.measure.measurements import read_campaign
from simulator.catalog.profile import Profile, find_profile
from simulator.planner.worlds import Uncertainty, World, drawn
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario
from simulator.simulation import simulate

METRICS = ("ttft_s", "tpot_s", "e2el_s", "requests_per_s")
SMALL = "llama-4l-256h"
LEVEL = 0.9


@dataclass(frozen=True)
class Load:
    """A measured load test and the profile, by name, that it is judged with."""

    run: MeasuredRun
    profile: str
    replicas: int = 1


def loads(rows: Path) -> Iterator[Load]:
    """All load tests of single engines: none of them was seen by a fit."""
    folders = [(name, name) for name in MODELS]
    folders += [(name, SMALL) for name in ("sessions", "preempting", *(f"choice-{i:02d}" for i in range(len(CHOICES))))]
    for folder, model in folders:
        if any((rows / folder).glob("plan.json*")):
            for run in read_campaign(rows / folder).loads:
                if not run.name.startswith("warm-up") and len(run.requests):
                    yield Load(run, f"cpu-{model}")


def means(run: MeasuredRun) -> dict[str, float]:
    """Mean latencies [s] and requests a second of a run."""
    out = {name: float(np.nanmean(values(run, name))) for name in METRICS[:3]}
    return out | {"requests_per_s": len(run.requests) / makespan_s(run)}


def simulated(load: Load, world: World | None = None) -> dict[str, float]:
    """The same of its simulation, in a world."""
    scenario = _scenario(load)
    if world is not None:
        scenario = world.of(scenario, 600.0)
    result = simulate(scenario, requests=request_table(load.run))
    return means(simulated_run(load.run, result))


def _scenario(load: Load) -> Scenario:
    profile = find_profile(load.profile)
    found = Scenario.model_validate(
        {
            "workload": {"source": "azure_conversation", "rate_rps": 1.0, "requests": 1},
            "deployments": [deployment(profile, load.profile, profile.engine | load.run.engine, load.replicas)],
        }
    )
    return found


def coverage(rows: Path, worlds: int = 20, every: int = 1) -> pd.DataFrame:
    """A row for each load test and metric: load, profile, metric, measured, nominal, low, high (90 %), width
    (relative), covered.

    ``every``: only each so-manieth load test is judged, after all have told the discrepancies.
    """
    found = list(loads(rows))
    nominal = [simulated(x) for x in found]
    measured = [means(x.run) for x in found]
    frames = []
    for name in dict.fromkeys(x.profile for x in found):
        errors = {
            m: np.array(
                [n[m] / k[m] - 1 for x, n, k in zip(found, nominal, measured, strict=True) if x.profile != name]
            )
            for m in METRICS
        }
        other = {m: spread(m, e) for m, e in errors.items()}
        profile: Profile = find_profile(name).model_copy(update={"discrepancy": other})
        mine = [i for i, x in enumerate(found) if x.profile == name][::every]
        for i in mine:
            frames += _judged(found[i], profile, nominal[i], measured[i], worlds, i)
    return pd.DataFrame(frames)


def _judged(
    load: Load, profile: Profile, nominal: dict[str, float], measured: dict[str, float], worlds: int, seed: int
) -> list[dict]:
    r = replace(resolve_deployment(_scenario(load), 0), profile=profile)
    out: dict[str, list[float]] = {m: [] for m in METRICS}
    for world in drawn([r], Uncertainty(), worlds, seed):
        figures = simulated(load, world)
        residual = dict(world.residual)
        for m in METRICS:
            out[m].append(figures[m] * residual.get("throughput" if m == "requests_per_s" else m, 1.0))
    rows = []
    for m in METRICS:
        low, high = np.quantile(out[m], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        rows.append(
            {
                "load": load.run.name,
                "profile": load.profile,
                "metric": m,
                "measured": measured[m],
                "nominal": nominal[m],
                "low": float(low),
                "high": float(high),
                "width": float((high - low) / measured[m]),
                "covered": bool(low <= measured[m] <= high),
            }
        )
    return rows


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """By metric: load tests, covered, share with its 95 % binomial interval (Clopper-Pearson), median width."""
    rows = []
    for metric, part in frame.groupby("metric", sort=False):
        k, n = int(part["covered"].sum()), len(part)
        between = binomtest(k, n).proportion_ci(0.95, method="exact")
        rows.append((metric, n, k, k / n, between.low, between.high, float(part["width"].median())))
    return pd.DataFrame(rows, columns=["metric", "loads", "covered", "share", "low", "high", "median_width"])


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="calibration.coverage", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="write every interval (.csv)")
    args = parser.parse_args(arguments)
    frame = coverage(args.rows, args.worlds)
    if args.out:
        frame.to_csv(args.out, index=False)
    for row in summary(frame).itertuples(index=False):
        sys.stdout.write(
            f"{row.metric:15} {row.covered} of {row.loads} load tests in their 90 % interval: {row.share:.0%} (95 % "
            f"binomial interval {row.low:.0%} to {row.high:.0%}), median width {row.median_width:.0%} of the measured "
            "value\n"
        )
    return 0
