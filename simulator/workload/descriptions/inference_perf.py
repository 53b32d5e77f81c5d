"""The configuration of inference-perf [1]_: ``load`` and ``data``.

Load types constant, poisson (stages become steps of a profile, with a pause of ``interval`` between them) and
concurrent (its first stage). Data types random and synthetic (lengths), shared_prefix. Its lengths are drawn and
clamped to [min, max]; normal, lognormal (mean and deviation of the lognormal itself), uniform and fixed map.

.. [1] kubernetes-sigs/inference-perf, inference_perf/config (2026): LoadConfig, DataConfig, Distribution, SharedPrefix.
"""

import math
from pathlib import Path
from typing import Any

from simulator.errors import ServelabError
from simulator.workload.descriptions import Description, load, number, unmapped

LOADS = ("constant", "poisson", "concurrent")
DATA = ("random", "synthetic", "shared_prefix")


def read(path: Path) -> Description:
    """The workload of a configuration file.

    Raises ServelabError, naming the file and the field, for load or data types that cannot be simulated.
    """
    raw = load(path)
    try:
        return _description(raw)
    except ServelabError as problem:
        raise ServelabError(f"{path}: {problem}") from None


def _description(raw: dict[str, Any]) -> Description:
    traffic, data = raw.get("load") or {}, raw.get("data") or {}
    kind, source = traffic.get("type", "constant"), data.get("type")
    if kind not in LOADS:
        raise ServelabError(f"load.type {kind!r} cannot be mapped, only {', '.join(LOADS)}")
    if source not in DATA:
        raise ServelabError(
            f"data.type {source!r} cannot be mapped, only {', '.join(DATA)}: its lengths are in a data set"
        )
    notes = [
        *unmapped(traffic, ("type", "stages", "interval", "num_workers"), "load."),
        *unmapped(data, ("type", "input_distribution", "output_distribution", "shared_prefix"), "data."),
    ]
    one: dict[str, Any] = {"name": "inference-perf"}
    out: dict[str, Any] = {"source": "synthetic"}
    one["arrivals"], duration = _arrivals(kind, traffic, notes)
    if duration is not None:
        out["duration_s"] = duration
    if source == "shared_prefix":
        prefix = data.get("shared_prefix") or {}
        groups = prefix.get("num_unique_system_prompts", prefix.get("num_groups", 10))
        system = prefix.get("system_prompt_len", 100)
        if isinstance(system, dict):
            system = round(system.get("mean", 512))
            notes.append("shared_prefix.system_prompt_len is a distribution, its mean is used")
        one["shared_prefix"] = {"groups": int(groups), "tokens": int(system)}
        one["prompt_tokens"] = _length(
            "question_len", prefix.get("question_distribution") or prefix.get("question_len", 50)
        )
        one["output_tokens"] = _length("output_len", prefix.get("output_distribution") or prefix.get("output_len", 50))
        if prefix.get("enable_multi_turn_chat"):
            notes.append(
                "shared_prefix.enable_multi_turn_chat: turns do not map, each request stands alone; see session"
            )
        notes.append(
            "its prompts are a fixed set that is sent again and again: repeated questions found in a cache do not map"
        )
    else:
        one["prompt_tokens"] = _length("input_distribution", data.get("input_distribution") or {})
        one["output_tokens"] = _length("output_distribution", data.get("output_distribution") or {})
    return Description({**out, "classes": [one]}, tuple(notes))


def _arrivals(kind: str, traffic: dict[str, Any], notes: list[str]) -> tuple[dict[str, Any], float | None]:
    stages = traffic.get("stages") or []
    if not stages:
        raise ServelabError("load.stages is empty: a sweep finds its rates while it runs and cannot be mapped")
    if kind == "concurrent":
        if len(stages) > 1:
            rest = ", ".join(str(s.get("concurrency_level")) for s in stages[1:])
            notes.append(f"the first of {len(stages)} stages is mapped; the others have concurrency_level {rest}")
        users = int(number("load.stages.0.concurrency_level", stages[0].get("concurrency_level")))
        count = int(number("load.stages.0.num_requests", stages[0].get("num_requests")))
        return {"kind": "closed_loop", "concurrency": users, "requests": count}, None
    points, at = [], 0.0
    pause = float(traffic.get("interval", 1.0))
    for i, stage in enumerate(stages):
        rate, length = (
            number(f"load.stages.{i}.rate", stage.get("rate")),
            number(f"load.stages.{i}.duration", stage.get("duration")),
        )
        points += [[at, rate], [at + length, 0.0]]
        at += length + pause
    duration = at - pause
    if len(stages) == 1:
        return {"kind": kind, "rate_rps": points[0][1]}, duration
    if kind == "constant":
        notes.append("load.type constant: several stages are a profile with nearly equal intervals (cv 0.01)")
    regular = {"cv": 0.01} if kind == "constant" else {}
    return {"kind": "profile", "interpolation": "step", "points": points[:-1], **regular}, duration


def _length(where: str, given: Any) -> dict[str, Any]:
    """A distribution of theirs as ours; a number is fixed."""
    if isinstance(given, int):
        return {"kind": "fixed", "tokens": given}
    if not isinstance(given, dict):
        raise ServelabError(f"{where} must be a number or a distribution, got {given!r}")
    low, high = max(1, int(given.get("min", 10))), int(given.get("max", 1024))
    mean, kind = float(given.get("mean", 512)), given.get("type", "normal")
    std = math.sqrt(given["variance"]) if given.get("variance") is not None else float(given.get("std_dev", 200))
    if kind == "fixed" or (kind in ("normal", "lognormal") and std == 0):
        return {"kind": "fixed", "tokens": int(mean)}
    if kind == "normal":
        return {"kind": "normal", "mean": mean, "std_dev": std, "min": low, "max": high}
    if kind == "uniform":
        return {"kind": "uniform", "min": low, "max": high}
    if kind == "lognormal":
        sigma = math.sqrt(math.log1p((std / mean) ** 2))
        return {
            "kind": "lognormal",
            "median": mean * math.exp(-(sigma**2) / 2),
            "sigma": sigma,
            "min": low,
            "max": high,
        }
    raise ServelabError(f"{where}.type {kind!r} cannot be mapped, only normal, lognormal, uniform, fixed")
