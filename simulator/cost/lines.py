"""Lines of a bill beside the machines: CPU services, storage, egress, cluster fee, licences, a paid API.

Each is a pure function of records and prices. A price that is not given makes no line: `unbilled` says what is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from simulator.catalog import find_gpu
from simulator.cost.rentals import Rental, own_of
from simulator.pricing.api import ApiPrice, api_cost_usd, find_api_price
from simulator.pricing.prices import Overflow, PricesConfig
from simulator.records import metrics
from simulator.records.run import RunRecords
from simulator.records.tables import State

GB, GIB = 1e9, 2**30
HOURS_PER_MONTH = 730.0


@dataclass(frozen=True)
class Line:
    """So much of something, from ``time_s`` on; ``usd`` is quantity times unit price."""

    time_s: float
    deployment: str
    item: str
    quantity: float
    unit: str
    unit_price_usd: float
    usd: float
    source: str
    as_of: str = ""


LINE = [f.name for f in fields(Line)]


def line(time_s: float, owner: str, item: str, quantity: float, unit: str, usd_per_unit: float, source: str) -> Line:
    """A line at a price of the user's own.

    >>> line(0.0, "chat", "egress", 2.0, "GB", 0.09, "prices.egress_usd_per_gb").usd
    0.18
    """
    return Line(time_s, owner, item, quantity, unit, usd_per_unit, quantity * usd_per_unit, f"your own price, {source}")


def other_lines(
    result: RunRecords, prices: PricesConfig, rented: list[Rental], end_s: float, window_s: float = 0.0
) -> list[Line]:
    """All lines beside the machines, by windows of ``window_s`` [s] (0: one for the whole run)."""
    edges = windows(end_s, window_s)
    found = [*_stages(result, prices, edges), *_platform(prices, edges), *_licences(prices, rented, edges)]
    return [x for x in [*found, *_egress(result, prices, edges), *_overflow(result, prices, edges)] if x.quantity]


def windows(end_s: float, window_s: float) -> np.ndarray:
    """Edges [s] of windows laid from 0 to the end; the last one is short.

    >>> windows(9000.0, 3600.0).tolist(), windows(9000.0, 0).tolist()
    ([0.0, 3600.0, 7200.0, 9000.0], [0.0, 9000.0])
    """
    if not window_s or end_s <= window_s:
        return np.array([0.0, end_s])
    return np.unique(np.append(np.arange(0.0, end_s, window_s), end_s))


def overlap_s(edges: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """Seconds of [start, end] in each window; what lies after the last edge counts as the last window's.

    >>> overlap_s(np.array([0.0, 10.0, 20.0]), 5.0, 25.0).tolist()
    [5.0, 15.0]
    """
    upper = np.append(edges[1:-1], np.inf)
    return np.clip(np.minimum(upper, end_s) - np.maximum(edges[:-1], start_s), 0.0, None)


def _stages(result: RunRecords, prices: PricesConfig, edges: np.ndarray) -> Iterator[Line]:
    """Cores, memory and GPUs that the stages of the path hold for the whole run."""
    own = own_of(result, prices)
    for stage in result.meta.get("stages") or []:
        replicas, name = stage.get("replicas", 1), f"stage {stage['name']}"
        gpu = find_gpu(stage["gpu"]).name if stage.get("gpu") else ""
        held = (
            ("CPU", stage.get("cpu") or 0, "core-hour", prices.cpu_usd_per_core_hour, "prices.cpu_usd_per_core_hour"),
            (
                "memory",
                (stage.get("memory_bytes") or 0) / GIB,
                "GiB-hour",
                prices.memory_usd_per_gib_hour,
                "prices.memory_usd_per_gib_hour",
            ),
            ("GPU", (stage.get("gpus") or 1) if gpu else 0, "GPU-hour", own.get(gpu), f"prices.usd_per_gpu_hour.{gpu}"),
        )
        for item, amount, unit, usd, source in held:
            if usd is not None and amount:
                for time_s, hours in _hours(edges):
                    yield line(time_s, name, item, replicas * amount * hours, unit, usd, source)


def _hours(edges: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(edges[:-1].tolist(), (np.diff(edges) / 3600).tolist(), strict=True))


def _platform(prices: PricesConfig, edges: np.ndarray) -> Iterator[Line]:
    for time_s, hours in _hours(edges):
        if prices.cluster_usd_per_hour is not None:
            yield line(
                time_s, "", "cluster fee", hours, "hour", prices.cluster_usd_per_hour, "prices.cluster_usd_per_hour"
            )
        if prices.storage_gb is not None and prices.storage_usd_per_gb_month is not None:
            amount = prices.storage_gb * hours / HOURS_PER_MONTH
            yield line(
                time_s,
                "",
                "storage",
                amount,
                "GB-month",
                prices.storage_usd_per_gb_month,
                "prices.storage_usd_per_gb_month",
            )


def _licences(prices: PricesConfig, rented: list[Rental], edges: np.ndarray) -> Iterator[Line]:
    """For every GPU rented, held by a pod or not."""
    if prices.licence_usd_per_gpu_hour is None:
        return
    for owner in dict.fromkeys(r.owner for r in rented):
        mine = [r for r in rented if r.owner == owner]
        hours = np.sum([r.slots * overlap_s(edges, r.start_s, r.end_s) / 3600 for r in mine], axis=0)
        for time_s, amount in zip(edges[:-1].tolist(), hours.tolist(), strict=True):
            yield line(
                time_s,
                owner,
                "licences",
                amount,
                "GPU-hour",
                prices.licence_usd_per_gpu_hour,
                "prices.licence_usd_per_gpu_hour",
            )


def _egress(result: RunRecords, prices: PricesConfig, edges: np.ndarray) -> Iterator[Line]:
    """Answers sent to clients, in the window in which they ended."""
    if prices.egress_bytes_per_token is None or prices.egress_usd_per_gb is None:
        return
    done = metrics.completed(result.requests)
    tokens = np.where(done, metrics.column(result.requests, "generated_tokens"), 0)
    gb = _by_window(edges, metrics.column(result.requests, "end_s"), tokens) * prices.egress_bytes_per_token / GB
    for time_s, amount in zip(edges[:-1].tolist(), gb.tolist(), strict=True):
        yield line(time_s, "", "egress", amount, "GB", prices.egress_usd_per_gb, "prices.egress_usd_per_gb")


def _by_window(edges: np.ndarray, time_s: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum of ``weight`` by the window of its time; weights without a time are left out."""
    known = ~np.isnan(time_s)
    place = np.clip(np.searchsorted(edges, time_s[known], side="right") - 1, 0, len(edges) - 2)
    return np.bincount(place, weights=weight[known].astype(float), minlength=len(edges) - 1)


def api_price(config: Overflow) -> ApiPrice:
    """The price of the API that ``config`` names. Raises ServelabError for an unknown model."""
    if config.model is not None:
        return find_api_price(config.model)
    assert config.input_usd_per_1m_tokens is not None and config.output_usd_per_1m_tokens is not None
    return ApiPrice(
        "your own price, prices.overflow",
        config.input_usd_per_1m_tokens,
        config.output_usd_per_1m_tokens,
        config.cached_input_usd_per_1m_tokens,
        "",
        "your own price, prices.overflow",
    )


def _overflow(result: RunRecords, prices: PricesConfig, edges: np.ndarray) -> Iterator[Line]:
    """What the gateway or an engine turned away, bought from an API: prompts, and as many tokens as were asked for.

    The API's own prefix cache is not simulated: ``cached_share`` of the prompt tokens is billed as found there, none by
    default.
    """
    if prices.overflow is None:
        return
    price = api_price(prices.overflow)
    away = metrics.column(result.requests, "state") == State.REJECTED
    arrival_s = metrics.column(result.requests, "arrival_s")
    cached = prices.overflow.cached_share
    for item, column, share, usd in (
        ("API input tokens", "prompt_tokens", 1 - cached, api_cost_usd(1_000_000, 0, 0, price)),
        ("API cached tokens", "prompt_tokens", cached, api_cost_usd(1_000_000, 1_000_000, 0, price)),
        ("API output tokens", "max_tokens", 1.0, api_cost_usd(0, 0, 1_000_000, price)),
    ):
        tokens = share * _by_window(edges, arrival_s, np.where(away, metrics.column(result.requests, column), 0))
        for time_s, amount in zip(edges[:-1].tolist(), (tokens / 1e6).tolist(), strict=True):
            source = price.source
            yield Line(time_s, "", item, amount, "1M token", usd, amount * usd, source, price.as_of)


def unbilled(result: RunRecords, prices: PricesConfig) -> list[str]:
    """What the run used that no price was given for."""
    out = []
    stages = result.meta.get("stages") or []
    if any(s.get("cpu") for s in stages) and prices.cpu_usd_per_core_hour is None:
        cores = sum(s.get("replicas", 1) * (s.get("cpu") or 0) for s in stages)
        out.append(f"{cores:g} CPU cores of stages: set prices.cpu_usd_per_core_hour")
    if any(s.get("memory_bytes") for s in stages) and prices.memory_usd_per_gib_hour is None:
        out.append("memory of stages: set prices.memory_usd_per_gib_hour")
    own = own_of(result, prices)
    missing = {find_gpu(s["gpu"]).name for s in stages if s.get("gpu")} - set(own)
    out += [f"{gpu} of a stage: set prices.usd_per_gpu_hour.{gpu}" for gpu in sorted(missing)]
    if prices.overflow is None and (metrics.column(result.requests, "state") == State.REJECTED).any():
        out.append("requests turned away: set prices.overflow if an API serves them")
    api = prices.overflow
    if api is not None and not api.cached_share and api_price(api).cached_input_usd_per_1m is not None:
        out.append("no prompt token as found in the API's cache: set prices.overflow.cached_share")
    names = {
        "storage": prices.storage_gb,
        "egress": prices.egress_usd_per_gb,
        "cluster fee": prices.cluster_usd_per_hour,
        "licences": prices.licence_usd_per_gpu_hour,
    }
    plain = [name for name, value in names.items() if value is None]
    return [*out, f"{', '.join(plain)}: no price given"] if plain else out
