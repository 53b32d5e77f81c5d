"""What an explorer runs: a simulation, a capacity search, a plan. The last outcomes are kept, so the same is not
computed twice."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from simulator.engine.warm import compiled_before
from simulator.explorer.checks import each, no_files, sound
from simulator.explorer.limits import Limits
from simulator.planner.capacity import Capacity, capacity
from simulator.planner.designs import Claim
from simulator.planner.plan import Plan, plan
from simulator.planner.runs import Job, Row, Runs
from simulator.planner.traffic import requests_of
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate

Kind = Literal["run", "capacity", "plan"]
Report = Callable[[float, float, str], None]
KEPT = 8


@dataclass(frozen=True)
class Outcome:
    """What was found, and of what. ``cached``: it was computed before."""

    kind: Kind
    scenario: Scenario
    seed: int
    found: Result | Capacity | Plan
    cached: bool = False

    @property
    def stamp(self) -> str:
        """Hash of the scenario, and the seed."""
        return self.scenario.stamp(self.seed)


class Work:
    """``runs``: where searches evaluate; ``limits`` of one simulation; ``files``: whether scenarios may name files
    of this machine."""

    def __init__(self, runs: Runs = Runs("serial"), limits: Limits = Limits(), files: bool = True) -> None:
        self._runs, self.limits, self.files = runs, limits, files
        self._kept: OrderedDict[str, Outcome] = OrderedDict()

    def may_read(self, scenario: Scenario) -> None:
        """Raises ServelabError for a scenario that names a file where none may be."""
        if not self.files:
            no_files(scenario)

    def run(self, scenario: Scenario, seed: int) -> Callable[[Report], Outcome]:
        """One simulation. Stopped, it gives what it has reached, which is not kept."""

        def work(report: Report) -> Outcome:
            report(0, 0, "making the traffic")
            total = len(requests_of(scenario, seed))
            report(0, 0, "simulating" if compiled_before() else "compiling the engine: half a minute, once")

            def progress(time_s: float, arrived: int) -> None:
                report(arrived, total, f"{arrived:,} of {total:,} requests, {time_s:,.0f} s simulated")

            return Outcome("run", scenario, seed, simulate(scenario, seed, progress=progress))

        return self._remembered("run", scenario, seed, {}, work)

    def capacity(self, scenario: Scenario, seed: int) -> Callable[[Report], Outcome]:
        """The highest rate within the SLO."""

        def work(report: Report) -> Outcome:
            counted = _Counted(report, "loads simulated")
            return Outcome(
                "capacity", scenario, seed, capacity(scenario, (seed,), runs=counted.runs(self._runs, self.limits))
            )

        return self._remembered("capacity", scenario, seed, {}, work)

    def plan(
        self, scenario: Scenario, seed: int, choices: Mapping[str, list[Any]], claim: Claim
    ) -> Callable[[Report], Outcome]:
        """The cheapest combination of ``choices`` that holds as ``claim`` says. Raises ServelabError for choices
        that are none."""
        sound(choices, self.limits.designs)

        def work(report: Report) -> Outcome:
            each(scenario, choices, self.files, self.limits, report)
            counted = _Counted(report, "simulations")
            found = plan(scenario, choices, claim, seed=seed, runs=counted.runs(self._runs, self.limits))
            return Outcome("plan", scenario, seed, found)

        more = {"choices": dict(choices), "claim": claim.model_dump()}
        return self._remembered("plan", scenario, seed, more, work)

    def _remembered(
        self, kind: Kind, scenario: Scenario, seed: int, more: dict[str, Any], work: Callable[[Report], Outcome]
    ) -> Callable[[Report], Outcome]:
        self.may_read(scenario)
        key = json.dumps([kind, scenario.to_mapping(), seed, more], sort_keys=True, default=str)

        def found(report: Report) -> Outcome:
            if key in self._kept:
                self._kept.move_to_end(key)
                return replace(self._kept[key], cached=True)
            self.limits.check(scenario)
            outcome = work(report)
            if not (isinstance(outcome.found, Result) and outcome.found.partial):
                self._kept[key] = outcome
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return outcome

        return found


@dataclass(frozen=True)
class Bounded(Runs):
    """Runs of which none is larger than ``limits``: a search may multiply the traffic."""

    limits: Limits = Limits()

    def rows(self, jobs: Sequence[Job]) -> list[Row]:
        """As `Runs.rows`. Raises ServelabError before the first run where one is too large."""
        for mapping, folder, _, _ in jobs:
            self.limits.check(Scenario.of(mapping, Path(folder)))
        return super().rows(jobs)


class _Counted:
    """Progress of a search, of which nobody knows how many runs it takes."""

    def __init__(self, report: Report, what: str) -> None:
        self._report, self._what, self._before, self._last = report, what, 0, 0

    def runs(self, runs: Runs, limits: Limits) -> Runs:
        return Bounded(runs.backend, runs.workers, runs.address, runs.cache, self._told, limits)

    def _told(self, done: int, all_: int) -> None:
        if done < self._last:  # another batch of runs
            self._before += self._last
        self._last = done
        self._report(0, 0, f"{self._before + done} {self._what}")
