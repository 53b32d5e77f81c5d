"""What ``servelab validate run`` and ``validate drift`` do."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from calibration.commands.calibrating import key_values
from calibration.formats import prometheus, read_runs
from calibration.judge.compare_runs import error_table, headline, simulated_run, values
from calibration.judge.replay import replay
from calibration.judge.report import verdict, write_calibration_report
from calibration.measure.measured import MeasuredRun
from calibration.measure.measurements import read_campaign
from calibration.profiles.build_profile import phase_runs
from simulator.catalog.profile import Profile, find_profile
from simulator.errors import ServelabError
from simulator.records.metrics import latency, rows_of
from simulator.results.result import Result

GROUPS = 10  # groups of neighbouring requests, whose means are taken as independent
SIGNIFICANT = 0.05


def measured_runs(path: Path, engine_args: list[str]) -> list[MeasuredRun]:
    """Load tests of a campaign's folder or of a file; ``engine_args`` add to the flags that it says.

    Of a folder, runs that a fit may have used are left out. Raises ServelabError where there is none.
    """
    flags = key_values(engine_args)
    if (path / "plan.json").is_file() or (path / "plan.json.gz").is_file():
        campaign = read_campaign(path)
        unseen = set(phase_runs(campaign, "load"))
        runs = [r for r in campaign.loads if r.name in unseen and r.name != "warm-up"]
    else:
        runs = read_runs(path)
    runs = [replace(r, engine=r.engine | flags) for r in runs if len(r.requests)]
    if not runs:
        raise ServelabError(f"{str(path)!r} holds no load test with completed requests")
    return runs


def compare(
    name: str, measured: Path, as_json: bool, engine_args: list[str], replicas: int = 1, report: Path | None = None
) -> pd.DataFrame:
    """Print and return the errors of profile ``name`` on what ``measured`` holds."""
    profile = find_profile(name)
    runs = measured_runs(measured, engine_args)
    pairs = [(r, simulated_run(r, replay(profile, name, r, replicas))) for r in runs]
    table = error_table(pairs)
    failed = sum(r.failed for r in runs)
    notes = [n for r in runs for n in r.notes]
    if failed:
        notes.append(f"{failed} requests failed; they are counted and not averaged in")
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        print_json = {
            "profile": profile.name,
            "measured": str(measured),
            "failed": failed,
            "notes": notes,
            "errors": rows,
        }
        Console(soft_wrap=True, highlight=False).print_json(json.dumps(print_json))
    else:
        _show(profile, table, notes)
    if report is not None:
        write_calibration_report(report, profile, table, pairs, notes=notes)
    return table


def _show(profile: Profile, table: pd.DataFrame, notes: list[str]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    grid = Table(title=f"{profile.name}: simulated / measured - 1", title_justify="left", box=None, pad_edge=False)
    for column in ("load", "metric", "statistic", "measured", "simulated", "error", "noise floor", "count"):
        grid.add_column(column, justify="left" if column in ("load", "metric", "statistic") else "right")
    for row in rows_of(headline(table)):
        floor = "unknown" if np.isnan(row.noise_floor) else f"{row.noise_floor:.1%}"
        grid.add_row(
            row.level,
            row.metric,
            row.statistic,
            f"{row.measured:.4g}",
            f"{row.simulated:.4g}",
            f"{row.error:+.1%}",
            floor,
            f"{row.count:,}",
        )
    out.print(grid)
    out.print(verdict(table), markup=False)
    for note in notes:
        out.print(f"note: {note}", markup=False)


@dataclass(frozen=True)
class Drift:
    """How far one latency has moved from what the profile says: ``effect`` is measured / simulated - 1, ``p`` the
    probability of as much by chance and by the profile's own error."""

    metric: str
    effect: float
    p: float
    standard_error: float
    profile_error: float


def drifts(profile: Profile, pairs: list[tuple[MeasuredRun, MeasuredRun]]) -> list[Drift]:
    """A z-test for each latency on log ratios: groups of neighbouring requests give the measurement's error, to
    which the profile's own (its discrepancy) is added in quadrature."""
    out = []
    for metric in ("tpot_s", "ttft_s", "e2el_s"):
        ratios = []
        for measured, simulated in pairs:
            a, b = values(measured, metric), values(simulated, metric)
            usable = np.isfinite(a) & np.isfinite(b) if len(a) == len(b) else np.zeros(len(a), bool)
            for part in np.array_split(np.flatnonzero(usable), GROUPS):
                if len(part) >= 2:
                    ratios.append(np.log(a[part].mean() / b[part].mean()))
        if len(ratios) < 3:
            continue
        effect, se = float(np.mean(ratios)), float(np.std(ratios, ddof=1) / np.sqrt(len(ratios)))
        own = profile.discrepancy.get(metric, 0.0)
        spread = max(float(np.hypot(se, own)), 1e-12)
        out.append(Drift(metric, float(np.expm1(effect)), float(2 * norm.sf(abs(effect) / spread)), se, own))
    if not out:
        raise ServelabError("drift: too few requests to tell, at least 6 completed ones are needed")
    return out


def drift(name: str, measured: Path, tolerance: float, as_json: bool, engine_args: list[str]) -> bool:
    """Print the test of each latency; whether one has moved significantly and by more than ``tolerance``."""
    profile = find_profile(name)
    runs = measured_runs(measured, engine_args)
    found = drifts(profile, [(r, simulated_run(r, replay(profile, name, r))) for r in runs])
    moved = [d for d in found if d.p < SIGNIFICANT and abs(d.effect) > tolerance]
    out = Console(highlight=False, soft_wrap=True)
    if as_json:
        out.print_json(json.dumps({"profile": profile.name, "drift": bool(moved), "tests": [vars(d) for d in found]}))
        return bool(moved)
    for d in found:
        known = f"{d.profile_error:.1%}" if d.profile_error else "unknown, taken as 0"
        out.print(
            f"{d.metric}: measured {d.effect:+.1%} against the profile (standard error {d.standard_error:.1%}, "
            f"the profile's own error {known}), p = {d.p:.2g}",
            markup=False,
        )
    out.print(f"drift: {'yes, ' + ', '.join(d.metric for d in moved) if moved else 'no'}", markup=False)
    return bool(moved)


def compare_metrics(result: Path, before: Path, after: Path) -> None:
    """Print means and the buckets of percentiles that vLLM exported, beside those of a simulated result."""
    found = prometheus.read(before, after)
    run = Result.load(result)
    out = Console(highlight=False, soft_wrap=True)
    itl = np.repeat(run.itl["value_us"].to_numpy() * 1e-6, run.itl["count"].to_numpy())
    for metric, histogram in found.items():
        seen = itl if metric == "itl_s" else latency(run.requests, metric)
        seen = seen[np.isfinite(seen)]
        error = seen.mean() / histogram.mean - 1 if len(seen) and histogram.mean > 0 else float("nan")
        out.print(
            f"{metric}: mean measured {histogram.mean:.4g} s, simulated {seen.mean():.4g} s, error {error:+.1%}",
            markup=False,
        )
        for level in (0.5, 0.9, 0.99):
            low, high = histogram.quantile(level)
            value = np.percentile(seen, level * 100)
            where = "inside" if low <= value <= high else "outside"
            out.print(
                f"  p{level * 100:.0f}: measured {low:g} to {high:g} s, simulated {value:.4g} s: {where}", markup=False
            )
    out.print(f"note: {prometheus.cannot_identify()}", markup=False)
