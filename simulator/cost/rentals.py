"""What is rented, and when: whole machines as providers sell them, from the moment each runs.

The machines of a deployment are the cheapest combination of one provider and region that holds its replicas at
their peak; a replica is kept on one machine where one is large enough. A machine is rented from the start of the
first replica on it to the end of its last. Deployments do not share machines. Where the scenario has nodes these are
rented instead, whole, whoever is on them. Time is counted as the provider counts it (data/billing.csv: granularity
and least time); a provider without an entry, and a price of your own, is counted to the second.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from simulator.catalog import find_gpu, load_billing
from simulator.cluster.pools import PoolConfig
from simulator.errors import ServelabError
from simulator.pricing.commitments import effective_usd_per_hour
from simulator.pricing.machines import Interval, cheapest, counted, peak, places, stretches, units
from simulator.pricing.price_table import price_list
from simulator.pricing.prices import Offer, PricesConfig, Tranche, offers, own_prices
from simulator.records import metrics
from simulator.records.run import RunRecords


@dataclass(frozen=True)
class Rental:
    """Something rented without a break. ``owner``: the deployment or pool; ``kind``: the kind of GPU that pods ask for.

    ``slots`` is what it holds: GPUs, or slices of them. ``rate`` units at ``usd_per_unit_hour`` run each hour.
    A committed machine is rented over the whole run, used or not.
    """

    owner: str
    what: str
    kind: str
    slots: float
    start_s: float
    end_s: float
    unit: str
    rate: float
    usd_per_unit_hour: float
    source: str
    as_of: str
    how: str = "on demand"
    provider: str = ""

    @property
    def quantity(self) -> float:
        """Instance-hours or GPU-hours."""
        return self.rate * (self.end_s - self.start_s) / 3600

    @property
    def usd(self) -> float:
        return self.quantity * self.usd_per_unit_hour


def horizon_s(result: RunRecords) -> float:
    """The end of the run: of the last request, or of the last pod [s]."""
    ends = _ends_s(result)
    return max(metrics.duration_s(result.requests), float(ends.max()) if len(ends) else 0.0)


def rentals(result: RunRecords, prices: PricesConfig, table: pd.DataFrame | None = None) -> list[Rental]:
    """Everything rented for the run. Raises ServelabError for a GPU without a price, and for an own price of an unknown
    GPU.

    ``table`` is taken from data/ and ``prices.file`` where not given.
    """
    own = own_of(result, prices)
    listed = price_list(result.meta.get("price_rows")) if table is None else table
    end_s = horizon_s(result)
    if len(result.nodes) or pools_of(result):
        found = list(_of_nodes(result, own, _Terms(prices, listed, end_s)))
    else:
        found = list(_of_pods(result, own, _Terms(prices, listed, end_s)))
    return [_as_counted(r, end_s) for r in found if r.end_s > r.start_s]


def own_of(result: RunRecords, prices: PricesConfig) -> dict[str, float]:
    """The user's own prices [USD/GPU/hour]; GPUs that the run had count as known, those of the user's own too."""
    had = [*result.instances["gpu"], *(d["gpu"] for d in result.meta.get("deployments") or [] if "gpu" in d)]
    return own_prices(prices, {str(g).partition(":")[0] for g in had})


def pools_of(result: RunRecords) -> list[PoolConfig]:
    """The node pools of the scenario."""
    nodes = (result.meta.get("scenario") or {}).get("nodes") or {}
    return [PoolConfig.model_validate_json(json.dumps(p)) for p in nodes.get("pools") or []]


def _as_counted(r: Rental, end_s: float) -> Rental:
    """With the end that the provider charges to; what still runs at the end of the run is not rounded."""
    rule = load_billing().get(r.provider)
    if rule is None or r.end_s >= end_s:
        return r
    return replace(r, end_s=r.start_s + counted(r.start_s, r.end_s, rule[0], rule[1]))


@dataclass(frozen=True)
class _Terms:
    """What machines are bought on: prices, the price list, and the end of the run [s]."""

    prices: PricesConfig
    listed: pd.DataFrame
    end_s: float


def _of_pods(result: RunRecords, own: dict[str, float], terms: _Terms) -> Iterator[Rental]:
    prices = terms.prices
    keys = list(result.instances[["deployment", "gpu", "gpus"]].drop_duplicates().itertuples(index=False, name=None))
    if prices.committed:  # paid for by a deployment that never had a pod too
        had = {int(deployment) for deployment, _, _ in keys}
        every = enumerate(result.meta.get("deployments") or [])
        keys += [(i, d["gpu"], d["gpus_per_replica"]) for i, d in every if i not in had]
    for deployment, gpu, gpus in keys:
        name = deployment_name(result, int(deployment))
        open_s = sorted(_intervals(result, int(deployment), gpu, int(gpus)))
        if gpu in own:
            yield from _owned(_Machine(name, name, gpu, int(gpus)), int(gpus), own[gpu], open_s)
            continue
        choices = units(offers(terms.listed, gpu, prices), int(gpus))
        plan = cheapest(choices, peak(open_s))
        first = 0
        when = list(zip(plan, stretches(plan, open_s), strict=True))
        for unit, spans in when:
            for machine in range(unit.machines):
                slots = max(unit.slots * int(gpus) / unit.machines, unit.offer.gpu_count)
                yield from _bought(_Machine(name, name, gpu, slots), unit.offer, first + machine, spans, terms)
            first += unit.machines
        if first < prices.committed:
            offer = (plan or cheapest(choices, 1))[-1].offer
            for place in range(first, prices.committed):
                yield from _bought(_Machine(name, name, gpu, offer.gpu_count), offer, place, [], terms)


def _of_nodes(result: RunRecords, own: dict[str, float], terms: _Terms) -> Iterator[Rental]:
    prices = terms.prices
    found = list(result.nodes.groupby(["pool", "gpu", "gpus"], sort=False))
    if prices.committed:  # paid for by a pool that never had a node too
        had = set(result.nodes["pool"])
        found += [((p.name, p.spec.name, p.slots), result.nodes[:0]) for p in pools_of(result) if p.name not in had]
    for (pool, gpu, slots), rows in found:
        card = str(gpu).partition(":")[0]  # of MIG slices
        gpus = int(str(slots)) if card == gpu else find_gpu(card).gpus_per_node
        rows = rows.sort_values("start_s")
        open_s = list(zip(rows["start_s"].tolist(), rows["end_s"].tolist(), strict=True))
        name = f"nodes {pool}"
        machine = _Machine(name, name, str(gpu), float(str(slots)))
        if card in own:
            yield from _owned(machine, gpus, own[card], open_s)
            continue
        numbered = list(zip(places(open_s), open_s, strict=True))
        unit = min(units(offers(terms.listed, card, prices), gpus), key=lambda u: u.usd_per_hour)
        most = max((place for place, _ in numbered), default=-1) + 1
        part = replace(machine, slots=machine.slots / unit.machines)
        for number in range(max(most, -(-prices.committed // unit.machines))):
            spans = [span for place, span in numbered if place == number]
            for k in range(unit.machines):
                yield from _bought(part, unit.offer, number * unit.machines + k, spans, terms)


@dataclass(frozen=True)
class _Machine:
    """A machine of somebody: ``owner`` and ``name`` as bills have them, the kind of GPU and how many pods may hold."""

    owner: str
    name: str
    kind: str
    slots: float

    @property
    def card(self) -> str:
        return self.kind.partition(":")[0]


def _owned(m: _Machine, gpus: int, usd: float, made: Sequence[Interval]) -> Iterator[Rental]:
    """``gpus`` GPUs at a price of the user's own, by GPU-hours."""
    source = f"your own price, prices.usd_per_gpu_hour.{m.card}"
    what = f"{m.name}: {m.card}"
    for start_s, stop_s in made:
        yield Rental(
            m.owner, what, m.kind, m.slots, start_s, stop_s, "GPU-hour", gpus, usd, source, "", "your own price"
        )


def _bought(m: _Machine, offer: Offer, place: int, spans: Sequence[Interval], terms: _Terms) -> Iterator[Rental]:
    """The machine at ``place`` of its owner, bought as the tranche of that place says."""
    tranche = terms.prices.tranche(place)
    usd, how, source, as_of = _price(offer, tranche, terms.prices, terms.listed)
    what = f"{m.name}: {offer}, {how}"
    for start_s, stop_s in [(0.0, terms.end_s)] if tranche.purchase == "committed" else spans:
        yield Rental(
            m.owner,
            what,
            m.kind,
            m.slots,
            start_s,
            stop_s,
            "instance-hour",
            1.0,
            usd,
            source,
            as_of,
            how,
            offer.provider,
        )


def _price(offer: Offer, tranche: Tranche, prices: PricesConfig, listed: pd.DataFrame) -> tuple[float, str, str, str]:
    """USD per hour of one machine, how it is bought, source and date."""
    column = "on_demand" if tranche.purchase == "committed" else tranche.purchase
    if column != prices.sold_as:
        wanted = prices.model_copy(update={"purchase": column, "provider": offer.provider})
        same = [
            o
            for o in offers(listed, offer.gpu, wanted)
            if (o.instance_type, o.region) == (offer.instance_type, offer.region)
        ]
        if not same:
            raise ServelabError(
                f"no {column} price for {offer}: set prices.instance_type or prices.provider to one that has it, or "
                "name a price list with it in prices.file"
            )
        offer = same[0]
    if tranche.purchase != "committed":
        return offer.usd_per_hour, column.replace("_", " "), offer.source, offer.as_of
    deal = tranche.deal(offer.provider)
    usd = effective_usd_per_hour(offer.usd_per_hour, deal)
    dates = [d for d in (offer.as_of, deal.as_of) if d]
    return usd, f"committed {deal.commitment}", f"{offer.source}; {deal.source}", min(dates, default="")


def deployment_name(result: RunRecords, index: int) -> str:
    """What deployment ``index`` is called."""
    known = result.meta.get("deployments") or []
    name = f"deployment {index}"
    return str(known[index].get("name", name)) if 0 <= index < len(known) else name


def _ends_s(result: RunRecords) -> np.ndarray:
    end_s = metrics.column(result.instances, "end_s")
    return np.where(np.isnan(end_s), metrics.duration_s(result.requests), end_s)


def _intervals(result: RunRecords, deployment: int, gpu: str, gpus: int) -> list[Interval]:
    rows = result.instances
    chosen = ((rows["deployment"] == deployment) & (rows["gpu"] == gpu) & (rows["gpus"] == gpus)).to_numpy()
    return list(zip(metrics.column(rows, "start_s")[chosen].tolist(), _ends_s(result)[chosen].tolist(), strict=True))
