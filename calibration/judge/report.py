"""The report of a calibration: one HTML file, without scripts, that loads nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.fit.design import Fit
from calibration.judge.charts import batch_scatter, cdf_by_level, error_bars, residuals
from calibration.judge.compare_runs import headline
from calibration.measure.measured import MeasuredRun
from simulator.catalog.profile import Profile
from simulator.charts.theme import to_svg
from simulator.records.metrics import rows_of

PAGE = Path(__file__).with_name("report.html").read_text(encoding="utf-8")


def _figure(value: float) -> str:
    """Four digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _row(row: Any) -> dict[str, Any]:
    ms = row.metric.endswith("_s") and row.metric not in ("requests_per_s", "output_tokens_per_s", "makespan_s")
    scale, unit = (1e3, " ms") if ms else (1.0, " /s" if row.metric.endswith("per_s") else " s")
    limit = 0.1 if row.statistic == "p99" else 0.05
    floor = row.noise_floor
    return {
        "level": row.level,
        "metric": row.metric.removesuffix("_s") if ms else row.metric.replace("_per_s", ""),
        "statistic": row.statistic,
        "measured": _figure(row.measured * scale) + unit,
        "simulated": _figure(row.simulated * scale) + unit,
        "error": f"{row.error:+.1%}",
        "count": f"{row.count:,}",
        "floor": "unknown" if np.isnan(floor) else f"{floor:.1%}",
        "miss": abs(row.error) > max(limit, 0.0 if np.isnan(floor) else floor),
    }


def verdict(table: pd.DataFrame) -> str:
    """One sentence: how far means over loads are off."""
    rows = headline(table)
    means = rows[rows["statistic"].isin(["mean", "value"])]
    if means.empty:
        return "No load test was there to validate it: its error is not known."
    worst = means.iloc[int(np.argmax(means["error"].abs()))]
    good = sum(not _row(r)["miss"] for r in rows_of(rows))
    return (
        f"{good} of {len(rows)} figures are within 5 % (p99: 10 %) or the noise floor; median error of a mean "
        f"{means['error'].abs().median():.1%}, largest {worst['error']:+.1%} ({worst['metric']} of {worst['level']})."
    )


def write_calibration_report(
    path: Path,
    profile: Profile,
    table: pd.DataFrame,
    pairs: list[tuple[MeasuredRun, MeasuredRun]],
    fit: Fit | None = None,
    frame: pd.DataFrame | None = None,
    fits: Sequence[Fit] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the report: errors of load tests with their distributions; of a fit also batches and parameters."""
    from jinja2 import Environment

    pictures = []
    if len(table):
        pictures = [
            to_svg(error_bars(table)),
            to_svg(cdf_by_level(pairs, "ttft_s", "TTFT")),
            to_svg(cdf_by_level(pairs, "tpot_s", "TPOT")),
        ]
    parameters, choice = [], ""
    if fit is not None and frame is not None:
        pictures += [to_svg(batch_scatter(frame, fit)), to_svg(residuals(frame, fit))]
        se = np.sqrt(np.diag(fit.covariance()))
        parameters = [
            {"name": n, "value": f"{v:.4g}", "unit": profile.units.get(n, "s"), "se": f"{e:.2g}"}
            for n, v, e in zip(fit.design.parameters, fit.coefficients, se, strict=True)
        ]
        parameters += [
            {"name": n, "value": f"{v:.4g}", "unit": "s", "se": ""}
            for n, v in (
                {"host_s": getattr(fit.config, "host_s", 0.0)}
                | {f"api_server.{k}": v for k, v in profile.api_server.items()}
            ).items()
        ]
        choice = "Held-out relative error: " + "; ".join(
            f"{f.design.name} {f.score:.1%} ± {f.score_se:.1%}" for f in fits
        )
        choice += f". Chosen: {fit.design.name}, the simplest within one standard error of the best."
    page = (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            profile=profile,
            said=verdict(table),
            rows=[_row(r) for r in rows_of(headline(table))] if len(table) else [],
            pictures=pictures,
            parameters=parameters,
            choice=choice,
            notes=notes,
            provenance=[(k, v) for k, v in profile.provenance.items() if v not in (None, "", [], {})],
        )
    )
    path.write_text(page, encoding="utf-8")
    return path
