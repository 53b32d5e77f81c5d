"""How long the real-sized planning question takes, and whether its plan holds on fresh days.

``python -m benchmarks.planning [examples/plan.yaml] [--fresh 50]``
"""

import argparse
import sys
import time
from pathlib import Path

from scipy.stats import binomtest

from simulator.export.decision import headline
from simulator.planner.evaluate import job
from simulator.planner.plan import Plan, plan
from simulator.planner.plan_file import PlanFile
from simulator.planner.runs import Runs
from simulator.planner.worlds import worlds

SEED = 7  # of fresh worlds: neither search nor proof draws from it


def fresh(found: Plan, asked: PlanFile, days: int) -> str:
    """In how many fresh worlds, each with traffic of its own, the plan holds."""
    assert found.best is not None
    best, u = found.best.scenario, asked.uncertainty
    rows = Runs().rows([job(w.of(best, u.block_s), w.seed, True) for w in worlds(best, u, days, SEED)])
    held = sum(bool(r["meets"]) for r in rows)
    between = binomtest(held, days).proportion_ci(0.95, method="exact")
    return (
        f"holds on {held} of {days} fresh days: {held / days:.0%} (95 % binomial interval {between.low:.0%} to "
        f"{between.high:.0%}), claimed {asked.claim.probability:.0%}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the plan, the time, and with ``--fresh`` how often it holds."""
    parser = argparse.ArgumentParser(prog="benchmarks.planning", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path("examples/plan.yaml"))
    parser.add_argument("--fresh", type=int, default=0, metavar="DAYS")
    args = parser.parse_args(arguments)
    asked, scenario = PlanFile.load(args.file)
    began = time.perf_counter()
    found = plan(scenario, asked.choices, asked.claim, asked.uncertainty, runs=Runs())
    took = time.perf_counter() - began
    sys.stdout.write("\n".join(headline(found)) + "\n")
    sys.stdout.write(f"{len(found.designs)} designs, {found.simulated} simulations, {took:.1f} s\n")
    if args.fresh and found.best is not None:
        sys.stdout.write(fresh(found, asked, args.fresh) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
