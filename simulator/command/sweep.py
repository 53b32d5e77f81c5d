"""``servelab sweep``: every combination of values of any fields."""

from typing import Annotated

import typer
import yaml

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
from simulator.errors import ServelabError


def sweep(
    scenario: SCENARIO,
    grid: Annotated[list[str], typer.Option("--grid", help="field=values, such as replicas=[1,2,4]; may be repeated")],
    seeds: Annotated[int, typer.Option(min=1, help="seeds 0, 1, ... for every combination")] = 1,
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
    """Simulate every combination of values of any fields: one table."""
    from simulator.planner.sweep import sweep as run
    from simulator.scenario import Scenario

    with told():
        wanted = {}
        for text in grid:
            name, sign, values = text.partition("=")
            found = yaml.safe_load(values) if sign else None
            if not isinstance(found, list):
                raise ServelabError(f"--grid {text!r}: expected field=[value, value], such as replicas=[1,2,4]")
            wanted[name] = found
        loaded = Scenario.load(scenario, set_ or [])
        made_folder(out, overwrite)
        with runs_of("sweep", backend, address, workers, cache, quiet or as_json) as runs:
            frame = run(loaded, wanted, range(seeds), runs)
        if out is not None:
            frame.to_csv(out / "sweep.csv", index=False)
            (out / "scenario.yaml").write_text(loaded.to_yaml(out))
    if as_json:
        say_json(frame.to_dict("records"))
        return
    shown = [
        *wanted,
        "seed",
        "meets",
        "attainment",
        "ttft_s_p99",
        "tpot_s_p99",
        "throughput_tok_s",
        "usd_per_hour",
        "usd_per_1m_output_tokens_within_slo",
        "binds",
        "error",
    ]
    say_table(frame[[c for c in shown if c in frame.columns and (c != "error" or frame["error"].any())]])
