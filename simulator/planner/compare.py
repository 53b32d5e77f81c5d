"""Two designs under the same traffic, cost included, with paired intervals."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from simulator.cost.bill import cost_summary
from simulator.errors import ServelabError
from simulator.results.comparison import compare as compare_results
from simulator.results.comparison import paired_interval
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate

COSTS = ("usd_per_hour", "usd_per_1m_output_tokens", "usd_per_1m_output_tokens_within_slo", "usd_per_request")


def compare(
    a: Scenario,
    b: Scenario,
    seeds: Sequence[int] = (0, 1, 2, 3),
    level: float = 0.95,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> tuple[pd.DataFrame, list[Result], list[Result]]:
    """How ``b`` differs from ``a``: the frame of `simulator.results.comparison.compare` with rows of cost, and the
    results of both.

    Both serve the same requests under each seed; ``progress`` gets the runs done and all. With one seed intervals are
    over requests, and cost has none.
    Raises ServelabError where the workloads differ, and for a GPU without a price.
    """
    if not seeds:
        raise ServelabError("a comparison needs at least one seed")
    if a.workload != b.workload:
        raise ServelabError(
            "the two scenarios have different workloads, so nothing can be paired; give both the same one"
        )
    left: list[Result] = []
    right: list[Result] = []
    for seed in seeds:
        for scenario, side in ((a, left), (b, right)):
            progress(len(left) + len(right), 2 * len(seeds))
            side.append(simulate(scenario, seed))
    progress(2 * len(seeds), 2 * len(seeds))
    frame = compare_results(left, right, level)
    return pd.concat([frame, _costs(left, right, level)], ignore_index=True), left, right


def _costs(left: list[Result], right: list[Result], level: float) -> pd.DataFrame:
    sides = [[cost_summary(r).set_index("metric") for r in side] for side in (left, right)]
    rows = []
    for metric in COSTS:
        one, other = (np.array([f.loc[metric, "value"] for f in side], float) for side in sides)
        mean, low, high = paired_interval(other - one, level)
        rows.append(
            {
                "metric": metric,
                "stat": "mean",
                "a": float(one.mean()),
                "b": float(other.mean()),
                "difference": mean,
                "low": low,
                "high": high,
                "relative": mean / float(one.mean()) if one.mean() else np.nan,
                "differs": bool(low > 0 or high < 0),
                "pairs": len(one),
                "unit": sides[0][0].loc[metric, "unit"],
            }
        )
    return pd.DataFrame(rows)
