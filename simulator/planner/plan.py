"""The cheapest deployment that holds its SLO with a stated probability.

Choices are fields with values (`sweep`). Designs that differ in ``replicas`` alone are a family: more replicas cost no
less and, so it is assumed, hold no less. Search and proof are apart:

1. Screening. The analytic model says from how many replicas on a family is worth trying, and leaves out designs that
   could not hold even if they took `HOPELESS` times what it says.
2. Search, in the worst hour of a world whose step times are slower than in the stated share of all: a design that fails
   there holds in no more worlds than that, but for the luck of its traffic. Families are bisected, cheapest first,
   none beyond the cheapest design that passed.
3. Proof. The cheapest design that passed is simulated in fresh worlds, each with traffic of its own (traces
   block-bootstrapped), in their worst hour. It is the plan if it holds in all of a first number of worlds, or fails in
   one of a larger number: `Claim.looks` has both, such that a design which holds less often than stated passes with a
   chance of 1 - confidence at most. The slowest worlds come first, so that a design that fails is soon given up. The
   search world does not count. After a failed proof the search goes on without that design.

Without ``replicas`` among the choices, or with an autoscaler, designs are families of one.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.planner.analytic import Lengths, screened
from simulator.planner.designs import Claim, Design, cost, margin, nearness, pareto, replicas
from simulator.planner.evaluate import job
from simulator.planner.intervals import in_world, summarised, trust_of
from simulator.planner.price import fleet_usd_per_hour
from simulator.planner.runs import Runs
from simulator.planner.sweep import label, points, with_fields
from simulator.planner.traffic import demand, heaviest, requests_of
from simulator.planner.worlds import Uncertainty, World, hard_world, worlds
from simulator.run.resolved import resolve_deployment
from simulator.scenario import Scenario

HOPELESS = 1.3  # times the rate that the analytic model allows; its error is in docs/planner.md
MEANS_SAY = 0.6  # an SLO that fewer must meet may hold where the mean misses it


@dataclass(frozen=True)
class Plan:
    """``best``: the cheapest design shown to hold, or None; ``cheaper``: the dearest cheaper one that did not hold.

    ``designs``: a row each for what was looked at, by cost, with ``status`` (best, holds in the search world, misses,
    dearer, screened out, cannot run) and whether it is on the Pareto front of cost, p99 TTFT, p99 TPOT and throughput.
    ``proven``: designs that were put to the proof; the confidence is that of each. ``answers``: the best design's
    figures with intervals. ``closest``: without a best, the design nearest to the SLO.
    """

    claim: Claim
    best: Design | None
    cheaper: Design | None
    closest: Design | None
    designs: pd.DataFrame
    answers: pd.DataFrame | None
    simulated: int
    trust: str
    rests_on: str
    proven: int

    @property
    def bound(self) -> float:
        """Share of worlds in which the best design holds, at least, at the stated confidence; 0 without one."""
        return self.claim.probability if self.best else 0.0


def plan(
    scenario: Scenario,
    choices: Mapping[str, list[Any]],
    claim: Claim = Claim(),
    u: Uncertainty = Uncertainty(),
    seed: int = 0,
    runs: Runs = Runs(),
    level: float = 0.9,
) -> Plan:
    """The cheapest of all combinations of ``choices`` that holds the SLO of ``scenario`` as ``claim`` says: see the
    module.

    ``choices`` are fields and values as in `sweep`. Raises ServelabError for a field that does not exist, a GPU without
    a price, and where no combination can run at all (nothing fits in memory): it says why.
    """
    return _Search(scenario, choices, claim, u, seed, runs).plan(level)


class _Search:
    def __init__(
        self, scenario: Scenario, choices: Mapping[str, list[Any]], claim: Claim, u: Uncertainty, seed: int, runs: Runs
    ) -> None:
        self._base, self._claim, self._u, self._seed, self._runs = scenario, claim, u, seed, runs
        self._simulated = 0
        self._status: dict[int, str] = {}
        self._designs: list[Design] = []
        self._refused: list[tuple[dict[str, Any], str]] = []
        self._hard = hard_world(scenario, u, claim.probability, seed)
        self._refuted: set[int] = set()
        self._rate_known = self._shares = False
        self._peak_rps, self._lengths = self._traffic()
        self._families = self._build(choices)

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
                self._refused.append((fields, str(rate)))
                continue
            design = Design(fields, made, fleet_usd_per_hour(made), rate)
            self._designs.append(design)
            moves = made.moves
            families.setdefault(str(fields) if moves else rest, []).append(design)
        if not families:
            reasons = "; ".join(dict.fromkeys(why for _, why in self._refused))
            raise ServelabError(f"none of the {len(self._refused)} combinations can run: {reasons}")
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

    def plan(self, level: float) -> Plan:
        best = None
        while best is None:
            self._bisect()
            passed = [d for d in self._designs if self._good(d)]
            if not passed:
                break
            first = min(passed, key=cost)
            if self._holds(first):
                best = first
            else:
                self._refuted.add(id(first))
        if best is not None:
            self._simulate([best])  # the table shows every design in the same world
        return self._answer(best, level)

    def _good(self, d: Design) -> bool:
        """Whether it passed the search world, and no proof has failed."""
        return bool(d.search and d.search["meets"]) and id(d) not in self._refuted

    def _bisect(self) -> None:
        """Simulate what can still be the cheapest, in rounds, some families at a time."""
        open_: list[tuple[list[Design], Generator[Design, bool, None]]] = []
        for family in self._families:
            hopeful = [d for d in family if not self._hopeless(d)]
            if hopeful:
                open_.append((hopeful, self._steps(hopeful)))
        waiting: dict[int, Design] = {}
        for k, (_, steps) in enumerate(open_):
            waiting[k] = next(steps)
        while waiting:
            bound = min((cost(d) for d in self._designs if self._good(d)), default=np.inf)
            ready = sorted(waiting, key=lambda k: waiting[k].usd_per_hour)
            chosen = [k for k in ready if _least(waiting[k]) < bound][: self._width]
            if not chosen:
                chosen = ready  # dearer than what holds: their families may still hold with fewer replicas
            self._simulate([waiting[k] for k in chosen if _least(waiting[k]) < bound])
            for k in chosen:
                design = waiting.pop(k)
                # a design that costs more than one that holds counts as holding: only fewer replicas matter
                good = _least(design) >= bound if design.search is None else self._good(design)
                try:
                    waiting[k] = open_[k][1].send(good)
                except StopIteration:
                    pass

    @property
    def _width(self) -> int:
        from joblib import cpu_count

        return max(2 * (self._runs.workers or cpu_count()), 4)

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
        self._status[id(d)] = "screened out"
        return True

    def _simulate(self, designs: list[Design]) -> None:
        designs = [d for d in designs if d.search is None]
        jobs = [job(self._hard.of(d.scenario, self._u.block_s), self._hard.seed, self._hour(d)) for d in designs]
        for d, row in zip(designs, self._runs.rows(jobs), strict=True):
            d.search = row
        self._simulated += len(jobs)

    def _hour(self, d: Design) -> bool:
        """The worst hour stands for the day where pods do not come and go."""
        return not d.scenario.moves

    def _holds(self, d: Design) -> bool:
        """Accepted without a failure in the first worlds, or with one in the second number; slowest worlds first."""
        first, second = self._claim.looks
        left: list[World] = []
        drawn = 0
        while True:
            failures = len(d.proof) - d.held
            if failures > 1:
                return False
            n = second if failures else first
            if n > drawn:
                left = [*left, *worlds(d.scenario, self._u, n, self._seed + 1)[drawn:]]
                left.sort(key=lambda w: -w.traffic * float(np.prod(w.step)))
                drawn = n
            if not left:
                return True
            width = max(self._width // 2, 2)
            some, left = left[:width], left[width:]
            rows = self._runs.rows([job(w.of(d.scenario, self._u.block_s), w.seed, self._hour(d)) for w in some])
            d.proof += [in_world(r, w) for r, w in zip(rows, some, strict=True)]
            self._simulated += len(some)

    def _answer(self, best: Design | None, level: float) -> Plan:
        if best is None and not any(d.search for d in self._designs):
            self._simulate([max(family, key=replicas) for family in self._families])
        looked = [d for d in self._designs if d.search or d.proof]
        cheaper = [d for d in looked if d is not best and (best is None or cost(d) < cost(best))]
        failed = [d for d in cheaper if (d.search and not d.search["meets"]) or (d.proof and d.held < len(d.proof))]
        # the dearest of them; of equals the one that came nearest
        nearest = max(failed, key=lambda d: (cost(d), margin(d)), default=None)
        closest = max(looked, key=nearness, default=None) if best is None else None
        answers = None
        trust, rests_on = trust_of((best or closest or self._designs[0]).scenario)
        if best is not None:
            answers = summarised(best.proof, level, trust, rests_on)
        return Plan(
            self._claim,
            best,
            nearest,
            closest,
            self._table(best),
            answers,
            self._simulated,
            trust,
            rests_on,
            sum(bool(d.proof) for d in self._designs),
        )

    def _table(self, best: Design | None) -> pd.DataFrame:
        rows = []
        for d in self._designs:
            row = {k: label(v) for k, v in d.fields.items()} | {"usd_per_hour": cost(d)}
            status = None if d.search else self._status.get(id(d))
            if d is best:
                status = "best"
            elif d.proof:
                status = f"holds in {d.held} of {len(d.proof)} worlds"
            elif d.search:
                status = "holds in the search world" if d.search["meets"] else "misses"
            elif best is not None and d.usd_per_hour >= cost(best):
                status = status or "dearer"
            found = d.search or {}
            keep = ("attainment", "worst_window", "margin", "ttft_s_p99", "tpot_s_p99", "throughput_tok_s", "binds")
            rows.append({**row, "status": status or "not tried", **{k: found.get(k) for k in keep}, "error": ""})
        for fields, why in self._refused:
            rows.append(
                {
                    **{k: label(v) for k, v in fields.items()},
                    "usd_per_hour": np.nan,
                    "status": "cannot run",
                    "error": why,
                }
            )
        frame = pd.DataFrame(rows)
        frame["pareto"] = pareto(frame)
        return frame.sort_values("usd_per_hour", ignore_index=True, kind="stable")


def _least(d: Design) -> float:
    """USD an hour at least: nothing is known of fleets that grow and shrink before they are simulated."""
    return 0.0 if d.scenario.moves and d.search is None else cost(d)
