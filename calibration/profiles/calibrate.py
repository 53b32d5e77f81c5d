"""Measurements in a folder -> profile.json and report.html beside them."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from calibration.fit.design import Fit, clean
from calibration.judge.report import write_calibration_report
from calibration.measure.measurements import Campaign, read_campaign
from calibration.profiles.build_profile import build_profile, fitted_steps, phase_runs, validated
from simulator.catalog import GpuSpec, ModelSpec
from simulator.catalog.profile import Profile


@dataclass(frozen=True)
class Calibrated:
    """What came of a folder: the profile with its errors, the table of errors, the fit, all candidates."""

    profile: Profile
    table: pd.DataFrame
    fit: Fit
    fits: list[Fit]
    campaign: Campaign
    profile_file: Path
    report_file: Path


def calibrate_folder(
    folder: Path,
    name: str,
    gpu: str | GpuSpec,
    model: str | ModelSpec | None = None,
    machine: str = "",
    out: Path | None = None,
) -> Calibrated:
    """Fit what ``folder`` holds, validate it on the load tests that the fit did not see, write profile and report to
    ``out`` (``folder``). Raises ServelabError as `read_campaign` and `build_profile`.
    """
    out = folder if out is None else out
    campaign = read_campaign(folder)
    profile, fit, fits = build_profile(campaign, name, gpu, model, machine)
    file = out / "profile.json"
    file.write_text(profile.to_json())
    unseen = set(phase_runs(campaign, "load"))
    loads = [run for run in campaign.loads if run.name in unseen and len(run.requests) and run.name != "warm-up"]
    profile, table, pairs = validated(profile, str(file.resolve()), loads)
    file.write_text(profile.to_json())
    table.to_csv(out / "errors.csv", index=False)
    frame = clean(fitted_steps(campaign))
    notes = list(campaign.notes)
    failed = sum(run.failed for run in campaign.loads)
    if failed:
        notes.append(f"{failed} requests failed; they are counted and not averaged in")
    report = write_calibration_report(out / "report.html", profile, table, pairs, fit, frame, fits, notes)
    return Calibrated(profile, table, fit, fits, campaign, file, report)
