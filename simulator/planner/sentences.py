"""A sentence for each number of a run, from its records: what the number is made of."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.cost.bill import known_cost
from simulator.cost.ledger import USES, ledger
from simulator.records.metrics import column, completed, latency
from simulator.records.tables import State
from simulator.results.result import Result

PARTS = {
    "on the way to the gateway and through stages before the LLM": ("arrival_s", "llm_arrival_s"),
    "in the API server": ("llm_arrival_s", "engine_s"),
    "waiting for a batch": ("engine_s", "scheduled_s"),
    "in prefill": ("scheduled_s", "llm_first_token_s"),
    "on the way back": ("llm_first_token_s", "first_token_s"),
}


@dataclass(frozen=True)
class Sentence:
    """``text`` says what makes ``value`` [unit] of ``metric``."""

    metric: str
    value: float
    unit: str
    text: str


def sentences(result: Result) -> list[Sentence]:
    """One for each of the figures that a plan is judged by. Empty for a run without a completed request."""
    done = completed(result.requests)
    if not done.any():
        return []
    return [_attainment(result), _ttft(result, done), _tpot(result, done), _throughput(result, done), *_money(result)]


def _attainment(result: Result) -> Sentence:
    share = float(result.slo()["attainment"].iloc[-1])
    return Sentence("attainment", share, "ratio", result.verdict())


def _ttft(result: Result, done: np.ndarray) -> Sentence:
    q = result.requests[done]
    ttft = latency(q, "ttft_s")
    p99 = float(np.nanpercentile(ttft, 99))
    slow = q[ttft >= p99]
    parts = {name: float(np.nansum(column(slow, b) - column(slow, a))) for name, (a, b) in PARTS.items()}
    total = sum(parts.values()) or 1.0
    main = sorted(((v / total, name) for name, v in parts.items() if v > 0.005 * total), reverse=True)
    where = ", ".join(f"{share:.0%} {name}" for share, name in main)
    prompt, usual = float(column(slow, "prompt_tokens").mean()), float(column(q, "prompt_tokens").mean())
    return Sentence(
        "ttft_s_p99",
        p99,
        "s",
        f"p99 TTFT is {p99:.3g} s: the slowest 1 % of requests spent {where}; their prompts have {prompt:,.0f} tokens "
        f"on average, those of all requests {usual:,.0f}",
    )


def _tpot(result: Result, done: np.ndarray) -> Sentence:
    q = result.requests[done]
    tpot = latency(q, "tpot_s")
    p99 = float(np.nanpercentile(tpot, 99))
    steps = column(result.timeline, "steps").astype(float)
    busy = float(column(result.timeline, "busy_s").sum())
    mean = busy / steps.sum() if steps.sum() else float("nan")
    running = (
        float((column(result.timeline, "running_mean") * steps).sum() / steps.sum()) if steps.sum() else float("nan")
    )
    slow = tpot >= p99
    hit = float((column(q, "preemptions")[slow] > 0).mean())
    gpus, prefill = column(result.instances, "busy_s").sum(), column(result.instances, "prefill_busy_s").sum()
    share = float(prefill / gpus) if gpus else 0.0
    return Sentence(
        "tpot_s_p99",
        p99,
        "s",
        f"p99 TPOT is {p99 * 1e3:.3g} ms: a step takes {mean * 1e3:.3g} ms on average with {running:.3g} requests in "
        f"it, {share:.0%} of the GPU time goes into prefill that decoding waits for, and {hit:.0%} of the slowest 1 % "
        "were preempted",
    )


def _throughput(result: Result, done: np.ndarray) -> Sentence:
    q = result.requests
    rows = result.summary().set_index(["metric", "stat"])["value"]
    end = float(np.nanmax(column(q, "end_s")))
    tokens = int(column(q, "generated_tokens")[done].sum())
    lost = int(np.isin(column(q, "state"), (State.REJECTED, State.TIMED_OUT, State.FAILED)).sum())
    duty, mbu, mfu = (float(rows[m, s]) for m, s in (("duty_cycle", "mean"), ("mbu", "busy"), ("mfu", "busy")))
    return Sentence(
        "throughput_tok_s",
        tokens / end,
        "token/s",
        f"{tokens / end:,.0f} output tokens a second: {done.sum() / end:.3g} requests a second of "
        f"{tokens / done.sum():,.0f} tokens each{f', {lost:,} were lost' if lost else ''}; GPUs had work for "
        f"{duty:.0%} of the time paid for, and then used {mfu:.0%} of their arithmetic and {mbu:.0%} of their memory "
        "bandwidth",
    )


def _money(result: Result) -> list[Sentence]:
    cost, _ = known_cost(result)
    if cost is None:
        return []
    value = cost.set_index("metric")["value"]
    lines: pd.DataFrame = ledger(result, window_s=0)
    total = float(lines["usd"].sum()) or 1.0
    by_item = lines.groupby("item")["usd"].sum()
    used = ", ".join(f"{by_item[u] / total:.1%} {u}" for u in USES if u in by_item)
    other = ", ".join(f"{v / total:.1%} {k}" for k, v in by_item.items() if k not in USES)
    hour, within, every = (
        float(value[k]) for k in ("usd_per_hour", "usd_per_1m_output_tokens_within_slo", "usd_per_1m_output_tokens")
    )
    out = [
        Sentence("usd_per_hour", hour, "USD/hour", f"{hour:,.2f} USD an hour: {used}{', ' + other if other else ''}")
    ]
    q, good = result.requests, result.good()
    tokens = column(q, "generated_tokens")
    share = float(tokens[good].sum() / max(tokens[completed(q)].sum(), 1))
    out.append(
        Sentence(
            "usd_per_1m_output_tokens_within_slo",
            within,
            "USD/1M token",
            f"{within:,.3g} USD per 1M output tokens within SLO: {every:,.3g} per 1M of any, of which {share:.1%} "
            "were within",
        )
    )
    return out
