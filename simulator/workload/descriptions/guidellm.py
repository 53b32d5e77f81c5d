"""Scenario files of GuideLLM, 0.8 (``spec``, ``benchmarks``) and before (``rate_type``, ``data`` as a text) [1]_.

Profiles: constant, poisson and async (constant) become arrivals; concurrent and synchronous a closed loop; throughput a
closed loop of all requests. Synthetic text: lengths are normal, clamped to [min, max], which are five deviations off
unless given; ``turns`` become a session, prefixes system prompts.

.. [1] vllm-project/guidellm 0.8.1, schemas/benchmark and schemas/data/deserializers/synthetic.
"""

from pathlib import Path
from typing import Any

from simulator.errors import ServelabError, nearest
from simulator.workload.descriptions import Description, load, number, unmapped

PROFILES = ("constant", "poisson", "async", "concurrent", "synchronous", "throughput")
DATA = ("prompt_tokens", "output_tokens", "turns", "prefix_tokens", "prefix_count", "first_prompt_tokens", "delay")
MANY = 100_000  # requests of a closed loop that ends by time


def read(path: Path) -> Description:
    """The workload of a scenario file: of its first benchmark, with a note on the others.

    Raises ServelabError, naming the file and the field, for profiles and data that cannot be mapped.
    """
    raw = load(path)
    try:
        return _new(raw) if "spec" in raw else _old(raw)
    except ServelabError as problem:
        raise ServelabError(f"{path}: {problem}") from None


def _new(raw: dict[str, Any]) -> Description:
    spec, benchmarks = dict(raw["spec"] or {}), raw.get("benchmarks") or [{}]
    profile = dict(spec.get("profile") or {})
    limits = {c.get("kind"): c for c in spec.get("constraints") or []}
    for key, value in benchmarks[0].items():
        part, _, name = key.partition(".")
        if part == "profile":
            profile[name] = value
    notes = [
        *unmapped(spec, ("profile", "data", "constraints", "backend"), "spec."),
        *unmapped(limits, ("max_duration", "max_requests"), "constraints "),
        *unmapped(profile, ("kind", "rate", "streams", "max_concurrency", "rampup_duration"), "profile."),
    ]
    if len(benchmarks) > 1:
        rest = "; ".join(", ".join(f"{k}={v}" for k, v in b.items()) for b in benchmarks[1:])
        notes.append(f"the first of {len(benchmarks)} benchmarks is mapped; the others have {rest}")
    seconds = _first((limits.get("max_duration") or {}).get("seconds"))
    count = _first((limits.get("max_requests") or {}).get("count"))
    data = spec.get("data") or []
    return _description(profile, data[0] if isinstance(data, list) and data else data, seconds, count, notes)


def _old(raw: dict[str, Any]) -> Description:
    profile = {"kind": raw.get("rate_type") or raw.get("profile"), "rate": raw.get("rate"), "streams": raw.get("rate")}
    known = ("rate_type", "profile", "rate", "data", "max_seconds", "max_requests", "target", "model", "backend")
    return _description(profile, raw.get("data"), raw.get("max_seconds"), raw.get("max_requests"), unmapped(raw, known))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _description(profile: dict[str, Any], data: Any, seconds: Any, count: Any, notes: list[str]) -> Description:
    kind = profile.get("kind")
    if kind not in PROFILES:
        raise ServelabError(
            f"profile {kind!r}{nearest(str(kind), PROFILES)} cannot be mapped, only {', '.join(PROFILES)}"
        )
    if (
        isinstance(profile.get("rate"), list)
        and len(profile["rate"]) > 1
        and kind in ("constant", "poisson", "async", "concurrent")
    ):
        notes.append(f"the first rate is mapped; the others are {', '.join(map(str, profile['rate'][1:]))}")
    if seconds is None and count is None:
        raise ServelabError(
            "neither a duration (max_duration, max_seconds) nor a number of requests (max_requests) is given"
        )
    out: dict[str, Any] = {"source": "synthetic"}
    one: dict[str, Any] = {"name": "guidellm"}
    if kind in ("constant", "poisson", "async"):
        rate = number("rate", _first(profile.get("rate")))
        one["arrivals"] = {"kind": "poisson" if kind == "poisson" else "constant", "rate_rps": rate}
        if profile.get("max_concurrency"):
            notes.append(
                "profile.max_concurrency does not map for arrivals at a rate: requests over it would wait in the client"
            )
        out["duration_s"] = number("duration", seconds) if seconds is not None else number("max_requests", count) / rate
        if seconds is None:
            notes.append(f"max_requests {count} at rate {rate:g} became a duration")
    else:
        requests = int(number("max_requests", count)) if count is not None else MANY
        users = requests if kind == "throughput" else 1
        if kind == "concurrent":
            users = int(number("streams", _first(profile.get("streams"))))
        elif profile.get("max_concurrency"):
            users = int(number("max_concurrency", profile["max_concurrency"]))
        if kind == "throughput" and count is None and not profile.get("max_concurrency"):
            raise ServelabError("profile throughput needs max_requests or max_concurrency to be simulated")
        one["arrivals"] = {"kind": "closed_loop", "concurrency": users, "requests": requests}
        if profile.get("rampup_duration"):
            one["arrivals"]["ramp_s"] = float(profile["rampup_duration"])
        if seconds is not None:
            one["arrivals"]["duration_s"] = number("duration", seconds)
    _text(one, data, notes)
    return Description({**out, "classes": [one]}, tuple(notes))


def _text(one: dict[str, Any], data: Any, notes: list[str]) -> None:
    """Lengths, prefixes and turns of synthetic text into class ``one``."""
    if isinstance(data, str):
        if "=" not in data:
            raise ServelabError(
                f"data {data!r} is a data set, only synthetic text (prompt_tokens=..., output_tokens=...) can be mapped"
            )
        data = {k.strip(): int(v) for k, _, v in (item.partition("=") for item in data.split(","))}
    if (
        not isinstance(data, dict)
        or data.get("kind", "synthetic_text") != "synthetic_text"
        or "prompt_tokens" not in data
    ):
        raise ServelabError(f"data {data!r} is not synthetic text with prompt_tokens, which is all that can be mapped")
    if "output_tokens" not in data:
        raise ServelabError("data.output_tokens is not given: how long answers get would be for the model to say")
    known = [f"{name}{end}" for name in DATA for end in ("", "_stdev", "_min", "_max")]
    notes += unmapped(data, (*known, "kind", "samples", "source", "turns_stdev"), "data.")
    one["prompt_tokens"] = _length(data, "prompt_tokens")
    one["output_tokens"] = _length(data, "output_tokens")
    if data.get("prefix_tokens"):
        one["shared_prefix"] = {"groups": int(data.get("prefix_count") or 1), "tokens": int(data["prefix_tokens"])}
    if int(data.get("turns") or 1) > 1:
        one["session"] = {"turns": {"kind": "fixed", "tokens": int(data["turns"])}}
        if data.get("delay"):
            one["session"]["wait_s"] = {"kind": "fixed", "seconds": float(data["delay"])}
            notes += unmapped(
                data, tuple(k for k in data if k not in ("delay_stdev", "delay_min", "delay_max")), "data."
            )
        if data.get("first_prompt_tokens"):
            one["session"]["next_prompt_tokens"] = one["prompt_tokens"]
            one["prompt_tokens"] = _length(data, "first_prompt_tokens")


def _length(data: dict[str, Any], name: str) -> dict[str, Any]:
    mean, std = int(number(f"data.{name}", data[name])), data.get(f"{name}_stdev")
    low, high = data.get(f"{name}_min"), data.get(f"{name}_max")
    if std:
        return {
            "kind": "normal",
            "mean": float(mean),
            "std_dev": float(std),
            "min": int(low or max(1, mean - 5 * std)),
            "max": int(high or mean + 5 * std),
        }
    low, high = int(low or mean), int(high or mean)
    return {"kind": "fixed", "tokens": low} if low == high else {"kind": "uniform", "min": low, "max": high}
