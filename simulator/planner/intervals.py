"""Every answer with its interval and what it rests on: the figures of a scenario over many worlds."""

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.planner.evaluate import UNITS, job
from simulator.planner.runs import Row, Runs
from simulator.planner.worlds import Uncertainty, World, doubt, worlds
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario

RESTS = ("roofline", "extrapolated", "fitted", "measured", "user")  # least sure first


def in_world(row: Row, world: World) -> Row:
    """A row with the world's prices, and the residual error of its profile on latencies, throughput and what follows
    from it.

    Whether limits are met is judged with that error already: see `World.of`.
    """
    out = {name: value * world.price if name.startswith("usd_") else value for name, value in row.items()}
    for metric, factor in world.residual:
        if metric == "throughput":
            out |= {
                name: out[name] * factor
                for name in ("throughput_rps", "throughput_tok_s", "goodput_rps")
                if name in out
            }
            out |= {name: out[name] / factor for name in out if name.startswith(("usd_per_1m_", "usd_per_request"))}
            continue
        mine = [n for n in out if n == metric or (n.startswith(f"{metric}_") and not n.endswith("_of_limit"))]
        out |= {name: out[name] * factor for name in mine}
    return out


def trust_of(scenario: Scenario) -> tuple[str, str]:
    """The least sure of what the deployments' step times rest on, and the error that is known of it."""
    found = [resolve_deployment(scenario, i) for i in range(len(scenario.deployments))]
    worst = min(found, key=lambda r: RESTS.index(r.step_time.trust))
    known = doubt(worst)
    return (worst.step_time.trust, f"step times +-{known.sd:.0%} (1 sd): {known.source}" if known.sd else known.source)


def intervals(
    scenario: Scenario,
    u: Uncertainty = Uncertainty(),
    n: int = 20,
    level: float = 0.9,
    seed: int = 0,
    hour: bool = False,
    runs: Runs = Runs(),
) -> pd.DataFrame:
    """Figures of ``scenario`` over ``n`` worlds: metric, median, low, high (quantiles at ``level``), unit, n, trust,
    rests_on.

    ``meets_slo`` is the share of worlds in which the SLO is met. Ranges of traffic and prices, profile covariance and
    discrepancy are drawn together, with a fresh day of traffic each. Raises ServelabError for fewer than two worlds and
    a level outside (0, 1).
    """
    if n < 2 or not 0 < level < 1:
        raise ServelabError(f"an interval needs n of at least 2 and a level between 0 and 1, got {n} and {level}")
    drawn = worlds(scenario, u, n, seed)
    rows = runs.rows([job(w.of(scenario, u.block_s), w.seed, hour) for w in drawn])
    return summarised([in_world(r, w) for r, w in zip(rows, drawn, strict=True)], level, *trust_of(scenario))


def summarised(rows: list[Row], level: float, trust: str, rests_on: str) -> pd.DataFrame:
    """Rows of worlds as intervals."""
    out = [("meets_slo", float(np.mean([r["meets"] for r in rows])), np.nan, np.nan, "ratio")]
    for metric, unit in UNITS.items():
        values = np.array([r.get(metric, np.nan) for r in rows], float)
        values = values[~np.isnan(values)]
        if len(values):
            low, middle, high = np.quantile(values, [(1 - level) / 2, 0.5, (1 + level) / 2])
            out.append((metric, float(middle), float(low), float(high), unit))
    frame = pd.DataFrame(out, columns=["metric", "median", "low", "high", "unit"])
    return frame.assign(n=len(rows), trust=trust, rests_on=rests_on)
