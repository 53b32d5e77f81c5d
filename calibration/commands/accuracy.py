"""``make accuracy``: measures what docs/accuracy.md is judged on, and judges it.

python -m calibration.accuracy measure FOLDER [--python VENV/bin/python]   an hour at most, on an idle machine
python -m calibration.accuracy pack FOLDER OUT                             the rows that are committed
python -m calibration.accuracy judge OUT                                   what `make test` replays
"""

import argparse
import gzip
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from calibration.commands.calibrating import cpu_spec
from calibration.judge.compare_runs import error_table, headline, simulated_run, values, within
from calibration.judge.replay import replay
from calibration.measure.accuracy_plans import CHOICES, MODELS, plans
from calibration.measure.measured import MeasuredRun
from calibration.measure.measurements import read_campaign
from calibration.measure.runner import run_campaign
from calibration.profiles.build_profile import phase_runs
from calibration.profiles.calibrate import Calibrated, calibrate_folder
from simulator.catalog import GpuSpec
from simulator.catalog.profile import Profile
from simulator.records.metrics import rows_of

LIMIT, P99_LIMIT, RATE_LIMIT = 0.05, 0.10, 0.05
SMALL = "llama-4l-256h"
TTFT_S, TPOT_S = 0.4, 0.05  # the limits of goodput among the choices
KEPT = ("plan.json", "engine.jsonl", "runs.jsonl", "requests.jsonl")
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}


def measure(folder: Path, python: Path) -> int:
    """Run all plans that are not done; what is done is kept."""
    for name, plan in plans(folder).items():
        where = folder / name
        where.mkdir(parents=True, exist_ok=True)
        if not (where / "plan.json").exists():
            (where / "plan.json").write_text(json.dumps(plan))
        began = time.monotonic()
        code = run_campaign(where, python, lambda done, all_, s: None, CPU)
        sys.stderr.write(f"{name}: exit code {code}, {time.monotonic() - began:.0f} s\n")
        if code == 130:
            return code
    return 0


def pack(folder: Path, out: Path) -> None:
    """The rows of ``folder`` as they are committed: gzipped; batches of load tests and of other plans than the two
    calibrations are left out, for requests say what they came to."""
    for where in sorted(p for p in folder.iterdir() if (p / "plan.json").is_file()):
        target = out / where.name
        target.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if not (where / name).is_file():
                continue
            text = (where / name).read_text().replace(str(folder.resolve()), ".")
            with gzip.GzipFile(target / f"{name}.gz", "wb", mtime=0) as file:
                file.write(text.encode())
        if where.name not in MODELS:
            continue
        campaign = read_campaign(where)
        wanted = campaign.runs[campaign.runs["run"].isin(phase_runs(campaign, "fit", "api"))]
        spans = list(zip(wanted["began"], wanted["end"], strict=True))
        for source in sorted(where.glob("steps-*.jsonl")):
            with gzip.GzipFile(target / f"{source.name}.gz", "wb", mtime=0) as file:
                for line in source.read_text().splitlines():
                    row = json.loads(line)
                    at = row["t"][0] if "t" in row else row.get("at")
                    if at is None or any(a <= at <= b for a, b in spans):
                        file.write(line.encode() + b"\n")
    models = out / "models"
    if models.exists():
        shutil.rmtree(models)
    shutil.copytree(folder / "models", models)


@dataclass(frozen=True)
class Judged:
    """Error tables by subject, the ranking of configurations, and the two calibrations."""

    calibrations: dict[str, Calibrated]
    tables: dict[str, pd.DataFrame]
    cached: pd.DataFrame
    choices: pd.DataFrame

    def tau(self) -> float:
        """Kendall's rank correlation of simulated and measured goodput over the configurations."""
        return float(kendalltau(self.choices["simulated"], self.choices["measured"]).statistic)

    def regret(self) -> float:
        """What the configuration chosen by simulation loses against the measured best, relative."""
        chosen = self.choices["measured"].iloc[int(np.argmax(self.choices["simulated"]))]
        return float(1 - chosen / self.choices["measured"].max())


def judge(rows: Path, out: Path, gpu: str | GpuSpec | None = None) -> Judged:
    """Fit and replay everything in ``rows`` (as `pack` wrote it); profiles and reports go to ``out``."""
    gpu = cpu_spec() if gpu is None else gpu
    calibrations = {}
    for name in MODELS:
        (out / name).mkdir(parents=True, exist_ok=True)
        calibrations[name] = calibrate_folder(rows / name, f"cpu-{name}", gpu, None, _machine(rows), out / name)
    tables = {name: c.table for name, c in calibrations.items()}
    small = calibrations[SMALL]
    reference = str(small.profile_file.resolve())
    for name, replicas in (("sessions", 1), ("preempting", 1), ("two-engines", 2)):
        pairs = [(r, simulated_run(r, replay(small.profile, reference, r, replicas))) for r in _loads(rows / name)]
        tables[name] = error_table(pairs)
        if name == "sessions":
            cached = pd.DataFrame([_cached(a, b) for a, b in pairs])
    return Judged(calibrations, tables, cached, _choices(rows, small.profile, reference))


def _machine(rows: Path) -> str:
    """What the rows say that they were measured on, where the engine did not."""
    file = rows / "machine.txt"
    return file.read_text().strip() if file.is_file() else ""


def _loads(folder: Path) -> list[MeasuredRun]:
    campaign = read_campaign(folder)
    return [r for r in campaign.loads if not r.name.startswith("warm-up") and len(r.requests)]


def _cached(measured: MeasuredRun, simulated: MeasuredRun) -> dict[str, Any]:
    """Tokens found in the prefix cache: in all, and the share of requests with the very same number."""
    a, b = measured.requests["cached_tokens"].to_numpy(), simulated.requests["cached_tokens"].to_numpy()
    return {"run": measured.name, "measured": int(a.sum()), "simulated": int(b.sum()), "same": float((a == b).mean())}


def goodput(run: MeasuredRun) -> float:
    """Requests per second that keep both limits, over the makespan."""
    tpot = np.nan_to_num(values(run, "tpot_s"))
    good = (values(run, "ttft_s") <= TTFT_S) & (tpot <= TPOT_S)
    q = run.requests
    return float(good.sum() / (q["arrival_s"] + q["e2el_s"]).max())


def _choices(rows: Path, profile: Profile, reference: str) -> pd.DataFrame:
    """Goodput of each engine configuration, measured and simulated."""
    out = []
    for i, choice in enumerate(CHOICES):
        folder = rows / f"choice-{i:02d}"
        if not any(folder.glob("plan.json*")):
            continue
        pairs = [(run, simulated_run(run, replay(profile, reference, run))) for run in _loads(folder)]
        measured, simulated = ([goodput(pair[k]) for pair in pairs] for k in (0, 1))
        apart = max(measured) - min(measured) if len(measured) > 1 else float("nan")
        out.append({**choice, "measured": np.mean(measured), "apart": apart, "simulated": np.mean(simulated)})
    return pd.DataFrame(out)


def lines_of(judged: Judged) -> Iterator[str]:
    """What docs/accuracy.md says, as `judge` prints it."""
    for name, table in judged.tables.items():
        rows = headline(table)
        yield f"{name}"
        for row in rows_of(rows):
            limit = P99_LIMIT if row.statistic == "p99" else LIMIT
            floor = "unknown" if np.isnan(row.noise_floor) else f"{row.noise_floor:.1%}"
            mark = "" if within(pd.Series(row._asdict()), limit) else "  MISSED"
            yield (
                f"  {row.level:14} {row.metric:15} {row.statistic:5} measured {row.measured:9.4f} simulated "
                f"{row.simulated:9.4f} error {row.error:+7.1%} noise floor {floor:>8}{mark}"
            )
    for row in rows_of(judged.cached):
        yield (
            f"cached tokens {row.run}: measured {row.measured}, simulated {row.simulated}, the same for "
            f"{row.same:.1%} of requests"
        )
    yield "configurations, goodput [1/s]"
    yield judged.choices.round(2).to_string(index=False)
    yield f"Kendall tau {judged.tau():.2f}; the configuration chosen by simulation loses {judged.regret():.1%}"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="calibration.accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["measure", "pack", "judge"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--python", type=Path, default=Path(".venv-vllm/bin/python"))
    args = parser.parse_args(arguments)
    if args.what == "measure":
        return measure(args.folder, args.python)
    if args.what == "pack":
        pack(args.folder, args.out or Path("data/measurements/cpu"))
        return 0
    judged = judge(args.folder, args.out or Path("out/accuracy"))
    sys.stdout.write("\n".join(lines_of(judged)) + "\n")
    return 0
