"""Proof: one design in fresh worlds, each with traffic of its own; it is believed or not as `Claim.looks` says."""

import numpy as np

from simulator.planner.designs import Claim, Design
from simulator.planner.evaluate import job
from simulator.planner.intervals import in_world
from simulator.planner.runs import Runs
from simulator.planner.search import whole_hour, width_of
from simulator.planner.worlds import Uncertainty, World, worlds


def holds(d: Design, claim: Claim, u: Uncertainty, seed: int, runs: Runs) -> bool:
    """Accepted without a failure in the first worlds, or with one in the second number; slowest worlds first."""
    first, second = claim.looks
    left: list[World] = []
    drawn = 0
    while True:
        failures = len(d.proof) - d.held
        if failures > 1:
            return False
        n = second if failures else first
        if n > drawn:
            left = [*left, *worlds(d.scenario, u, n, seed + 1)[drawn:]]
            left.sort(key=lambda w: -w.traffic * float(np.prod(w.step)))
            drawn = n
        if not left:
            return True
        width = max(width_of(runs) // 2, 2)
        some, left = left[:width], left[width:]
        rows = runs.rows([job(w.of(d.scenario, u.block_s), w.seed, whole_hour(d)) for w in some])
        d.proof += [in_world(r, w) for r, w in zip(rows, some, strict=True)]
