"""``servelab plan``, ``capacity``, ``sweep`` and ``compare``."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from simulator.errors import ServelabError

BAD_INPUT, NOTHING_HOLDS, INTERRUPTED = 2, 3, 130


class Backend(StrEnum):
    local = "local"
    serial = "serial"
    ray = "ray"


SCENARIO = Annotated[Path, typer.Argument(help="scenario file (YAML)", metavar="SCENARIO.yaml")]
SET = Annotated[list[str] | None, typer.Option("--set", help="override a field of the scenario: path=value")]
OUT = Annotated[Path | None, typer.Option(help="folder for the tables and records")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON")]
QUIET = Annotated[bool, typer.Option(help="no progress")]
OVERWRITE = Annotated[bool, typer.Option(help="write into a folder that is there")]
BACKEND = Annotated[Backend, typer.Option(help="where to simulate: processes of this machine, this process, or Ray")]
ADDRESS = Annotated[str | None, typer.Option(help="of a Ray cluster; none: start one here")]
WORKERS = Annotated[int | None, typer.Option(min=1, help="processes; none: a core each")]
CACHE = Annotated[Path | None, typer.Option(help="folder that keeps finished runs: an interrupted command resumes")]
SEED = Annotated[int, typer.Option(min=0, help="of all random draws")]


@contextmanager
def _told() -> Iterator[None]:
    """Errors as one line, Ctrl-C as what it is."""
    try:
        yield
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; with --cache FOLDER the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _runs(
    what: str, backend: Backend, address: str | None, workers: int | None, cache: Path | None, quiet: bool
) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from simulator.planner.runs import Runs

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(what, total=None)
        yield Runs(
            backend.value, workers, address, cache, lambda done, all_: bar.update(task, completed=done, total=all_)
        )


def _folder(out: Path | None, overwrite: bool) -> None:
    if out is not None and out.exists() and not (overwrite and out.is_dir()):
        raise ServelabError(f"output folder {str(out)!r} exists already; name another, or add --overwrite")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)


def _plain(value: Any) -> Any:
    """JSON without NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _say_json(value: Any) -> None:
    typer.echo(json.dumps(_plain(value), indent=1, default=lambda x: x.item()))


def _table(frame: Any, title: str = "") -> None:
    from rich.console import Console
    from rich.table import Table

    from simulator.records.metrics import rows_of

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name in frame.columns:
        table.add_column(str(name).replace("_", " "), overflow="fold")
    for row in rows_of(frame):
        table.add_row(*(_cell(v) for v in row))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


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

    with _told():
        wanted = {}
        for text in grid:
            name, sign, values = text.partition("=")
            found = yaml.safe_load(values) if sign else None
            if not isinstance(found, list):
                raise ServelabError(f"--grid {text!r}: expected field=[value, value], such as replicas=[1,2,4]")
            wanted[name] = found
        loaded = Scenario.load(scenario, set_ or [])
        _folder(out, overwrite)
        with _runs("sweep", backend, address, workers, cache, quiet or as_json) as runs:
            frame = run(loaded, wanted, range(seeds), runs)
        if out is not None:
            frame.to_csv(out / "sweep.csv", index=False)
            (out / "scenario.yaml").write_text(loaded.to_yaml(out))
    if as_json:
        _say_json(frame.to_dict("records"))
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
    _table(frame[[c for c in shown if c in frame.columns and (c != "error" or frame["error"].any())]])


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

    with _told():
        loaded = Scenario.load(scenario, set_ or [])
        _folder(out, overwrite)
        with _runs("loads", backend, address, workers, cache, quiet or as_json) as runs:
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
        _say_json(head | {"curve": found.curve.to_dict("records")})
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
    _table(found.curve[shown])
    typer.echo(f"trust: {trust}; {rests_on}")


def plan(
    file: Annotated[Path, typer.Argument(help="planning question (YAML), see examples/plan.yaml", metavar="PLAN.yaml")],
    seed: SEED = 0,
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
    """The cheapest deployment that holds its SLO with the stated probability. Exit code 3: none does."""
    from simulator.export.decision import as_html, as_markdown, headline
    from simulator.planner.designs import why_not
    from simulator.planner.plan import plan as run
    from simulator.planner.plan_file import PlanFile

    with _told():
        asked, loaded = PlanFile.load(file, set_ or [])
        _folder(out, overwrite)
        with _runs("designs", backend, address, workers, cache, quiet or as_json) as runs:
            found = run(loaded, asked.choices, asked.claim, asked.uncertainty, seed, runs)
        if out is not None:
            found.designs.to_csv(out / "designs.csv", index=False)
            text = as_markdown(found, asked, loaded)
            (out / "decision.md").write_text(text)
            (out / "decision.html").write_text(as_html(text))
            if found.best is not None:
                (out / "scenario.yaml").write_text(found.best.scenario.to_yaml(out))
    if as_json:
        best = found.best
        _say_json(
            {
                "best": None if best is None else best.fields,
                "usd_per_hour": best.usd_per_hour if best else None,
                "holds": best.held if best else 0,
                "worlds": len(best.proof) if best else 0,
                "at_least": found.bound,
                "claim": found.claim.model_dump(),
                "simulated": found.simulated,
                "trust": found.trust,
                "rests_on": found.rests_on,
                "next_cheaper": found.cheaper and {"fields": found.cheaper.fields, "why_not": why_not(found.cheaper)},
                "closest": found.closest and {"fields": found.closest.fields, "why_not": why_not(found.closest)},
                "answers": [] if found.answers is None else found.answers.to_dict("records"),
                "designs": found.designs.to_dict("records"),
            }
        )
    else:
        for line in headline(found):
            typer.echo(line)
        tried = found.designs[~found.designs["status"].isin(["dearer", "not tried", "screened out", "cannot run"])]
        _table(
            tried.drop(columns=[c for c in ("error", "margin") if c in tried]),
            "what was simulated, in the search world",
        )
        typer.echo(
            ", ".join(f"{n} {s}" for s, n in found.designs["status"].value_counts().items())
            + f"; {found.simulated} simulations"
        )
        if found.answers is not None:
            _table(
                found.answers[["metric", "median", "low", "high", "unit"]],
                "the plan over its fresh worlds, 90 % intervals",
            )
        if out is not None:
            typer.echo(f"wrote {out}: decision.md, decision.html, designs.csv{', scenario.yaml' if found.best else ''}")
    if found.best is None:
        raise typer.Exit(NOTHING_HOLDS)


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

    with _told():
        _folder(out, overwrite)
        with _runs("simulating", Backend.serial, None, None, None, quiet or as_json) as runs:
            frame, left, right = run(Scenario.load(a), Scenario.load(b), range(seeds), progress=runs.progress)
        if out is not None:
            frame.to_csv(out / "compare.csv", index=False)
    if as_json:
        _say_json({"a": left[0].verdict(), "b": right[0].verdict(), "rows": frame.to_dict("records")})
        return
    typer.echo(f"A {a}: {left[0].verdict()}\nB {b}: {right[0].verdict()}")
    frame = frame[frame["a"].notna() & frame["stat"].isin(["mean", "p50", "p99", "total", "worst_window", "busy"])]
    _table(frame[["metric", "stat", "a", "b", "difference", "low", "high", "relative", "differs", "unit"]])
