"""The bill of a run, a line for each thing paid for, and what a token then costs."""

import datetime as dt
import json
import math

import numpy as np
import pandas as pd

from simulator.cost.lines import LINE, Line, other_lines
from simulator.cost.rentals import Rental, horizon_s, rentals
from simulator.errors import ServelabError
from simulator.pricing.machines import peak
from simulator.pricing.prices import PricesConfig
from simulator.records import metrics
from simulator.records.run import RunRecords

BILL = ["item", "quantity", "unit", "unit_price_usd", "usd", "source", "as_of"]
HOURS_PER_MONTH, HOURS_PER_YEAR = 730.0, 8760.0

COSTS = {
    "usd": "bill of the run",
    "usd_per_hour": "per hour",
    "usd_per_month": "per month of 730 hours like this run",
    "usd_per_year": "per year of 8,760 hours like this run",
    "usd_per_request": "per request",
    "usd_per_1m_output_tokens": "per 1M output tokens, prompts included",
    "usd_per_1m_total_tokens": "per 1M tokens, prompt and output (blended)",
    "usd_per_1m_output_tokens_within_slo": "per 1M output tokens within SLO",
    "usd_per_1k_requests": "per 1,000 requests",
    "usd_per_1m_input_tokens_by_gpu_time": "per 1M input tokens, bill split by GPU time of prefill",
    "usd_per_1m_output_tokens_by_gpu_time": "per 1M output tokens, bill split by GPU time of decode",
}


def prices_of(result: RunRecords, prices: PricesConfig | None = None) -> PricesConfig:
    """``prices``, or those of the result's scenario."""
    return PricesConfig.model_validate_json(json.dumps(result.meta.get("prices") or {})) if prices is None else prices


def bill(result: RunRecords, prices: PricesConfig | None = None, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The run's bill, a row an item: item, quantity, unit, unit_price_usd [USD/unit], usd, source, as_of.

    ``prices`` is taken from the scenario, ``table`` from data/ and ``prices.file`` where not given. A GPU in
    ``prices.usd_per_gpu_hour`` is billed by GPU-hours; all others by whole instances (instance-hours).

    Raises ServelabError for a GPU without a price, and for an own price of an unknown GPU.
    """
    prices = prices_of(result, prices)
    rented = rentals(result, prices, table)
    rows = [_machine_line(same) for same in _alike(rented)]
    for item, lines in _by_item(other_lines(result, prices, rented, horizon_s(result))).items():
        quantity, usd = math.fsum(x.quantity for x in lines), math.fsum(x.usd for x in lines)
        last = lines[-1]
        rows.append((item, quantity, last.unit, last.unit_price_usd, usd, last.source, last.as_of))
    return pd.DataFrame(rows, columns=BILL)


def _alike(rented: list[Rental]) -> list[list[Rental]]:
    """Rentals that share a line."""
    found: dict[tuple, list[Rental]] = {}
    for r in rented:
        found.setdefault((r.what, r.usd_per_unit_hour), []).append(r)
    return list(found.values())


def _machine_line(same: list[Rental]) -> tuple:
    quantity = math.fsum(r.quantity for r in same)
    item = same[0].what
    if same[0].unit == "instance-hour":
        item += f", {peak([(r.start_s, r.end_s) for r in same])} at peak"
    usd = math.fsum(r.usd for r in same)
    return item, quantity, same[0].unit, same[0].usd_per_unit_hour, usd, same[0].source, same[0].as_of


def _by_item(lines: list[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        named = f"{line.deployment}: {line.item}" if line.deployment else line.item
        found.setdefault(named, []).append(line)
    return found


def staleness_days(as_of: str, today: dt.date) -> float:
    """Days since a price was noted; NaN for one without a date.

    >>> staleness_days("2026-09-06", dt.date(2026, 9, 16))
    10.0
    """
    return float((today - dt.date.fromisoformat(as_of[:10])).days) if as_of else float("nan")


def per(usd: float, quantity: float, of: float = 1.0) -> float:
    """Dollars per ``of`` units; infinite when money bought none, NaN when nothing was spent either.

    >>> per(3.0, 2_000_000, of=1e6), per(3.0, 0)
    (1.5, inf)
    """
    if quantity > 0:
        return usd * of / quantity
    return math.inf if usd > 0 else math.nan


def known_cost(result: RunRecords) -> tuple[pd.DataFrame | None, str]:
    """What `cost_summary` gives, or None and why there is none."""
    try:
        return cost_summary(result), ""
    except ServelabError as problem:
        return None, str(problem)


def cost_summary(
    result: RunRecords,
    prices: PricesConfig | None = None,
    table: pd.DataFrame | None = None,
    today: dt.date | None = None,
) -> pd.DataFrame:
    """What the run cost: metric, value, unit, source, as_of, staleness_days (of the oldest price).

    ``usd_per_hour`` is the bill over the time of the run, from 0: a run that is all peak makes a month that is all
    peak. Tokens and requests are those of completed requests; ``within_slo`` counts the output tokens of good ones
    only. ``by_gpu_time`` splits the bill by the GPU time of prefill and decode: the input price is of prompt tokens
    that were computed or found in the cache alike. A cost per nothing is infinite. ``today`` (default: the date of the
    call) dates the staleness.
    """
    lines = bill(result, prices, table)
    usd = math.fsum(lines["usd"])
    hours = horizon_s(result) / 3600 if len(lines) else 0.0
    done = metrics.completed(result.requests)
    output, prompt = (metrics.column(result.requests, c) for c in ("generated_tokens", "prompt_tokens"))
    tokens, asked = int(output[done].sum()), int(prompt[done].sum())
    prefill = _prefill_share(result)
    answers = [
        ("usd", usd, "USD"),
        ("usd_per_hour", per(usd, hours), "USD/hour"),
        ("usd_per_month", per(usd, hours, of=HOURS_PER_MONTH), "USD/month"),
        ("usd_per_year", per(usd, hours, of=HOURS_PER_YEAR), "USD/year"),
        ("usd_per_request", per(usd, int(done.sum())), "USD/request"),
        ("usd_per_1k_requests", per(usd, int(done.sum()), of=1e3), "USD/1k request"),
        ("usd_per_1m_output_tokens", per(usd, tokens, of=1e6), "USD/1M token"),
        ("usd_per_1m_total_tokens", per(usd, tokens + asked, of=1e6), "USD/1M token"),
        ("usd_per_1m_output_tokens_within_slo", per(usd, int(output[result.good()].sum()), of=1e6), "USD/1M token"),
        ("usd_per_1m_input_tokens_by_gpu_time", per(usd * prefill, asked, of=1e6), "USD/1M token"),
        ("usd_per_1m_output_tokens_by_gpu_time", per(usd * (1 - prefill), tokens, of=1e6), "USD/1M token"),
    ]
    dates = sorted(d for d in lines["as_of"] if d)
    oldest = dates[0] if dates else ""
    source = "; ".join(dict.fromkeys(s for s in lines["source"] if s))
    out = pd.DataFrame(answers, columns=["metric", "value", "unit"])
    return out.assign(source=source, as_of=oldest, staleness_days=staleness_days(oldest, today or dt.date.today()))


def _prefill_share(result: RunRecords) -> float:
    """Share of the GPUs' busy time that prefill took, 0 where they never worked."""
    gpus = metrics.column(result.instances, "gpus").astype(float)
    busy = float((gpus * np.nan_to_num(metrics.column(result.instances, "busy_s"))).sum())
    prefill = float((gpus * np.nan_to_num(metrics.column(result.instances, "prefill_busy_s"))).sum())
    return prefill / busy if busy > 0 else 0.0


__all__ = ["BILL", "COSTS", "LINE", "bill", "cost_summary", "known_cost", "per", "prices_of", "staleness_days"]
