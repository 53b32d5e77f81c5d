"""What moves the answer: each field over its stated range, the others as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from simulator.errors import ServelabError, nearest
from simulator.planner.evaluate import UNITS, job
from simulator.planner.runs import Runs
from simulator.planner.sweep import label, with_fields
from simulator.scenario import Scenario


def sensitivity(
    scenario: Scenario,
    ranges: Mapping[str, tuple[Any, Any]],
    metric: str = "usd_per_1m_output_tokens_within_slo",
    seeds: Sequence[int] = (0,),
    runs: Runs = Runs(),
) -> pd.DataFrame:
    """A tornado: field, low, high (values), at_low, at_high, base (means of ``metric`` over the seeds), swing, unit;
    widest first.

    Fields are those of `sweep`; ``step_time_factor`` stands for that of the first deployment. All runs see the same
    draws.
    Raises ServelabError for an unknown metric, a field that does not exist and a range that is not two values.
    """
    if metric not in UNITS:
        raise ServelabError(f"metric {metric!r}{nearest(metric, UNITS)}: expected one of {', '.join(UNITS)}")
    cases: list[tuple[str, str, dict[str, Any]]] = [("", "base", {})]
    for field, pair in ranges.items():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ServelabError(f"range of {field}: expected two values, low and high, got {pair!r}")
        name = "deployments.0.step_time_factor" if field == "step_time_factor" else field
        cases += [(field, "low", {name: pair[0]}), (field, "high", {name: pair[1]})]
    jobs = [job(with_fields(scenario, fields), seed) for _, _, fields in cases for seed in seeds]
    rows = runs.rows(jobs)
    n = len(seeds)
    value = {
        (field, side): sum(float(r[metric]) for r in rows[i * n : (i + 1) * n]) / n
        for i, (field, side, _) in enumerate(cases)
    }
    out = [
        {
            "field": field,
            "low": label(pair[0]),
            "high": label(pair[1]),
            "at_low": value[field, "low"],
            "at_high": value[field, "high"],
            "base": value["", "base"],
            "swing": abs(value[field, "high"] - value[field, "low"]),
            "unit": UNITS[metric],
        }
        for field, pair in ranges.items()
    ]
    frame = pd.DataFrame(out, columns=["field", "low", "high", "at_low", "at_high", "base", "swing", "unit"])
    return frame.sort_values("swing", ascending=False, ignore_index=True)
