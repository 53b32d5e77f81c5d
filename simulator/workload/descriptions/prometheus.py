"""Metrics of vLLM as Prometheus has them [1]_: how many requests, how long, how much of the prompts was cached.

Counters count since the server began, so two scrapes give the time between them; one scrape needs the time it stands
for. A histogram of lengths is all there is: each becomes a length of kind ``histogram``, even within a bucket.

.. [1] vLLM 0.32, ``/metrics``: vllm:request_prompt_tokens, vllm:request_generation_tokens, vllm:request_success,
   vllm:prefix_cache_hits, vllm:prefix_cache_queries.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from simulator.errors import ServelabError, nearest
from simulator.workload.descriptions import Description
from simulator.workload.files import check_file

PROMPT, OUTPUT = "vllm:request_prompt_tokens", "vllm:request_generation_tokens"
CANNOT = (
    "a histogram does not say how bursty the traffic was, nor its worst hour: arrivals are Poisson at the mean rate",
    "it does not say how prompt and output lengths go together: they are independent",
    "lengths are even within a bucket, which is up to a factor of 2.5 wide",
)

Samples = dict[str, dict[str, float]]  # name -> bucket bound ("" for none) -> value, summed over labels


def read(path: Path, earlier: Path | None = None, duration_s: float | None = None) -> Description:
    """The workload between two scrapes, or of one that stands for ``duration_s`` [s].

    Without ``duration_s`` the time between two scrapes must be given too, for a scrape has no date. Raises
    ServelabError for files that are not metrics of vLLM, for counters that fell (a restart) and where no request ended
    in between.
    """
    if duration_s is None or not 0 < duration_s < math.inf:
        raise ServelabError(
            f"{path}: duration_s must say how long these counters counted [s], got {duration_s}: metrics carry no time"
        )
    now = _scrape(path)
    before: Samples = _scrape(earlier) if earlier is not None else {}
    prompt, output = (_histogram(path, name, now, before) for name in (PROMPT, OUTPUT))
    notes = list(CANNOT)
    for name, (length, top) in ((PROMPT, prompt), (OUTPUT, output)):
        if top:
            notes.append(
                f"{name}: {top:,.0f} requests lie in the open bucket above {length['edges'][-1] - 1:,}; they were "
                "set just below it"
            )
    count = sum(_difference(path, PROMPT + "_count", now, before).values())
    mean = _difference(path, PROMPT + "_sum", now, before).get("", 0.0) / count
    hits, asked = (
        sum(_difference(path, f"vllm:prefix_cache_{k}_total", now, before).values()) for k in ("hits", "queries")
    )
    if asked:
        notes.append(
            f"{hits / asked:.1%} of the prompt tokens were found in the prefix cache; who shares what is not in the "
            "metrics, so nothing is shared here: add shared_prefix or session, or expect more prefill than there was"
        )
    notes.append(f"mean prompt by the counters {mean:,.1f} tokens, by the histogram's buckets {_mean(prompt[0]):,.1f}")
    one = {
        "name": "prometheus",
        "arrivals": {"kind": "poisson", "rate_rps": count / duration_s},
        "prompt_tokens": prompt[0],
        "output_tokens": output[0],
    }
    return Description({"source": "synthetic", "duration_s": float(duration_s), "classes": [one]}, tuple(notes))


def _scrape(path: Path) -> Samples:
    from prometheus_client.parser import text_string_to_metric_families

    check_file(path)
    out: Samples = {}
    try:
        for family in text_string_to_metric_families(Path(path).read_text(encoding="utf-8")):
            for sample in family.samples:
                found = out.setdefault(sample.name, {})
                bound = sample.labels.get("le", "")
                found[bound] = found.get(bound, 0.0) + sample.value
    except (ValueError, UnicodeDecodeError) as problem:
        raise ServelabError(f"{path}: not metrics in the text format of Prometheus: {problem}") from None
    if PROMPT + "_bucket" not in out:
        names = sorted(out)
        raise ServelabError(
            f"{path}: no metric {PROMPT!r}{nearest(PROMPT + '_bucket', names)}; it has {len(names)} others"
        )
    return out


def _difference(path: Path, name: str, now: Samples, before: Samples) -> dict[str, float]:
    earlier = before.get(name, {})
    out = {bound: value - earlier.get(bound, 0.0) for bound, value in now.get(name, {}).items()}
    if any(v < 0 for v in out.values()):
        raise ServelabError(
            f"{path}: {name} is lower than in the earlier scrape: the server restarted, or the files are swapped"
        )
    return out


def _histogram(path: Path, name: str, now: Samples, before: Samples) -> tuple[dict[str, Any], float]:
    """A length of kind histogram, and how many requests lie above its last bound."""
    buckets = _difference(path, name + "_bucket", now, before)
    upto = sorted((float(bound.replace("+Inf", "inf")), value) for bound, value in buckets.items())
    if not upto or upto[-1][1] <= 0:
        raise ServelabError(f"{path}: {name} counted no request in this time")
    edges, counts, below = [1], [], 0.0
    for bound, value in upto[:-1]:
        edges.append(int(bound) + 1)  # a bucket holds what is at most its bound
        counts.append(value - below)
        below = value
    top = upto[-1][1] - below
    if edges[1] <= edges[0]:
        edges, counts = edges[1:], counts[1:]
    counts[-1] += top
    used = [i for i, c in enumerate(counts) if c > 0]
    first, last = used[0], used[-1]
    return {"kind": "histogram", "edges": edges[first : last + 2], "counts": counts[first : last + 1]}, top


def _mean(length: dict[str, Any]) -> float:
    edges, counts = length["edges"], length["counts"]
    middle = [(a + b - 1) / 2 for a, b in pairwise(edges)]
    return sum(m * c for m, c in zip(middle, counts, strict=True)) / sum(counts)
