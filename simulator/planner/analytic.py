"""Screening without simulation: the steady state of continuous batching as a fixed point.

A replica that gets ``rate`` requests a second makes steps of T seconds. While one step lasts, rate x T requests arrive
and bring their prompts; a request decodes for as many steps as it has output tokens O, so B = rate x O x T requests
decode at a time (Little's law), which read B times the mean context. T is the time that a step with that much prefill
and that many decoding sequences takes: a fixed point, found by iteration from below, where the least of several lies.
There is none where the load is too high; and the load is too high, too, where B exceeds max_num_seqs, the contexts
exceed the KV pool, or prompts the token budget. TPOT is then T. A prompt waits for the rest of the step that it falls
into, for the one that was planned ahead where scheduling is asynchronous, and is computed in the next together with all
that came meanwhile: TTFT = S / 2 + T + D + X + rate X S, where D is a step without prefill, X what a prompt adds, and
S = T + rate E[X^2] / (1 - (rate X)^2) the mean step that an arrival sees (steps are long because they hold prefills:
the inspection paradox). [1]_

It knows no bursts, no queue and no spread of lengths: means only. How far it is from simulation,
`benchmarks/analytic.py` prints and docs/planner.md says. It chooses where to begin to simulate, and never answers by
itself.

.. [1] Kleinrock, "Queueing Systems", vol. 1, 1975, 5.2: residual life E[S^2] / (2 E[S]).
"""

from dataclasses import dataclass

import numpy as np

from simulator.engine.step_time.config import gpu_seconds
from simulator.run.resolved import Resolved, resolve_deployment
from simulator.scenario import Scenario
from simulator.workload import RequestTable

PASSES = 200


@dataclass(frozen=True)
class Lengths:
    """Means of a workload [token]; ``context`` is what a decoding request reads per step, longer answers weighing more,
    ``prompt_cv2`` the squared coefficient of variation of prompts."""

    prompt: float
    output: float
    context: float
    pairs: float
    prompt_cv2: float = 0.0

    @classmethod
    def of(cls, table: RequestTable) -> "Lengths":
        """Of the requests of a table."""
        p, o = table.prompt_tokens.astype(float), np.maximum(table.output_tokens.astype(float), 1.0)
        context = float(((p + o / 2) * o).sum() / o.sum())
        return cls(
            float(p.mean()), float(o.mean()), context, float((p * (p + 1) / 2).mean()), float(p.var() / p.mean() ** 2)
        )


@dataclass(frozen=True)
class Steady:
    """The steady state of one replica. ``step_s`` is None where there is none: overloaded, by what ``limit`` says.

    ``load`` is the largest share used of max_num_seqs, KV pool and token budget.
    """

    step_s: float | None
    ttft_s: float
    decoding: float
    load: float
    limit: str = ""

    @property
    def tpot_s(self) -> float:
        """Time per output token [s]; infinite without a steady state."""
        return float("inf") if self.step_s is None else self.step_s


def steady(r: Resolved, lengths: Lengths, rate_rps: float) -> Steady:
    """The steady state of one replica of ``r`` that gets ``rate_rps`` requests a second."""
    s = r.settings
    tokens_held = s.kv_tokens
    engines = r.config.data_parallel_size
    rate = rate_rps / engines
    step = 0.0
    decoding = prefill = 0.0
    for _ in range(PASSES):
        decoding, prefill = rate * lengths.output * step, rate * lengths.prompt * step
        new = rate * step
        if decoding > s.max_num_seqs:
            return Steady(None, float("inf"), decoding, decoding / s.max_num_seqs, "max_num_seqs")
        if decoding * lengths.context > tokens_held:
            return Steady(None, float("inf"), decoding, decoding * lengths.context / tokens_held, "KV cache")
        if prefill + decoding > s.max_num_batched_tokens:
            return Steady(
                None, float("inf"), decoding, (prefill + decoding) / s.max_num_batched_tokens, "max_num_batched_tokens"
            )
        again = _step_s(r, prefill, new, new * lengths.pairs, decoding, decoding * lengths.context)
        if again <= step * (1 + 1e-4):
            break
        step = again
    else:
        return Steady(None, float("inf"), decoding, 1.0, "step time")
    held = decoding * lengths.context
    vacation = _step_s(r, 0.0, 0.0, 0.0, decoding, held)
    service = max(_step_s(r, lengths.prompt, 1.0, lengths.pairs, decoding, held) - vacation, 0.0)
    use = rate * service
    spread = rate * service**2 * (1 + lengths.prompt_cv2) / max(1 - use**2, 1e-9)  # variance of steps over their mean
    seen = step + spread  # the mean step that an arrival falls into
    ahead = step if s.async_scheduling else 0.0
    ttft = np.inf if use >= 1 else seen / 2 + ahead + vacation + service + use * seen
    load = max(
        decoding / s.max_num_seqs,
        decoding * lengths.context / tokens_held,
        (prefill + decoding) / s.max_num_batched_tokens,
    )
    return Steady(step, float(ttft), decoding, load)


def _step_s(r: Resolved, prefill: float, new: float, pairs: float, decoding: float, kv: float) -> float:
    """Time of a step with fractional counts: whole numbers on both sides, in proportion, where little is in it."""
    st, factor = r.step_time, r.config.step_time_factor

    def one(p: float, n: float, q: float, d: float) -> float:
        kv_each = kv / decoding if decoding else 0.0
        seconds = gpu_seconds(
            st.code,
            st.params,
            round(p + d),
            round(p),
            int(np.ceil(n)),
            q,
            round(p),
            round(d),
            round(d * kv_each),
            round(d + float(np.ceil(n))),
            int(kv_each),
            int(kv_each),
        )
        return factor * seconds + st.host_s * (0 if r.settings.async_scheduling else 1)

    if new >= 1 or prefill == 0:
        return one(prefill, new, pairs, max(decoding, 1.0))
    # most steps have no prefill: a share ``new`` of them has one whole prompt
    with_one = one(prefill / new, 1.0, pairs / new, max(decoding, 1.0))
    return new * with_one + (1 - new) * one(0.0, 0.0, 0.0, max(decoding, 1.0))


def most_rps(r: Resolved, lengths: Lengths, tpot_s: float | None = None, ttft_s: float | None = None) -> float:
    """The highest rate of one replica with a steady state within the limits given [request/s]; 0: none."""
    low, high = 0.0, 1e-3
    while _holds(r, lengths, high, tpot_s, ttft_s) and high < 1e6:
        low, high = high, high * 2
    for _ in range(30):
        middle = (low + high) / 2
        if _holds(r, lengths, middle, tpot_s, ttft_s):
            low = middle
        else:
            high = middle
    return low


def _holds(r: Resolved, lengths: Lengths, rate_rps: float, tpot_s: float | None, ttft_s: float | None) -> bool:
    found = steady(r, lengths, rate_rps)
    if found.step_s is None:
        return False
    return (tpot_s is None or found.tpot_s <= tpot_s) and (ttft_s is None or found.ttft_s <= ttft_s)


def screened(scenario: Scenario, lengths: Lengths) -> float | None:
    """Highest rate of one replica of the first deployment within the SLO [request/s]; None where this method does not
    apply.

    It applies to continuous batching. Raises ServelabError for what cannot be simulated either (a model that does not
    fit).
    """
    r = resolve_deployment(scenario, 0)
    if r.config.serving.kind != "continuous":
        return None
    slo = scenario.slo
    return most_rps(r, lengths, slo.tpot_s, slo.ttft_s)
