"""Measurements -> profile: fit, check against physics, write down what it rests on and how wrong it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.fit.affine import fit_affine
from calibration.fit.api import fit_api_server
from calibration.fit.batches import check_physics, fit_all
from calibration.fit.design import Fit, clean
from calibration.fit.http import fit_from_outside, seen_from_outside
from calibration.formats import iteration_log
from calibration.judge.compare_runs import error_table, headline, simulated_run
from calibration.judge.discrepancy import spread
from calibration.judge.replay import FLAGS, replay
from calibration.measure.measured import MeasuredRun
from calibration.measure.measurements import Campaign
from simulator.catalog import GpuSpec, ModelSpec
from simulator.catalog.huggingface import read_config
from simulator.catalog.profile import SCHEMA, ErrorRow, Profile
from simulator.engine.capacity import kv_bytes_per_token
from simulator.engine.config import parse, resolve
from simulator.engine.work import work
from simulator.records.metrics import rows_of

UNITS = {
    "base_s": "s",
    "prefill_token_s": "s/token",
    "decode_seq_s": "s/sequence",
    "decode_kv_s": "s/token",
    "prefill_pair_s": "s/pair",
    "prefill_seq_s": "s/sequence",
    "host_s": "s",
    "seconds": "s",
    "tokens": "token",
}


def version_of(vllm: str) -> str:
    """The minor version that rules go by: ``0.32.0+cpu`` is 0.32."""
    return ".".join(vllm.split("+")[0].split(".")[:2])


def phase_runs(campaign: Campaign, *phases: str) -> list[str]:
    """Names of the runs of these phases of the plan."""
    return [r["name"] for r in campaign.plan["runs"] if r.get("phase") in phases]


def fitted_steps(campaign: Campaign) -> pd.DataFrame:
    """Batches that a fit may see: of the batch runs, and of the loads that the API server is fitted on; where the
    engine was not recorded, what probes of the batch runs saw from outside."""
    if not len(campaign.steps):
        return seen_from_outside(campaign)
    return campaign.steps[campaign.steps["run"].isin(phase_runs(campaign, "fit", "api"))]


def domain(frame: pd.DataFrame, loads: Sequence[MeasuredRun]) -> dict[str, tuple[float, float]]:
    """What was measured: range of each count of a batch, and of prompt + output."""
    out = {
        name: (float(frame[name].min()), float(frame[name].max()))
        for name in ("decode_seqs", "prefill_tokens", "decode_kv")
    }
    chunks = frame.loc[frame["prefill_seqs"] > 0]
    known = len(chunks) and "prefill_kv" in chunks
    context = [float((chunks["prefill_kv"] / chunks["prefill_seqs"]).max())] if known else []
    decodes = frame.loc[frame["decode_seqs"] > 0]
    context += [float(np.max(decodes["decode_kv"] / decodes["decode_seqs"]))] if len(decodes) else []
    context += [float((run.requests["prompt_tokens"] + run.requests["output_tokens"]).max()) for run in loads]
    return out | {"context": (1.0, max(context, default=1.0))}


def build_profile(
    campaign: Campaign, name: str, gpu: str | GpuSpec, model: str | ModelSpec | None = None, machine: str = ""
) -> tuple[Profile, Fit, list[Fit]]:
    """The profile of a campaign before it is validated, the fit and its candidates.

    ``model``: a catalog name; None reads the config.json of the measured one. Raises ServelabError where a coefficient
    cannot be known or is beyond the hardware.
    """
    found = model if model is not None else read_config(_model_folder(campaign))
    sizes = campaign.engine.get("cudagraph_capture_sizes") or ()
    steps = fitted_steps(campaign)
    if len(campaign.steps):
        best, fits = fit_all(steps, sizes)
        server = fit_api_server(campaign, phase_runs(campaign, "fit", "api"))
    else:
        best, server = fit_from_outside(clean(steps))
        fits = [best]
    flags = {k: v for k, v in campaign.engine["engine"].items() if k in (*FLAGS, "num_gpu_blocks") and v is not None}
    usable = clean(steps)
    version = version_of(campaign.engine["vllm"])
    seen = campaign.engine
    profile = Profile.model_validate(
        {
            "schema": SCHEMA,
            "name": name,
            "models": [found],
            "gpu": gpu,
            "dtype": str(seen["engine"].get("dtype", "bfloat16")).removeprefix("torch."),
            "engine_version": version,
            "engine": flags,
            "tensor_parallel_size": [seen["engine"].get("tensor_parallel_size") or 1],
            "step_time": best.config.model_dump(),
            "api_server": server,
            "units": {k: v for k, v in UNITS.items() if k in best.config.model_dump()},
            "covariance": {"parameters": best.design.parameters, "matrix": np.atleast_2d(best.covariance()).tolist()},
            "discrepancy": {"batches": float(np.std(best.held_out))},
            "domain": domain(usable, campaign.loads),
            "trust": "fitted",
            "provenance": {
                "source": "servelab calibrate",
                "date": seen["date"],
                "vllm": seen["vllm"],
                "torch": seen.get("torch"),
                "hardware": seen.get("gpu") or seen.get("cpu") or machine,
                "nvidia_smi": seen.get("nvidia_smi") or None,
                "batches": len(usable),
                "runs": len(campaign.runs),
                "held_out_score": best.score,
                "held_out_score_se": best.score_se,
                "candidates": {f.design.name: f.score for f in fits},
                "repeat_noise": repeat_noise(steps),
                "notes": list(campaign.notes),
            },
        }
    )
    _check(profile, best)
    return profile, best, fits


def _model_folder(campaign: Campaign) -> Path:
    """Where the measured model's config.json is; a relative path starts from the folder above the campaign's."""
    return campaign.folder.parent / campaign.plan["model"]


def repeat_noise(steps: pd.DataFrame) -> float | None:
    """How far batches of the same kind differ between repeats: median relative half-range of mean batch time.

    None without repeats.
    """
    frame = clean(steps)
    kind = frame["run"].str.replace(r"-\d+$", "", regex=True)
    means = frame.groupby([kind, "run"])["seconds"].mean()
    spread = means.groupby(level=0).agg(lambda v: (v.max() - v.min()) / 2 / v.mean() if len(v) > 1 else np.nan)
    known = spread.dropna().to_numpy(float)
    return float(np.median(known)) if len(known) else None


def _check(profile: Profile, fit: Fit) -> None:
    spec, gpu = profile.model_specs()[0], profile.gpu_spec()
    flags: dict[str, Any] = {
        "version": profile.engine_version,
        "dtype": profile.dtype,
        "num_gpu_blocks_override": 10**6,
        "tensor_parallel_size": profile.tensor_parallel_size[0],
    }
    settings = resolve(parse(flags), spec, gpu)
    tp = profile.tensor_parallel_size[0]
    done = work(spec, settings)
    check_physics(fit.config, spec, gpu, done.flops_per_token / tp, kv_bytes_per_token(spec, settings))


def validated(
    profile: Profile, reference: str, runs: Sequence[MeasuredRun], replicas: int = 1, in_sample: Sequence[str] = ()
) -> tuple[Profile, pd.DataFrame, list[tuple[MeasuredRun, MeasuredRun]]]:
    """``profile`` with its errors on ``runs``; their table; and measured with simulated runs."""
    pairs = [(run, simulated_run(run, replay(profile, reference, run, replicas))) for run in runs]
    table = error_table(pairs)
    rows = []
    for row in rows_of(headline(table)):
        rows.append(
            ErrorRow(
                what=row.level,
                metric=row.metric,
                statistic="mean" if row.statistic == "value" else row.statistic,
                error=round(float(row.error), 5),
                count=int(row.count),
                in_sample=row.level in in_sample,
                noise_floor=None if np.isnan(row.noise_floor) else round(float(row.noise_floor), 5),
            )
        )
    means = {}
    for metric in ("ttft_s", "tpot_s", "e2el_s", "requests_per_s"):
        found = [r.error for r in rows if r.metric == metric and r.statistic == "mean" and not r.in_sample]
        if found:
            means[metric] = spread(metric, found)
    return (
        profile.model_copy(update={"errors": (*profile.errors, *rows), "discrepancy": profile.discrepancy | means}),
        table,
        pairs,
    )


def profile_of_log(
    log: Path, name: str, gpu: str | GpuSpec, model: str | ModelSpec, version: str
) -> tuple[Profile, Fit]:
    """A profile from vLLM's log with iteration details: affine, without the coefficients that such a log cannot tell.

    Raises ServelabError where it has no such lines, too few, or all alike.
    """
    frame = clean(iteration_log.read(log))
    fit = fit_affine(frame, 0.0, ("base_s", "prefill_token_s", "decode_seq_s"))
    profile = Profile.model_validate(
        {
            "schema": SCHEMA,
            "name": name,
            "models": [model],
            "gpu": gpu,
            "engine_version": version,
            "step_time": fit.config.model_dump(),
            "units": {k: v for k, v in UNITS.items() if k in fit.config.model_dump()},
            "covariance": {"parameters": fit.design.parameters, "matrix": fit.covariance().tolist()},
            "discrepancy": {"batches": float(np.std(fit.held_out))},
            "domain": {n: (float(frame[n].min()), float(frame[n].max())) for n in ("decode_seqs", "prefill_tokens")},
            "provenance": {
                "source": f"iteration details in {log.name}",
                "batches": len(frame),
                "held_out_score": fit.score,
                "notes": [iteration_log.cannot_identify()],
            },
        }
    )
    return profile, fit
