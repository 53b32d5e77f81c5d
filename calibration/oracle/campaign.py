"""What to measure: batches that make a step-time model identifiable, and loads that it is tested on.

A campaign is a list of runs for `calibration.oracle.vllm_worker`. ``batch`` runs hold a number of sequences decoding at
a chosen context and put prompts of chosen lengths beside them, so that prefill tokens, prefill context, decoding
sequences and their context vary independently. ``load`` runs send requests as clients do; their rate is a share of the
saturation rate that the campaign's own flood has measured.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

FLOOD = "flood"


def batches(
    max_num_seqs: int,
    max_num_batched_tokens: int,
    max_model_len: int,
    kv_tokens: int,
    capture_sizes: Sequence[int] = (),
    repeats: int = 2,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Runs over decoding sequences x context, prompts of all sizes beside each, in random order, after a warm-up.

    Sequences are powers of two up to ``max_num_seqs`` [sequence] and the edges of captured CUDA graphs; contexts
    [token] leave room for ``kv_tokens`` of KV cache. ``repeats`` times all, each in an order of its own.
    """
    rng = np.random.default_rng(seed)
    seqs = {0, *(2**i for i in range(11) if 2**i <= max_num_seqs), max_num_seqs}
    edges = [s for s in capture_sizes if s < max_num_seqs]
    for edge in edges[
        :: max(1, len(edges) // 4)
    ]:  # a few edges: the last size that fits a graph and the first that does not
        seqs |= {edge, edge + 1}
    steps = 24
    prompts = [n for n in _sizes(max_num_batched_tokens) if n < max_model_len - 1]
    points = []
    for n in sorted(seqs):
        most = min(max_model_len, kv_tokens // n if n else max_model_len)
        contexts = [c for c in _sizes(max_model_len) if c + 6 * steps < most] if n else [1]
        if n and not contexts:
            contexts = [max(1, most // 2)]
        points += [(n, c) for c in contexts]
    out = [_batch("warm-up", 2, 32, steps, prompts[:2], max_model_len)]
    for repeat in range(repeats):
        for i in rng.permutation(len(points)):
            n, c = points[i]
            chosen = rng.permutation(prompts)[: 4 if n else len(prompts)].tolist()
            if n == 0 and max_model_len > 2 * max_num_batched_tokens:  # chunks with a history
                chosen.append(max_model_len - 2)
            out.append(_batch(f"n{n}-c{c}-{repeat}", n, c, steps, chosen, max_model_len))
    return [run | {"slots": max_num_seqs} for run in out]


def _batch(name: str, n: int, context: int, steps: int, prefill: list[int], max_model_len: int) -> dict[str, Any]:
    most = max_model_len - context - 1
    return {
        "name": name,
        "kind": "batch",
        "phase": "fit",
        "decode": n,
        "context": context,
        "steps": steps,
        "most": most,
        "prefill": [int(p) for p in prefill],
    }


def _sizes(largest: int) -> list[int]:
    """16, 32, 64, ... up to ``largest``, which is included."""
    sizes = [2**i for i in range(4, 20) if 2**i < largest]
    return [*sizes, largest]


def lengths(rng: np.random.Generator, n: int, mean: float, cv: float, least: int, most: int) -> np.ndarray:
    """``n`` lognormal token counts of mean ``mean`` and coefficient of variation ``cv``, cut to [least, most]."""
    sigma = np.sqrt(np.log1p(cv**2))
    drawn = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, n)
    return np.clip(np.rint(drawn), least, most).astype(int)


def mix(n: int, prompt: float, output: float, max_model_len: int, seed: int, cv: float = 0.6) -> list[dict[str, Any]]:
    """``n`` requests of Poisson arrivals at rate one [1/s], lognormal lengths of these means [token]."""
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(1.0, n))
    prompts = lengths(rng, n, prompt, cv, 4, max_model_len // 2)
    outputs = lengths(rng, n, output, cv, 2, max_model_len // 2)
    return [
        {"at": round(float(t), 6), "prompt": int(p), "output": int(o)}
        for t, p, o in zip(at, prompts, outputs, strict=True)
    ]


def flood(name: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """All at once: what the engine can do."""
    return {"name": name, "kind": "load", "phase": "load", "requests": [r | {"at": 0.0} for r in requests]}


def load(
    name: str, requests: list[dict[str, Any]], share: float, of: str = FLOOD, phase: str = "load"
) -> dict[str, Any]:
    """``requests`` (arrivals at rate one) at ``share`` of the rate at which run ``of`` completed its requests."""
    return {"name": name, "kind": "load", "phase": phase, "share": share, "of": of, "requests": requests}


def sessions(
    n: int, turns: int, first: float, further: float, output: float, max_model_len: int, seed: int
) -> list[dict[str, Any]]:
    """Conversations whose prompts grow by answer and next question, starting at rate one [1/s]."""
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.exponential(1.0, n))
    out: list[dict[str, Any]] = []
    for t in start:
        length = 0
        for turn in range(turns):
            new = int(lengths(rng, 1, first if turn == 0 else further, 0.5, 8, 400)[0])
            answer = int(lengths(rng, 1, output, 0.5, 4, 100)[0])
            if length + new + answer >= max_model_len:
                break
            row = {"at": round(float(t), 6), "prompt": length + new, "output": answer}
            if turn:
                row |= {"after": len(out) - 1, "wait": round(float(rng.exponential(0.3)), 4), "grow": True}
            out.append(row)
            length += new + answer
    return out


def spread(runs: list[dict[str, Any]], batch_runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``runs`` with ``batch_runs`` between them, in equal parts: machines change their speed over minutes, and what the
    fit sees must come from all of the time that it is judged on.
    """
    out: list[dict[str, Any]] = []
    for i, run in enumerate(runs):
        out += batch_runs[i * len(batch_runs) // len(runs) : (i + 1) * len(batch_runs) // len(runs)] + [run]
    return out


def default_campaign(
    max_num_seqs: int,
    max_num_batched_tokens: int,
    max_model_len: int,
    kv_tokens: int,
    capture_sizes: Sequence[int] = (),
    *,
    prompt: float,
    output: float,
    load_s: float,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Batches to fit, a flood, three loads for the API server, and loads at three rates and another mix to validate.

    ``prompt`` and ``output``: mean lengths of the loads [token]; each load lasts about ``load_s`` [s].
    """
    batch_runs = batches(max_num_seqs, max_num_batched_tokens, max_model_len, kv_tokens, capture_sizes, seed=seed)
    half = (len(batch_runs) + 1) // 2
    runs: list[dict[str, Any]] = []
    base = mix(2000, prompt, output, max_model_len, seed + 1)
    other = mix(2000, max(4, prompt / 3), output * 2, max_model_len, seed + 2)
    runs += [flood(FLOOD, base[: 6 * max_num_seqs]), flood("flood-other", other[: 6 * max_num_seqs])]
    for share in (0.3, 0.6, 0.9):
        requests = mix(2000, prompt, output, max_model_len, seed + int(100 * share))
        runs.append(load(f"api-{share:.0%}", requests, share, phase="api") | {"seconds": load_s / 2})
    for repeat in range(2):
        for share in (0.5, 0.85, 1.1):
            runs.append(load(f"mix-{share:.0%}-{repeat}", base, share) | {"seconds": load_s})
        runs.append(load(f"other-85%-{repeat}", other, 0.85, "flood-other") | {"seconds": load_s})
    return batch_runs[:half] + spread(runs, batch_runs[half:])
