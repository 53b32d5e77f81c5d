"""Machines as sold, and which of them are needed when: the cheapest combination, and the times it is rented."""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.errors import ServelabError
from simulator.pricing.prices import Offer

Interval = tuple[float, float]  # start, end [s]


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
        usd, unit = min(((cost[max(0, n - u.slots)] + u.usd_per_hour, u) for u in choices), key=lambda pair: pair[0])
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
    stretches: list[Interval] = field(default_factory=list)
    since_s: float = 0.0
    ends_s: list[float] = field(default_factory=list)

    def advance(self, time_s: float) -> None:
        """Drop replicas that have ended; with the last one the unit is given back."""
        if self.ends_s and max(self.ends_s) <= time_s:
            self.stretches.append((self.since_s, max(self.ends_s)))
            self.ends_s = []
        self.ends_s = [e for e in self.ends_s if e > time_s]


def stretches(plan: list[Unit], intervals: Iterable[Interval]) -> list[list[Interval]]:
    """When each unit of ``plan`` is rented [s] while replicas run over ``intervals`` [s].

    A replica starts on a running unit with room, else on the first idle one.

    >>> two = Unit(Offer("a", "two", "l4", 2, "", 2.0, "", ""), 1, 2)
    >>> stretches([two, two], [(0, 100), (0, 100), (40, 60), (80, 90)])
    [[(0, 100)], [(40, 60), (80, 90)]]
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
    return [r.stretches for r in rented]


def places(intervals: Iterable[Interval]) -> list[int]:
    """The first free place of each interval, in order of start: how machines that follow each other are counted as one.

    >>> places([(0, 10), (5, 20), (10, 15)])
    [0, 1, 0]
    """
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    out, most = [], 0
    for start_s, end_s in intervals:
        while busy and busy[0][0] <= start_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            free, most = [most], most + 1
        place = heapq.heappop(free)
        heapq.heappush(busy, (end_s, place))
        out.append(place)
    return out


def counted(start_s: float, end_s: float, granularity_s: float, minimum_s: float) -> float:
    """Seconds that a provider charges.

    >>> counted(0.0, 30.5, 1, 60), counted(0.0, 90.5, 1, 60), counted(0.0, 3601.0, 3600, 0), counted(0.0, 9.5, 0, 0)
    (60, 91, 7200, 9.5)
    """
    used = max(end_s - start_s, minimum_s)
    return granularity_s * math.ceil(round(used / granularity_s, 9)) if granularity_s else used
