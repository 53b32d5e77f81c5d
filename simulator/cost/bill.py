"""The bill of a run: billed instances x price, and what a token then costs.

GPUs are billed as whole instances, from the start of the first replica on one to the end of its last, to the
second. The instances of a deployment are the cheapest combination of one provider and region that holds its
replicas at their peak; a replica is kept on one instance where one is large enough. Deployments do not
share instances. Where the scenario has nodes these are billed, whole, whoever is on them. Storage, network, minimum billing times and commitments are not in this bill.
"""

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from simulator import metrics
from simulator.catalog import find_gpu, load_prices
from simulator.cost.prices import Offer, PricesConfig, offers, own_prices
from simulator.errors import ServelabError
from simulator.result import Result

Interval = tuple[float, float]  # start, end [s]
BILL = ["item", "quantity", "unit", "unit_price_usd", "usd", "source", "as_of"]


@dataclass(frozen=True)
class Unit:
    """``machines`` instances bought together, which hold ``slots`` replicas.

    More than one machine: a replica too large for one of them spans them all.
    """

    offer: Offer
    machines: int
    slots: int

    @property
    def usd_per_hour(self) -> float:
        return self.machines * self.offer.usd_per_hour


COSTS = {
    "usd": "bill of the run", "usd_per_hour": "per hour", "usd_per_1m_output_tokens": "per 1M output tokens",
    "usd_per_1m_total_tokens": "per 1M tokens, prompt and output",
    "usd_per_1m_output_tokens_within_slo": "per 1M output tokens within SLO",
    "usd_per_1k_requests": "per 1,000 requests",
}  # fmt: skip


def units(found: Iterable[Offer], gpus: int) -> list[Unit]:
    """How replicas of ``gpus`` GPUs fit each offer; without offers too small where one is large enough."""
    found = list(found)
    whole = [Unit(o, 1, o.gpu_count // gpus) for o in found if o.gpu_count >= gpus]
    return whole or [Unit(o, math.ceil(gpus / o.gpu_count), 1) for o in found]


def cheapest(choices: Iterable[Unit], replicas: int) -> list[Unit]:
    """The cheapest units, of one provider and region, that hold ``replicas``; the largest first.

    >>> one = Offer("a", "one", "h100", 1, "", 7.0, "", "")
    >>> eight = Offer("a", "eight", "h100", 8, "", 40.0, "", "")
    >>> [u.offer.instance_type for u in cheapest(units([one, eight], gpus=1), 9)]
    ['eight', 'one']
    >>> [u.offer.instance_type for u in cheapest(units([one, eight], gpus=1), 6)]
    ['eight']
    """
    places: dict[tuple[str, str], list[Unit]] = {}
    for unit in choices:
        places.setdefault((unit.offer.provider, unit.offer.region), []).append(unit)
    plans = [_cover(same, replicas) for same in places.values()]
    best = min(plans, key=lambda plan: (math.fsum(u.usd_per_hour for u in plan), len(plan)))
    return sorted(best, key=lambda u: -u.slots)


def _cover(choices: list[Unit], replicas: int) -> list[Unit]:
    """Cheapest multiset of ``choices`` with at least ``replicas`` slots, by dynamic programming."""
    cost, last = [0.0], [choices[0]]
    for n in range(1, replicas + 1):
        usd, unit = min(
            ((cost[max(0, n - u.slots)] + u.usd_per_hour, u) for u in choices), key=lambda pair: pair[0]
        )
        cost.append(usd)
        last.append(unit)
    plan, n = [], replicas
    while n > 0:
        plan.append(last[n])
        n -= last[n].slots
    return plan


def peak(intervals: Iterable[Interval]) -> int:
    """Most intervals open at one time; one that ends when another starts makes room for it.

    >>> peak([(0, 10), (5, 20), (10, 15)])
    2
    """
    changes = sorted(change for a, b in intervals if b > a for change in ((a, 1), (b, -1)))
    level = top = 0
    for _, change in changes:
        level += change
        top = max(top, level)
    return top


@dataclass
class _Rented:
    unit: Unit
    billed_s: float = 0.0
    since_s: float = 0.0
    ends_s: list[float] = field(default_factory=list)

    def advance(self, time_s: float) -> None:
        """Drop replicas that have ended; with the last one the unit is given back."""
        if self.ends_s and max(self.ends_s) <= time_s:
            self.billed_s += max(self.ends_s) - self.since_s
            self.ends_s = []
        self.ends_s = [e for e in self.ends_s if e > time_s]


def rented_s(plan: list[Unit], intervals: Iterable[Interval]) -> list[float]:
    """Seconds for which each unit of ``plan`` is billed when replicas run over ``intervals`` [s].

    A replica starts on a running unit with room, else on the first idle one.

    >>> two = Unit(Offer("a", "two", "l4", 2, "", 2.0, "", ""), 1, 2)
    >>> rented_s([two, two], [(0, 100), (0, 100), (40, 60), (80, 90)])
    [100.0, 30.0]
    """
    rented = [_Rented(unit) for unit in plan]
    for start_s, end_s in sorted((a, b) for a, b in intervals if b > a):
        for r in rented:
            r.advance(start_s)
        running = (r for r in rented if r.ends_s and len(r.ends_s) < r.unit.slots)
        idle = (r for r in rented if not r.ends_s)
        chosen = next(running, None) or next(idle, None)
        if chosen is None:
            raise ServelabError(f"{len(plan)} instances have no room for a replica at {start_s:g} s")
        if not chosen.ends_s:
            chosen.since_s = start_s
        chosen.ends_s.append(end_s)
    for r in rented:
        r.advance(math.inf)
    return [float(r.billed_s) for r in rented]


def bill(
    result: Result, prices: PricesConfig | None = None, table: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The run's bill, a row an item: item, quantity, unit, unit_price_usd [USD/unit], usd, source, as_of.

    ``prices`` is taken from the scenario, ``table`` from data/ where not given. A GPU in
    ``prices.usd_per_gpu_hour`` is billed by GPU-hours; all others by whole instances (instance-hours).

    Raises ServelabError for a GPU without a price, and for an own price of an unknown GPU.
    """
    prices = PricesConfig.model_validate(result.meta.get("prices") or {}) if prices is None else prices
    own = own_prices(prices, set(result.instances["gpu"]))
    listed = load_prices() if table is None else table
    rows: list[tuple] = []
    keys = result.instances[["deployment", "gpu", "gpus"]].drop_duplicates()
    if len(result.nodes):
        return pd.DataFrame(list(_nodes(result, listed, own, prices)), columns=BILL)
    for deployment, gpu, gpus in keys.itertuples(index=False):
        name = _deployment_name(result, int(deployment))
        open_s = _intervals(result, int(deployment), gpu, int(gpus))
        if gpu in own:
            hours = int(gpus) * math.fsum(b - a for a, b in open_s) / 3600
            usd = own[gpu]
            source = f"your own price, prices.usd_per_gpu_hour.{gpu}"
            rows.append((f"{name}: {gpu}", hours, "GPU-hour", usd, hours * usd, source, ""))
            continue
        plan = cheapest(units(offers(listed, gpu, prices), int(gpus)), peak(open_s))
        hours_by: dict[Offer, float] = {}
        count: dict[Offer, int] = {}
        for unit, seconds in zip(plan, rented_s(plan, open_s), strict=True):
            hours_by[unit.offer] = hours_by.get(unit.offer, 0.0) + unit.machines * seconds / 3600
            count[unit.offer] = count.get(unit.offer, 0) + unit.machines
        for offer, hours in hours_by.items():
            how = prices.purchase.replace("_", " ")
            item = f"{name}: {offer}, {how}, {count[offer]} at peak"
            usd = hours * offer.usd_per_hour
            rows.append((item, hours, "instance-hour", offer.usd_per_hour, usd, offer.source, offer.as_of))
    return pd.DataFrame(rows, columns=BILL)


def _nodes(
    result: Result, listed: pd.DataFrame, own: Mapping[str, float], prices: PricesConfig
) -> Iterator[tuple]:
    """Lines of the nodes of a scenario that has them: whole machines, from when they run to when they are given back."""
    how = prices.purchase.replace("_", " ")
    for (pool, gpu, slots), rows in result.nodes.groupby(["pool", "gpu", "gpus"], sort=False):
        card = str(gpu).partition(":")[0]  # of MIG slices
        gpus = int(str(slots)) if card == gpu else find_gpu(card).gpus_per_node
        hours = float((rows["end_s"] - rows["start_s"]).sum()) / 3600
        if card in own:
            source = f"your own price, prices.usd_per_gpu_hour.{card}"
            yield (
                f"nodes {pool}: {card}",
                gpus * hours,
                "GPU-hour",
                own[card],
                gpus * hours * own[card],
                source,
                "",
            )
            continue
        unit = min(units(offers(listed, card, prices), gpus), key=lambda u: u.usd_per_hour)
        offer = unit.offer
        item = f"nodes {pool}: {offer}, {how}, {len(rows) * unit.machines} in all"
        quantity = hours * unit.machines
        yield (
            item,
            quantity,
            "instance-hour",
            offer.usd_per_hour,
            quantity * offer.usd_per_hour,
            offer.source,
            offer.as_of,
        )


def _deployment_name(result: Result, index: int) -> str:
    known = result.meta.get("deployments") or []
    return (
        str(known[index].get("name", f"deployment {index}"))
        if 0 <= index < len(known)
        else f"deployment {index}"
    )


def _ends_s(result: Result) -> np.ndarray:
    end_s = metrics.column(result.instances, "end_s")
    return np.where(np.isnan(end_s), metrics.duration_s(result.requests), end_s)


def _intervals(result: Result, deployment: int, gpu: str, gpus: int) -> list[Interval]:
    rows = result.instances
    chosen = ((rows["deployment"] == deployment) & (rows["gpu"] == gpu) & (rows["gpus"] == gpus)).to_numpy()
    return list(
        zip(metrics.column(rows, "start_s")[chosen].tolist(), _ends_s(result)[chosen].tolist(), strict=True)
    )


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


def known_cost(result: Result) -> tuple[pd.DataFrame | None, str]:
    """What `cost_summary` gives, or None and why there is none."""
    try:
        return cost_summary(result), ""
    except ServelabError as problem:
        return None, str(problem)


def cost_summary(
    result: Result,
    prices: PricesConfig | None = None,
    table: pd.DataFrame | None = None,
    today: dt.date | None = None,
) -> pd.DataFrame:
    """What the run cost: metric, value, unit, source, as_of, staleness_days (of the oldest price).

    ``usd_per_hour`` is the bill over the time from the first start to the last end of a billed replica.
    Tokens and requests are those of completed requests; ``within_slo`` counts the output tokens of good ones
    only. A cost per nothing is infinite. ``today`` (default: the date of the call) dates the staleness.
    """
    lines = bill(result, prices, table)
    usd = math.fsum(lines["usd"])
    hours = float((_ends_s(result).max() - result.instances["start_s"].min()) / 3600) if len(lines) else 0.0
    done = metrics.completed(result.requests)
    output, prompt = (metrics.column(result.requests, c) for c in ("generated_tokens", "prompt_tokens"))
    tokens = int(output[done].sum())
    answers = [
        ("usd", usd, "USD"),
        ("usd_per_hour", per(usd, hours), "USD/hour"),
        ("usd_per_1m_output_tokens", per(usd, tokens, of=1e6), "USD/1M token"),
        ("usd_per_1m_total_tokens", per(usd, tokens + int(prompt[done].sum()), of=1e6), "USD/1M token"),
        (
            "usd_per_1m_output_tokens_within_slo",
            per(usd, int(output[result.good()].sum()), of=1e6),
            "USD/1M token",
        ),
        ("usd_per_1k_requests", per(usd, int(done.sum()), of=1e3), "USD/1k request"),
    ]
    dates = sorted(d for d in lines["as_of"] if d)
    oldest = dates[0] if dates else ""
    source = "; ".join(dict.fromkeys(s for s in lines["source"] if s))
    out = pd.DataFrame(answers, columns=["metric", "value", "unit"])
    return out.assign(
        source=source, as_of=oldest, staleness_days=staleness_days(oldest, today or dt.date.today())
    )
