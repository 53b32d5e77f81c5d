"""``servelab capacity``: the highest rate within the SLO."""

from typing import Annotated

import typer

from simulator.command.exits import told
from simulator.command.options import (
    ADDRESS,
    BACKEND,
    CACHE,
    JSON,
    OUT,
    OVERWRITE,
    QUIET,
    SCENARIO,
    SET,
    WORKERS,
    Backend,
    made_folder,
    runs_of,
    say_json,
    say_table,
)


def capacity(
    scenario: SCENARIO,
    precision: Annotated[float, typer.Option(help="relative")] = 0.02,
    seeds: Annotated[int, typer.Option(min=1, help="seeds under which the SLO must hold")] = 1,
    set_: SET = None,
    out: OUT = None,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
    quiet: QUIET = False,
    backend: BACKEND = Backend.local,
    address: ADDRESS = None,
    workers: WORKERS = None,
    cache: CACHE = None,
) -> None:
    """The highest rate within the SLO, and the knee of latency over load."""
    from simulator.planner.capacity import capacity as run
    from simulator.planner.intervals import trust_of
    from simulator.scenario import Scenario

    with told():
        loaded = Scenario.load(scenario, set_ or [])
        made_folder(out, overwrite)
        with runs_of("loads", backend, address, workers, cache, quiet or as_json) as runs:
            found = run(loaded, tuple(range(seeds)), precision, runs)
        trust, rests_on = trust_of(loaded)
        if out is not None:
            found.curve.to_csv(out / "capacity.csv", index=False)
    if as_json:
        head = {
            "factor": found.factor,
            "rate_rps": found.rate_rps,
            "precision": found.precision,
            "knee_rps": found.knee_rps,
            "binds": found.binds,
            "bounded": found.bounded,
            "trust": trust,
            "rests_on": rests_on,
        }
        say_json(head | {"curve": found.curve.to_dict("records")})
        return
    typer.echo(str(found))
    shown = [
        "rate_rps",
        "meets",
        "attainment",
        "worst_window",
        "ttft_s_p99",
        "tpot_s_p99",
        "throughput_tok_s",
        "usd_per_1m_output_tokens_within_slo",
        "binds",
    ]
    say_table(found.curve[shown])
    typer.echo(f"trust: {trust}; {rests_on}")
