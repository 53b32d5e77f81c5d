"""``servelab run``: simulate a scenario and judge it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import INTERRUPTED, MISSED_SLO, refused
from simulator.errors import ServelabError


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
        raise refused(problem) from None
    if any(r.partial for r in results):
        raise typer.Exit(INTERRUPTED)
    if fail_on_slo and not present.meets_slo(first):
        raise typer.Exit(MISSED_SLO)
