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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from simulator.planner.designs import Claim, Design, cost, margin, nearness, replicas
from simulator.planner.intervals import summarised, trust_of
from simulator.planner.plan_table import design_table
from simulator.planner.proof import holds
from simulator.planner.runs import Runs
from simulator.planner.search import Search
from simulator.planner.worlds import Uncertainty, hard_world
from simulator.scenario import Scenario


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
    search = Search(scenario, choices, hard_world(scenario, u, claim.probability, seed), u, runs)
    best = None
    while best is None:
        search.bisect()
        passed = [d for d in search.designs if search.good(d)]
        if not passed:
            break
        first = min(passed, key=cost)
        if holds(first, claim, u, seed, runs):
            best = first
        else:
            search.refuted.add(id(first))
    if best is not None:
        search.simulate([best])  # the table shows every design in the same world
    return _answer(search, best, claim, level)


def _answer(search: Search, best: Design | None, claim: Claim, level: float) -> Plan:
    if best is None and not any(d.search for d in search.designs):
        search.simulate([max(family, key=replicas) for family in search.families])
    looked = [d for d in search.designs if d.search or d.proof]
    cheaper = [d for d in looked if d is not best and (best is None or cost(d) < cost(best))]
    failed = [d for d in cheaper if (d.search and not d.search["meets"]) or (d.proof and d.held < len(d.proof))]
    # the dearest of them; of equals the one that came nearest
    nearest = max(failed, key=lambda d: (cost(d), margin(d)), default=None)
    closest = max(looked, key=nearness, default=None) if best is None else None
    answers = None
    trust, rests_on = trust_of((best or closest or search.designs[0]).scenario)
    if best is not None:
        answers = summarised(best.proof, level, trust, rests_on)
    return Plan(
        claim,
        best,
        nearest,
        closest,
        design_table(search, best),
        answers,
        search.simulated + sum(len(d.proof) for d in search.designs),
        trust,
        rests_on,
        sum(bool(d.proof) for d in search.designs),
    )
