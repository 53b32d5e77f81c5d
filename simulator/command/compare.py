"""``servelab compare``: two designs under the same traffic."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import told
from simulator.command.options import JSON, OUT, OVERWRITE, QUIET, Backend, made_folder, runs_of, say_json, say_table


def compare(
    a: Annotated[Path, typer.Argument(help="scenario (YAML)", metavar="A.yaml")],
    b: Annotated[Path, typer.Argument(help="the other", metavar="B.yaml")],
    seeds: Annotated[int, typer.Option(min=1, help="seeds 0, 1, ... that both see")] = 4,
    out: OUT = None,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Two designs under the same traffic: differences with paired 95 % intervals."""
    from simulator.planner.compare import compare as run
    from simulator.scenario import Scenario

    with told():
        made_folder(out, overwrite)
        with runs_of("simulating", Backend.serial, None, None, None, quiet or as_json) as runs:
            frame, left, right = run(Scenario.load(a), Scenario.load(b), range(seeds), progress=runs.progress)
        if out is not None:
            frame.to_csv(out / "compare.csv", index=False)
    if as_json:
        say_json({"a": left[0].verdict(), "b": right[0].verdict(), "rows": frame.to_dict("records")})
        return
    typer.echo(f"A {a}: {left[0].verdict()}\nB {b}: {right[0].verdict()}")
    frame = frame[frame["a"].notna() & frame["stat"].isin(["mean", "p50", "p99", "total", "worst_window", "busy"])]
    say_table(frame[["metric", "stat", "a", "b", "difference", "low", "high", "relative", "differs", "unit"]])
