"""Write data/profiles/*.json: one generic roofline fit per GPU and kind of model, with its held-out errors.

``python -m calibration.make_steady_profiles [runs.csv] [folder]``
"""

import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from calibration.fit.roofline import (
    RooflineFit,
    applicable,
    fit_roofline,
    leave_largest_third_out,
    leave_one_model_out,
    summary,
)
from calibration.measure.steady_rows import PROMPT_TOKENS, SteadyRow, read_rows, screen
from simulator.catalog.profile import SCHEMA, Profile
from simulator.errors import ServelabError

REPO = Path(__file__).resolve().parents[2]
RUNS = REPO.parent / "shared/data/vllm_steady_state/ml_energy_v3_lm-arena-chat.csv"
Z90 = 1.645  # of a normal distribution: nine tenths lie within so many standard deviations
ROUGH = {
    "B200": [
        "rows of B200 contradict each other and ask for more arithmetic than the data sheet has: take it for a roofline"
    ]
}
HOLD_OUTS = {
    "leave one model out": leave_one_model_out,
    "leave the largest third of batch sizes out": leave_largest_third_out,
}


def fit_b200(rows: Sequence[SteadyRow]) -> RooflineFit:
    """These rows ask for more arithmetic than the datasheet has, so its efficiency stays at data/roofline.csv."""
    return fit_roofline(rows, [name for name in applicable(rows) if name != "compute_efficiency"])


def profile(
    gpu: str,
    kind: str,
    rows: Sequence[SteadyRow],
    fitted: RooflineFit,
    errors: dict[str, Any],
    provenance: dict[str, Any],
) -> Profile:
    """The document of one fit; ``errors`` holds `summary` by hold-out."""
    values = fitted.every
    rough = gpu == "B200"
    rows_out = [
        {"what": what, "metric": metric, "statistic": statistic, "error": round(e[key], 5), "count": e["rows"]}
        for what, found in errors.items()
        for metric, e in found.items()
        for statistic, key in (("median", "median"), ("p90", "p90"))
    ]
    document = {
        "schema": SCHEMA,
        "name": f"{gpu.lower()}-roofline-mlenergy-{kind}",
        "gpu": rows[0].gpu.name,
        "models": sorted({row.model.name for row in rows}),
        "dtype": "bfloat16",
        "quantization": sorted({r.settings.quantization for r in rows}, reverse=True),
        "tensor_parallel_size": sorted({r.settings.tensor_parallel_size for r in rows}),
        "engine_version": "not published",
        "step_time": {"kind": "roofline"} | {name: float(f"{value:.6g}") for name, value in values.items()},
        "units": {name: "s" if name.endswith("_s") else "ratio" for name in values},
        "covariance": {"parameters": list(fitted.values), "matrix": fitted.covariance.tolist()},
        "discrepancy": {m: round(e["p90"] / Z90, 5) for m, e in errors["leave one model out"].items()},
        "domain": {"decode_seqs": [min(r.batch for r in rows), max(r.batch for r in rows)]},
        "trust": "roofline" if rough else "fitted",
        "provenance": provenance,
        "errors": rows_out,
    }
    return Profile.model_validate(document)


def make(path: Path, gpu: str) -> list[Profile]:
    """Profiles of ``gpu``: dense models, then MoE models on top of the dense values."""
    every, outside = read_rows(path, gpu)
    rows, screened = screen(every)
    dense = [row for row in rows if not row.model.experts]
    experts = [row for row in rows if row.model.experts]
    base = fit_b200 if gpu == "B200" else fit_roofline
    documents = []
    held: dict[str, float] = {}
    for kind, some, fit in (("dense", dense, base), ("moe", experts, None)):
        fit = fit or partial(fit_roofline, base=held)
        fitted = fit(some)
        held = fitted.every
        errors: dict[str, Any] = {}
        for what, hold_out in HOLD_OUTS.items():
            try:
                errors[what] = summary(hold_out(some, fit))
            except ServelabError as error:
                raise ServelabError(f"{gpu} {kind}, {what}: {error}") from error
        provenance = {
            "source": "ML.ENERGY v3, lm-arena-chat: closed-loop vLLM runs",
            "licence": "Apache-2.0 (tooling)",
            "fitted": date.today().isoformat(),
            "notes": [
                "the day of the measurement is not published",
                "prefill is a roofline: these runs say little of it",
                *ROUGH.get(gpu, []),
            ],
            "rows": len(some),
            "prompt_tokens_assumed": PROMPT_TOKENS,
            "no_architecture": outside,
            "screened": [s for s in screened if any(s.startswith(f"{r.gpu.name} {r.series} ") for r in some)],
        }
        documents.append(profile(gpu, kind, some, fitted, errors, provenance))
    return documents


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    path = Path(given[0]) if given else RUNS
    folder = Path(given[1]) if len(given) > 1 else REPO / "data/profiles"
    folder.mkdir(parents=True, exist_ok=True)
    for gpu in ("H100", "B200"):
        try:
            documents = make(path, gpu)
        except ServelabError as error:
            sys.stderr.write(f"{gpu}: no profile: {error}\n")
            continue
        for document in documents:
            (folder / f"{document.name}.json").write_text(document.to_json())
            said = (f"{e.what} {e.metric} {e.statistic} {e.error:.3f}" for e in document.errors)
            sys.stdout.write(f"{document.name}: {', '.join(said)}\n")
    return 0
