"""How long the real-sized planning question takes: ``python -m benchmarks.planning [examples/plan.yaml]``."""

import sys
import time
from pathlib import Path

from simulator.export.decision import headline
from simulator.planner.plan import plan
from simulator.planner.plan_file import PlanFile
from simulator.planner.runs import Runs


def main(arguments: list[str] | None = None) -> int:
    """Print the plan and the time."""
    given = sys.argv[1:] if arguments is None else arguments
    asked, scenario = PlanFile.load(Path(given[0] if given else "examples/plan.yaml"))
    began = time.perf_counter()
    found = plan(scenario, asked.choices, asked.claim, asked.uncertainty, runs=Runs())
    took = time.perf_counter() - began
    sys.stdout.write("\n".join(headline(found)) + "\n")
    sys.stdout.write(f"{len(found.designs)} designs, {found.simulated} simulations, {took:.1f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
