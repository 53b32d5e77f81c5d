"""``servelab plan``: the cheapest deployment that holds its SLO."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.command.exits import NOTHING_HOLDS, told
from simulator.command.options import (
    ADDRESS,
    BACKEND,
    CACHE,
    JSON,
    OUT,
    OVERWRITE,
    QUIET,
    SEED,
    SET,
    WORKERS,
    Backend,
    made_folder,
    runs_of,
    say_json,
    say_table,
)


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

    with told():
        asked, loaded = PlanFile.load(file, set_ or [])
        made_folder(out, overwrite)
        with runs_of("designs", backend, address, workers, cache, quiet or as_json) as runs:
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
        say_json(
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
        say_table(
            tried.drop(columns=[c for c in ("error", "margin") if c in tried]),
            "what was simulated, in the search world",
        )
        typer.echo(
            ", ".join(f"{n} {s}" for s, n in found.designs["status"].value_counts().items())
            + f"; {found.simulated} simulations"
        )
        if found.answers is not None:
            say_table(
                found.answers[["metric", "median", "low", "high", "unit"]],
                "the plan over its fresh worlds, 90 % intervals",
            )
        if out is not None:
            typer.echo(f"wrote {out}: decision.md, decision.html, designs.csv{', scenario.yaml' if found.best else ''}")
    if found.best is None:
        raise typer.Exit(NOTHING_HOLDS)
