"""The command ``servelab``. Heavy imports wait until a command needs them."""

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.command import planning as planner_commands
from simulator.command.export import app as export_app
from simulator.command.fit_workload import fit_workload
from simulator.command.from_serve import from_serve
from simulator.errors import ServelabError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Simulate, calibrate and price an LLM deployment before buying the GPUs.",
)
list_app = typer.Typer(no_args_is_help=True, help="Show what the catalog knows.")
app.add_typer(list_app, name="list")
app.add_typer(export_app, name="export")
app.command("fit-workload")(fit_workload)
for _command in (planner_commands.plan, planner_commands.capacity, planner_commands.sweep, planner_commands.compare):
    app.command()(_command)
app.command("from-serve")(from_serve)
for _point in entry_points(group="servelab.commands"):
    _found = _point.load()
    if isinstance(_found, typer.Typer):
        app.add_typer(_found, name=_point.name)
    else:
        app.command(_point.name)(_found)

BAD_INPUT, MISSED_SLO, INTERRUPTED = 2, 3, 130


def _refuse(problem: Exception) -> typer.Exit:
    typer.echo(f"error: {problem}", err=True)
    return typer.Exit(BAD_INPUT)


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="scenario file (YAML)", metavar="SCENARIO.yaml")],
    seed: Annotated[int, typer.Option(min=0, help="seed of all random draws; replication i uses seed + i")] = 0,
    replications: Annotated[int, typer.Option(min=1, help="runs with different seeds")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="folder for the report (HTML) and the records (Parquet) of the first run")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="replace the result in the --out folder")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="override, such as deployments.0.replicas=4 (YAML)")
    ] = None,
    steps: Annotated[str, typer.Option(help="log of batches: off, sampled (one in 64) or full")] = "off",
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
    fail_on_slo: Annotated[bool, typer.Option(help="exit with 3 when the SLO is missed")] = False,
) -> None:
    """Simulate a scenario and judge it: verdict, latency, throughput, utilisation, cost."""
    from simulator.command import present
    from simulator.scenario import Scenario
    from simulator.simulation import simulate

    try:
        if steps not in ("off", "sampled", "full"):
            raise ServelabError(f"--steps: expected off, sampled or full, got {steps!r}")
        loaded = Scenario.load(scenario, set_ or [])
        if out is not None and out.exists() and not (overwrite and out.is_dir()):
            raise ServelabError(f"output folder {str(out)!r} exists already; name another, or add --overwrite")
        results = []
        with present.progress(not quiet and not as_json) as bar:
            for i in range(replications):
                bar.start(f"seed {seed + i}", loaded)
                results.append(simulate(loaded, seed + i, steps=steps, progress=bar))  # type: ignore[arg-type]
                if results[-1].partial:
                    break
        first = results[0]
        if out is not None:
            first.to_parquet(out, overwrite)
            (out / "scenario.yaml").write_text(loaded.to_yaml(out))
            from simulator.report import write_report  # charts take a second to load

            write_report(results, out / "report.html")
        if as_json:
            typer.echo(json.dumps(present.as_json(results), indent=1))
        else:
            present.show(results, out)
    except ServelabError as problem:
        raise _refuse(problem) from None
    if any(r.partial for r in results):
        raise typer.Exit(INTERRUPTED)
    if fail_on_slo and not present.meets_slo(first):
        raise typer.Exit(MISSED_SLO)


@app.command()
def explain(
    result: Annotated[Path, typer.Argument(help="folder that run --out wrote", metavar="RESULT")],
    request_id: Annotated[
        int | None, typer.Argument(help="request, as in requests.parquet; none: the figures of the run")
    ] = None,
) -> None:
    """Say what each figure of a run is made of; or where the time of one request went, and who was ahead of it."""
    from simulator.planner.sentences import sentences
    from simulator.results.result import Result

    try:
        loaded = Result.load(result)
        if request_id is not None:
            typer.echo(str(loaded.explain(request_id)))
        else:
            typer.echo("\n".join(s.text for s in sentences(loaded)))
    except ServelabError as problem:
        raise _refuse(problem) from None


@app.command("open")
def open_(
    scenario: Annotated[Path, typer.Argument(help="scenario file (YAML)", metavar="SCENARIO")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="override a field: path=value")] = None,
) -> None:
    """Print a scenario with its topology opened up: every stage, hop and pool of a preset, to be changed."""
    import yaml

    from simulator.scenario import Scenario

    try:
        loaded = Scenario.load(scenario, set_ or [])
        mapping, path = loaded.to_mapping(), loaded.opened_path()
    except ServelabError as problem:
        raise _refuse(problem) from None
    if path is not None:
        mapping["path"] = path.model_dump(mode="json", exclude_none=True)
    typer.echo(yaml.safe_dump(mapping, sort_keys=False), nl=False)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path("scenario.yaml"),
    overwrite: Annotated[bool, typer.Option(help="replace an existing file")] = False,
) -> None:
    """Write a commented scenario to start from."""
    from simulator.catalog import data_folder

    if path.exists() and not overwrite:
        raise _refuse(ServelabError(f"file {str(path)!r} exists already; name another, or add --overwrite"))
    path.write_text((data_folder() / "scenario.yaml").read_text())
    typer.echo(f"wrote {path}; run it with: servelab run {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a scenario, for editors."""
    from simulator.scenario import Scenario

    typer.echo(json.dumps(Scenario.model_json_schema(), indent=1))


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@list_app.command("gpus")
def list_gpus() -> None:
    """GPUs of the catalog."""
    from simulator.catalog import load_gpus

    rows = [
        [
            g.name,
            f"{g.memory_bytes / 2**30:.0f}",
            f"{g.memory_bandwidth_bytes_per_s / 1e12:.2f}",
            f"{g.bf16_flops / 1e12:.0f}",
            f"{g.fp8_flops / 1e12:.0f}" if g.fp8_flops else "",
            f"{g.tdp_w:.0f}",
        ]
        for g in load_gpus().values()
    ]
    _table("GPUs", ["name", "memory GiB", "bandwidth TB/s", "bf16 TFLOP/s", "fp8 TFLOP/s", "TDP W"], rows)


@list_app.command("models")
def list_models() -> None:
    """Models of the catalog."""
    from simulator.catalog import load_models

    rows = [
        [
            m.name,
            m.model_type,
            f"{m.parameters / 1e9:.1f}",
            f"{m.active_parameters / 1e9:.1f}",
            m.layers,
            m.max_position_embeddings,
        ]
        for m in load_models().values()
    ]
    _table("Models", ["name", "type", "parameters 1e9", "active 1e9", "layers", "max positions"], rows)


@list_app.command("profiles")
def list_profiles() -> None:
    """Calibrated step times that ship, their largest error where it is known, and their age."""
    from simulator.catalog.profile import load_profiles
    from simulator.engine.profiled import worst

    rows = [
        [
            p.name,
            p.gpu_spec().name,
            p.models and p.model_specs()[0].name,
            p.dtype,
            "/".join(map(str, p.tensor_parallel_size)),
            p.engine_version,
            p.trust,
            worst(p) or "unknown",
            "unknown" if (age := p.age_days()) is None else f"{age} days",
        ]
        for p in load_profiles().values()
    ]
    columns = ["name", "GPU", "model", "dtype", "TP", "vLLM", "trust", "largest held-out error", "age"]
    _table("Profiles", columns, rows)


@list_app.command("prices")
def list_prices() -> None:
    """Prices of GPU instances, with their dates."""
    from simulator.catalog import load_prices

    frame = load_prices().astype(object)
    rows = frame.where(frame.notna(), "").to_numpy().tolist()
    _table("Prices of GPU instances, USD/hour", list(frame.columns), rows)
