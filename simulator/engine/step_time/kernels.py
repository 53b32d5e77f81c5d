"""When kernels of the model were measured on the GPU: tables, linear between the points measured, in all axes;
`calibration.fit.kernels.fit_kernels` makes them.

A batch costs its linear layers (by tokens, padded to a captured CUDA graph), the output head and sampler (by
sampled sequences), routed experts (by tokens), attention (by prefill tokens, their mean history, decoding sequences and
their mean context), and the collectives of tensor parallelism. Attention kernels were measured on batches whose
decoding sequences are all as long; a batch in which they differ takes longer, because the longest keeps its part of the
GPU busy. That skew is ``t(mean) + alpha (t(longest) - t(mean))``, alpha measured by prefill tokens, decoding sequences,
how many are near the longest, longest context and history. [1]_

Beyond their ends tables go on by the work that is added there: layers and experts by what a token costs over the upper
half of their points, attention by query-key pairs and KV tokens at the cost of the far corner. No time is ever zero.

.. [1] LLMServingSim 2.0, ``profiler``: four axes of attention, alpha by bucket (casys-kaist, MIT licence).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from simulator.engine.compiled import compiled
from simulator.engine.step_time.base import KERNELS, StepTime, StepTimeConfig
from simulator.engine.step_time.interpolate import below, line

# places in the parameter array: counts, then where each part starts
(
    N_SIZES, N_DENSE, N_HEAD, N_MOE, N_P, N_K, N_D, N_C, SIZES, DENSE, HEAD, MOE, AXIS_P, AXIS_K, AXIS_D, AXIS_C,
    ATTENTION, N_CHUNKS, N_SEQS, N_SHARE, N_LONGEST, N_PAST, CHUNKS, SEQS, SHARE, LONGEST, PAST, ALPHA,
    COMM_S, COMM_TOKEN_S, PAIR_S, KV_S, PLACES,
) = range(33)  # fmt: skip

FAR = 2.0**24  # tokens or sequences that no batch has


@compiled
def place(p, axis, count, x):
    """Segment of an axis that ``x`` lies in, and how far along it, 0 to 1; beyond the ends below 0 or above 1."""
    i = below(p, int(p[axis]), int(p[count]), x)
    x0 = p[int(p[axis]) + i]
    return i, (x - x0) / (p[int(p[axis]) + i + 1] - x0)


@compiled
def within(p, axis, count, x):
    """``x``, or the nearest end of the axis."""
    first = int(p[axis])
    return min(max(x, p[first]), p[first + int(p[count]) - 1])


@compiled
def measured(p, prefill, history, seqs, context):
    """Attention of all layers [s], linear in four axes; each value must lie within its axis."""
    nk, nd, nc = int(p[N_K]), int(p[N_D]), int(p[N_C])
    i, u = place(p, AXIS_P, N_P, prefill)
    j, v = place(p, AXIS_K, N_K, history)
    k, w = place(p, AXIS_D, N_D, seqs)
    m, z = place(p, AXIS_C, N_C, context)
    first, total = int(p[ATTENTION]), 0.0
    for di in range(2):
        wi = u if di else 1.0 - u
        for dj in range(2):
            wj = wi * (v if dj else 1.0 - v)
            for dk in range(2):
                wk = wj * (w if dk else 1.0 - w)
                if wk != 0.0:
                    at = first + (((i + di) * nk + j + dj) * nd + k + dk) * nc + m
                    total += wk * (p[at] + (p[at + 1] - p[at]) * z)
    return total


@compiled
def attention(p, prefill, history, seqs, context):
    """Attention of all layers [s]: as measured, and beyond the ends of the tables by the work that is added there.

    Query-key pairs of prefill and KV tokens read by decodes beyond those at the nearest end of the tables cost what one
    costs at the far corner of the tables, where kernels are busiest.
    """
    chunk, past = within(p, AXIS_P, N_P, prefill), within(p, AXIS_K, N_K, history)
    many, long = within(p, AXIS_D, N_D, seqs), within(p, AXIS_C, N_C, context)
    total = measured(p, chunk, past, many, long)
    if prefill > chunk or history > past:
        pairs = prefill * (history + (prefill + 1.0) / 2.0) - chunk * (past + (chunk + 1.0) / 2.0)
        total += p[PAIR_S] * max(pairs, 0.0)
    if seqs > many or context > long:
        total += p[KV_S] * max(seqs * context - many * long, 0.0)
    return total


@compiled
def bucket(p, axis, count, x):
    """First of the rising upper edges that is at least ``x``; the last where none is."""
    i, first = 0, int(p[axis])
    while i < int(p[count]) - 1 and x > p[first + i]:
        i += 1
    return i


@compiled
def alpha(p, prefill, history, seqs, mean, least, most):
    """How far a batch of unequal contexts is from the time of the mean to that of the longest; 0 where not measured."""
    if p[N_SEQS] == 0.0 or most <= least:
        return 0.0
    at = bucket(p, CHUNKS, N_CHUNKS, prefill)
    at = at * int(p[N_SEQS]) + bucket(p, SEQS, N_SEQS, seqs)
    at = at * int(p[N_SHARE]) + bucket(p, SHARE, N_SHARE, (mean - least) / (most - least))
    at = at * int(p[N_LONGEST]) + bucket(p, LONGEST, N_LONGEST, most)
    at = at * int(p[N_PAST]) + bucket(p, PAST, N_PAST, history)
    return p[int(p[ALPHA]) + at]


@compiled
def kernel_seconds(
    p, tokens, prefill_tokens, prefill_seqs, prefill_pairs, decode_seqs, decode_kv, sampled, least, most
):
    """GPU time of one batch [s]; the arguments of `config.gpu_seconds`."""
    if tokens <= 0:
        return 0.0
    rows, n = float(tokens), int(p[N_SIZES])
    if n > 0 and tokens <= p[int(p[SIZES]) + n - 1]:
        i = below(p, int(p[SIZES]), n, rows)
        rows = p[int(p[SIZES]) + (i if p[int(p[SIZES]) + i] >= rows else i + 1)]
    seconds = line(p, int(p[DENSE]), int(p[N_DENSE]), rows)
    seconds += line(p, int(p[HEAD]), int(p[N_HEAD]), max(float(sampled), 1.0))
    if p[N_MOE] > 0.0:
        seconds += line(p, int(p[MOE]), int(p[N_MOE]), float(rows))
    seconds += p[COMM_S] + p[COMM_TOKEN_S] * rows
    # several chunks are taken as one with as many query-key pairs; short ones have fewer than any single chunk
    history, spared = 0.0, 0.0
    if prefill_tokens > 0:
        history = prefill_pairs / prefill_tokens - (prefill_tokens + 1.0) / 2.0
        if history < 0.0:
            far = p[int(p[AXIS_K]) + int(p[N_K]) // 2]
            slope = attention(p, prefill_tokens, far, 0.0, 0.0) - attention(p, prefill_tokens, 0.0, 0.0, 0.0)
            spared = min(history, 0.0) * max(slope, 0.0) / far
            history = 0.0
    mean = decode_kv / decode_seqs if decode_seqs > 0 else 0.0
    busy = attention(p, prefill_tokens, history, decode_seqs, mean)
    skew = alpha(p, prefill_tokens, history, decode_seqs, mean, least, most)
    if skew != 0.0:
        busy += skew * (attention(p, prefill_tokens, history, decode_seqs, most) - busy)
    alone = attention(p, prefill_tokens / max(prefill_seqs, 1), 0.0, decode_seqs, mean)
    return seconds + max(busy + spared, min(alone, busy))


class KernelStepTime(StepTimeConfig):
    """Tables of measured kernels, all layers together [s]. Axes rise; the last one of ``attention_s`` varies
    fastest."""

    kind: Literal["kernels"] = "kernels"
    dense_tokens: tuple[float, ...] = Field(min_length=2, description="tokens of a batch, padding included")
    dense_s: tuple[float, ...] = Field(description="linear layers, norms and embedding [s]")
    head_seqs: tuple[float, ...] = Field(min_length=2, description="sampled sequences")
    head_s: tuple[float, ...] = Field(description="output head and sampler [s]")
    expert_tokens: tuple[float, ...] = Field(default=(), description="tokens of a batch; empty: no experts")
    expert_s: tuple[float, ...] = Field(default=(), description="routed experts [s]")
    prefill_tokens: tuple[float, ...] = Field(min_length=2, description="first axis of attention_s")
    history_tokens: tuple[float, ...] = Field(min_length=2, description="second: mean tokens before the chunk")
    decode_seqs: tuple[float, ...] = Field(min_length=2, description="third")
    context_tokens: tuple[float, ...] = Field(min_length=2, description="fourth: mean context of decoding sequences")
    attention_s: tuple[float, ...] = Field(description="[s]")
    skew_prefill: tuple[float, ...] = Field(default=(), description="upper edges of buckets: prefill tokens")
    skew_seqs: tuple[float, ...] = Field(default=(), description="decoding sequences")
    skew_share: tuple[float, ...] = Field(default=(), description="(mean - least) / (longest - least) context")
    skew_longest: tuple[float, ...] = Field(default=(), description="longest context")
    skew_history: tuple[float, ...] = Field(default=(), description="mean tokens before the chunk")
    skew_alpha: tuple[float, ...] = Field(default=(), description="by these five, the last varies fastest")
    skew: bool = Field(default=False, description="whether skew_alpha is applied; see docs/accuracy.md")
    collectives_s: float = Field(default=0.0, ge=0, description="all-reduces of a batch, their latency [s]")
    collectives_token_s: float = Field(default=0.0, ge=0, description="the same, per token [s]")
    host_s: float = Field(default=0.0, ge=0, description="host time before each batch [s]")

    @model_validator(mode="after")
    def _shapes(self) -> "KernelStepTime":
        axes = (self.prefill_tokens, self.history_tokens, self.decode_seqs, self.context_tokens)
        skew = (self.skew_prefill, self.skew_seqs, self.skew_share, self.skew_longest, self.skew_history)
        if len({bool(a) for a in skew}) > 1:
            raise ValueError("skew_alpha needs all of its five axes or none")
        for name, axis, values in (
            ("dense_s", [self.dense_tokens], self.dense_s),
            ("head_s", [self.head_seqs], self.head_s),
            ("expert_s", [self.expert_tokens], self.expert_s),
            ("attention_s", axes, self.attention_s),
            ("skew_alpha", skew, self.skew_alpha),
        ):
            wanted = int(np.prod([len(a) for a in axis]))
            if len(values) != wanted:
                raise ValueError(f"{name} has {len(values)} values, its axes need {wanted}")
            for a in axis:
                if (np.diff(a) <= 0).any():
                    raise ValueError(f"an axis of {name} does not rise")
        if min(self.dense_s + self.head_s + self.expert_s + self.attention_s) < 0:
            raise ValueError("a time is below 0")
        return self


def onward(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """The line through measured points, and a point far beyond: by what one more costs over the upper half of them.

    >>> x, y = onward((1.0, 2.0, 4.0), (1.0, 2.5, 4.5))
    >>> (y[-1] - y[-2]) / (x[-1] - x[-2])
    1.0
    """
    middle = (len(x) - 1) // 2
    slope = max((y[-1] - y[middle]) / (x[-1] - x[middle]), 0.0)
    return [*x, FAR], [*map(float, y), float(y[-1] + slope * (FAR - x[-1]))]


def kernel_params(config: KernelStepTime, capture_sizes: Sequence[int]) -> np.ndarray:
    """Parameter array of `kernel_seconds`."""
    p = [0.0] * PLACES

    def put(place: int, *parts: Sequence[float], count: int = -1) -> None:
        p[place] = float(len(p))
        if count >= 0:
            p[count] = float(len(parts[0]))
        for part in parts:
            p.extend(map(float, part))

    c = config
    put(SIZES, capture_sizes, count=N_SIZES)
    put(DENSE, *onward(c.dense_tokens, c.dense_s), count=N_DENSE)
    put(HEAD, *onward(c.head_seqs, c.head_s), count=N_HEAD)
    put(MOE, *(onward(c.expert_tokens, c.expert_s) if c.expert_tokens else ((), ())), count=N_MOE)
    put(AXIS_P, c.prefill_tokens, count=N_P)
    put(AXIS_K, c.history_tokens, count=N_K)
    put(AXIS_D, c.decode_seqs, count=N_D)
    put(AXIS_C, c.context_tokens, count=N_C)
    axes = (c.prefill_tokens, c.history_tokens, c.decode_seqs, c.context_tokens)
    table = np.reshape(c.attention_s, [len(a) for a in axes])
    put(ATTENTION, c.attention_s)
    put(CHUNKS, c.skew_prefill, count=N_CHUNKS)
    put(SEQS, c.skew_seqs if c.skew else (), count=N_SEQS)
    put(SHARE, c.skew_share, count=N_SHARE)
    put(LONGEST, c.skew_longest, count=N_LONGEST)
    put(PAST, c.skew_history, count=N_PAST)
    put(ALPHA, c.skew_alpha)
    p[COMM_S], p[COMM_TOKEN_S] = c.collectives_s, c.collectives_token_s
    chunk, past, many, long = (a[-1] for a in axes)
    p[PAIR_S] = table[-1, -1, 0, 0] / (chunk * (past + (chunk + 1.0) / 2.0))
    p[KV_S] = table[0, 0, -1, -1] / (many * long)
    return np.array(p)


def build(config: KernelStepTime, capture_sizes: Sequence[int]) -> StepTime:
    """For the compiled loop."""
    return StepTime("kernels", KERNELS, kernel_params(config, capture_sizes), config.host_s, "user", "the scenario")
