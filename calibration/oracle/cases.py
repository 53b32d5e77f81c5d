"""Random cases for the schedule oracle: engine flags and requests, drawn from a seed. Needs numpy only.

A case says what arrives and when; what the scheduler decides about it is `calibration.oracle.vllm_oracle`'s part.
The profile "narrow" draws near-default flags and never aborts; "wide" draws every flag of the scheduler that
changes its decisions, small limits that bind, deep sharing, conversations and aborts. The same seed, profile
and numpy give the same case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

PROFILES = ("narrow", "wide")


@dataclass(frozen=True)
class Case:
    """One random case: `engine` holds flags under vLLM's own names, `requests` stand in order of arrival."""

    seed: int
    profile: str
    engine: dict[str, Any]
    requests: list[dict[str, Any]]
    abort_rate: float = 0.0
    """Probability [0 to 1] that something is aborted, at each moment between two actions of the engine."""


def make_case(profile: str, seed: int) -> Case:
    """The case of `seed` in `profile`.

    Raises ValueError where the profile is unknown.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r}: not one of {', '.join(PROFILES)}")
    draw = _Draw(np.random.default_rng([PROFILES.index(profile), seed]))
    engine = _narrow_engine(draw) if profile == "narrow" else _wide_engine(draw)
    requests = _narrow_requests(draw, engine) if profile == "narrow" else _Traffic(draw, engine).requests
    engine["num_gpu_blocks_override"] = _pool_blocks(draw, engine, requests)
    aborts = 0.0 if profile == "narrow" else float(draw.one_of(0.0, 0.0, 0.002, 0.01, 0.05, 0.2))
    return Case(seed, profile, engine, requests, aborts)


class _Draw:
    """A random generator with the few draws needed here, all returning plain Python values."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def one_of(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """An integer of low..high, both included; low where high is smaller."""
        return int(self.rng.integers(low, max(low, high) + 1))

    def poisson(self, mean: float) -> int:
        return int(self.rng.poisson(mean))


def _narrow_engine(draw: _Draw) -> dict[str, Any]:
    chunked = draw.chance(0.85)
    return {
        "async_scheduling": draw.chance(0.6),
        "block_size": draw.one_of(16, 32),
        "max_model_len": 2048,
        "max_num_batched_tokens": draw.one_of(128, 256, 512, 2048) if chunked else 2048,
        "max_num_seqs": draw.one_of(4, 8, 16, 64),
        "enable_prefix_caching": draw.chance(0.6),
        "enable_chunked_prefill": chunked,
        "scheduling_policy": draw.one_of("fcfs", "fcfs", "priority"),
        "long_prefill_token_threshold": draw.one_of(0, 0, 0, 64, 200) if chunked else 0,
    }


def _wide_engine(draw: _Draw) -> dict[str, Any]:
    max_model_len = draw.one_of(64, 128, 250, 256, 500, 512, 1000, 2048)
    chunked = draw.chance(0.85)
    budget = draw.one_of(64, 65, 96, 128, 200, 256, 512, 1024, 2048)
    if not chunked:
        budget = max(budget, max_model_len)  # vLLM refuses less
    max_num_seqs = draw.one_of(1, 2, 3, 4, 8, 8, 16, 16, 32, 64)
    threshold = draw.one_of(0, 0, 0, 1, 16, 50, 64, 100, 200) if chunked or draw.chance(0.3) else 0
    return {
        "async_scheduling": draw.chance(0.6),
        "block_size": draw.one_of(16, 16, 32, 64),
        "max_model_len": max_model_len,
        "max_num_batched_tokens": budget,
        "max_num_seqs": max_num_seqs,
        "max_num_active_seqs": draw.between(1, max_num_seqs) if draw.chance(0.25) else None,
        "enable_prefix_caching": draw.chance(0.75),
        "enable_chunked_prefill": chunked,
        "scheduling_policy": draw.one_of("fcfs", "fcfs", "priority"),
        "long_prefill_token_threshold": min(threshold, max_model_len),
        "long_prefill_token_threshold_adaptive": draw.chance(0.4),
        "scheduler_reserve_full_isl": draw.chance(0.6),
        "watermark": draw.one_of(0.0, 0.0, 0.01, 0.05, 0.1, 0.3),
    }


def _pool_blocks(draw: _Draw, engine: dict[str, Any], requests: list[dict[str, Any]]) -> int:
    """Blocks of the pool, the null block included: at least what the longest request needs alone."""
    tokens = max(r["prompt_tokens"] + r["output_tokens"] for r in requests)
    blocks = -(-tokens // engine["block_size"])
    return int(np.ceil(blocks * draw.one_of(1.0, 1.0, 1.0, 1.1, 1.3, 1.6, 2.0, 4.0, 30.0))) + 1


def _narrow_requests(draw: _Draw, engine: dict[str, Any]) -> list[dict[str, Any]]:
    gap, step, requests = draw.one_of(0.0, 0.3, 1.0, 3.0, 8.0), 0, []
    groups, shared = draw.between(1, 5), draw.between(10, 300)
    for i in range(draw.between(5, 60)):
        prompt = draw.between(1, draw.one_of(50, 200, 600))
        request: dict[str, Any] = {"id": f"r{i:03d}", "step": step, "prompt_tokens": prompt}
        if draw.chance(0.6):
            request.update(prompt_tokens=prompt + shared, prefix=[[draw.between(1, groups), shared]])
        most = draw.between(1, 90)
        request.update(max_tokens=most, output_tokens=most if draw.chance(0.5) else draw.between(1, most))
        if engine["scheduling_policy"] == "priority":
            request["priority"] = draw.between(0, 2)
        requests.append(request)
        step += draw.poisson(gap)
    return requests


@dataclass
class _Traffic:
    """Requests of the wide profile, each fitting `max_model_len`, drawn in order of arrival."""

    draw: _Draw
    engine: dict[str, Any]
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = self.draw
        self.limit: int = self.engine["max_model_len"]
        self.gap = draw.one_of(0.0, 0.2, 1.0, 3.0, 10.0)
        self.burst = draw.one_of(0, 0, 5, 20)  # a burst of this many, then an idle gap
        self.sharing = draw.one_of(0.0, 0.5, 0.9, 1.0)
        self.talking = draw.one_of(0.0, 0.2, 0.6)
        self.streams = draw.one_of(1, 2, 5)
        self.segments = draw.one_of(1, 2, 3)
        self.cuts = [draw.between(1, self.limit // 2) for _ in range(draw.one_of(1, 1, 3))]
        self.longest = int((self.limit - 1) * draw.one_of(0.3, 0.5, 0.8, 1.0))  # prompts, but for a few
        self.own = draw.one_of(20, 20, 80, 300)
        self.most_output = draw.one_of(1, 8, 60, 100, 250)
        self.priorities = draw.one_of(1, 2, 4)
        self.longest_share = 0.04  # of prompts as long as vLLM takes
        if draw.chance(0.45):  # short prompts that grow long: the pool runs out while they run
            self.longest, self.most_output, self.longest_share = self.limit // 4, 250, 0.0
            self.gap = min(self.gap, 1.0)
        step = 0
        for i in range(draw.between(3, 20 if self.most_output > 100 else 45)):
            self.requests.append(self._request(f"r{i:03d}", step))
            idle = self.burst and (i + 1) % self.burst == 0
            step += draw.between(20, 200) if idle else 0 if self.burst else draw.poisson(self.gap)

    def _request(self, name: str, step: int) -> dict[str, Any]:
        draw, longest = self.draw, self.longest
        if draw.chance(self.longest_share):
            longest = self.limit - 1
        prefix = self._prefix(longest)
        used = sum(n for _, n in prefix)
        own = min(draw.between(0 if prefix and draw.chance(0.2) else 1, self.own), longest - used)
        if longest > self.longest:
            own = longest - used  # the longest prompt there is: one output token
        request: dict[str, Any] = {"id": name, "step": step, "prompt_tokens": used + own}
        if prefix:
            request["prefix"] = prefix
        request["max_tokens"] = most = draw.between(1, self.most_output)
        ends = most if draw.chance(0.5) else draw.between(1, most)
        request["output_tokens"] = min(ends, self.limit - request["prompt_tokens"])
        if self.engine["scheduling_policy"] == "priority":
            request["priority"] = draw.between(0, self.priorities - 1)
        return request

    def _prefix(self, longest: int) -> list[list[Any]]:
        """Segments of the prompt, at most `longest` tokens in all: an earlier turn or shared streams."""
        draw = self.draw
        if self.requests and draw.chance(self.talking):
            earlier = self.requests[draw.between(max(0, len(self.requests) - 12), len(self.requests) - 1)]
            before = earlier.get("prefix", [])
            stream = earlier["prompt_tokens"] - sum(n for _, n in before) + earlier["output_tokens"]
            cut = stream if draw.chance(0.7) else draw.between(1, stream)
            return _clip([*before, [earlier["id"], cut]], longest)
        if draw.chance(self.sharing):
            chosen = [[draw.between(1, self.streams), draw.one_of(*self.cuts)] for _ in range(self.segments)]
            return _clip(chosen[: draw.between(1, self.segments)], longest)
        return []


def _clip(segments: list[list[Any]], longest: int) -> list[list[Any]]:
    """The segments cut to `longest` tokens in all; empty ones dropped."""
    kept, room = [], longest
    for stream, tokens in segments:
        tokens = min(tokens, room)
        if tokens:
            kept.append([stream, tokens])
        room -= tokens
    return kept
