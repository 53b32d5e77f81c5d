"""Screening and search: families of designs that differ in replicas, bisected in one hard world, cheapest first."""

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from simulator.errors import ServelabError
from simulator.planner.analytic import Lengths, screened
from simulator.planner.designs import Design, cost, replicas
from simulator.planner.evaluate import job
from simulator.planner.price import fleet_usd_per_hour
from simulator.planner.runs import Runs
from simulator.planner.sweep import points, with_fields
from simulator.planner.traffic import demand, heaviest, requests_of
from simulator.planner.worlds import Uncertainty, World
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario

HOPELESS = 1.3  # times the rate that the analytic model allows; its error is in docs/planner.md
MEANS_SAY = 0.6  # an SLO that fewer must meet may hold where the mean misses it


class Search:
    """The designs of ``choices``, and which of them pass the world ``hard``."""

    def __init__(
        self, scenario: Scenario, choices: Mapping[str, list[Any]], hard: World, u: Uncertainty, runs: Runs
    ) -> None:
        self._base, self._u, self._runs, self._hard = scenario, u, runs, hard
        self.simulated = 0
        self.screened_out: set[int] = set()  # by id
        self.designs: list[Design] = []
        self.refused: list[tuple[dict[str, Any], str]] = []
        self.refuted: set[int] = set()  # designs whose proof has failed, by id
        self._rate_known = self._shares = False
        self._peak_rps, self._lengths = self._traffic()
        self.families = self._build(choices)

    def _traffic(self) -> tuple[float, Lengths]:
        """Rate and mean lengths of the heaviest window of the SLO's length."""
        table = requests_of(self._hard.of(self._base, self._u.block_s), self._hard.seed)
        self._rate_known, self._shares = not table.reacts, len(table.segment_stream) > 0
        if not self._rate_known:
            return float("nan"), Lengths.of(table)  # requests wait for answers: their rate is an outcome
        window = self._base.slo.window_s
        _, share = heaviest(table, window, window / 4)
        if share == 1.0:
            span = float(np.nanmax(table.arrival_s)) or 1.0
            return len(table) / span, Lengths.of(table)
        total = demand(table).sum()
        return float(share * len(table) / window * (2 / total)), Lengths.of(table)

    def _build(self, choices: Mapping[str, list[Any]]) -> list[list[Design]]:
        families: dict[str, list[Design]] = {}
        rates: dict[str, float | None | ServelabError] = {}
        for fields in points(choices):
            rest = str(sorted((k, str(v)) for k, v in fields.items() if k != "replicas"))
            engine = str(sorted((k, str(v)) for k, v in fields.items() if k not in ("replicas", "purchase")))
            made = with_fields(self._base, fields)
            if engine not in rates:
                rates[engine] = self._screened(made)
            rate = rates[engine]
            if isinstance(rate, ServelabError):
                self.refused.append((fields, str(rate)))
                continue
            design = Design(fields, made, fleet_usd_per_hour(made), rate)
            self.designs.append(design)
            moves = made.moves
            families.setdefault(str(fields) if moves else rest, []).append(design)
        if not families:
            reasons = "; ".join(dict.fromkeys(why for _, why in self.refused))
            raise ServelabError(f"none of the {len(self.refused)} combinations can run: {reasons}")
        return [sorted(f, key=lambda d: (d.usd_per_hour, replicas(d))) for f in families.values()]

    def _screened(self, scenario: Scenario) -> float | None | ServelabError:
        """Rate that one replica holds in the search world, None where that is not known, or why it cannot run."""
        try:
            hard = self._hard.of(scenario, self._u.block_s)
            for i in range(1, len(hard.deployments)):
                resolve_deployment(hard, i)
            found = screened(hard, self._lengths)
            caches = resolve_deployment(hard, 0).settings.enable_prefix_caching
            # what it knows nothing of: other deployments, answers that are waited for, prompts that share blocks
            blind = len(hard.deployments) > 1 or not self._rate_known or (self._shares and caches)
            return None if blind else found
        except ServelabError as problem:
            return problem

    def good(self, d: Design) -> bool:
        """Whether it passed the search world, and no proof has failed."""
        return bool(d.search and d.search["meets"]) and id(d) not in self.refuted

    def bisect(self) -> None:
        """Simulate what can still be the cheapest, in rounds, some families at a time."""
        open_: list[tuple[list[Design], Generator[Design, bool, None]]] = []
        for family in self.families:
            hopeful = [d for d in family if not self._hopeless(d)]
            if hopeful:
                open_.append((hopeful, self._steps(hopeful)))
        waiting: dict[int, Design] = {}
        for k, (_, steps) in enumerate(open_):
            waiting[k] = next(steps)
        while waiting:
            bound = min((cost(d) for d in self.designs if self.good(d)), default=np.inf)
            ready = sorted(waiting, key=lambda k: waiting[k].usd_per_hour)
            chosen = [k for k in ready if _least(waiting[k]) < bound][: width_of(self._runs)]
            if not chosen:
                chosen = ready  # dearer than what holds: their families may still hold with fewer replicas
            self.simulate([waiting[k] for k in chosen if _least(waiting[k]) < bound])
            for k in chosen:
                design = waiting.pop(k)
                # a design that costs more than one that holds counts as holding: only fewer replicas matter
                good = _least(design) >= bound if design.search is None else self.good(design)
                try:
                    waiting[k] = open_[k][1].send(good)
                except StopIteration:
                    pass

    def _steps(self, family: list[Design]) -> Generator[Design, bool, None]:
        """Bisection for the first design of a family that holds, from where the analytic model puts it."""
        low, high = -1, len(family)
        at = self._first_guess(family)
        step = 1
        while high - low > 1:
            if (yield family[at]):
                high = at
                at = max(low + 1, at - step) if low < 0 else (low + high) // 2
            else:
                low = at
                at = min(high - 1, at + step) if high == len(family) else (low + high) // 2
            step *= 2

    def _first_guess(self, family: list[Design]) -> int:
        for i, d in enumerate(family):
            if d.screened_rps is not None and d.screened_rps * replicas(d) >= self._peak_rps:
                return i
        return len(family) - 1 if family[0].screened_rps is not None else len(family) // 2

    def _hopeless(self, d: Design) -> bool:
        if d.screened_rps is None or d.scenario.moves or d.scenario.slo.attainment < MEANS_SAY:
            return False
        if HOPELESS * d.screened_rps * replicas(d) >= self._peak_rps:
            return False
        self.screened_out.add(id(d))
        return True

    def simulate(self, designs: list[Design]) -> None:
        """In the hard world, those that were not."""
        designs = [d for d in designs if d.search is None]
        jobs = [job(self._hard.of(d.scenario, self._u.block_s), self._hard.seed, whole_hour(d)) for d in designs]
        for d, row in zip(designs, self._runs.rows(jobs), strict=True):
            d.search = row
        self.simulated += len(jobs)


def width_of(runs: Runs) -> int:
    """How many designs are worth simulating at once."""
    from joblib import cpu_count

    return max(2 * (runs.workers or cpu_count()), 4)


def whole_hour(d: Design) -> bool:
    """The worst hour stands for the day where pods do not come and go."""
    return not d.scenario.moves


def _least(d: Design) -> float:
    """USD an hour at least: nothing is known of fleets that grow and shrink before they are simulated."""
    return 0.0 if d.scenario.moves and d.search is None else cost(d)
