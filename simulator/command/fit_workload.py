"""``servelab fit-workload``: a generator for a trace or for what another tool describes."""

import datetime as dt
import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from simulator.command.exits import BAD_INPUT
from simulator.errors import ServelabError


class Format(StrEnum):
    auto = "auto"
    azure = "azure"
    servelab = "servelab"
    burstgpt = "burstgpt"
    mooncake = "mooncake"
    vllm_bench = "vllm_bench"
    access_log = "access_log"
    inference_perf = "inference_perf"
    guidellm = "guidellm"
    prometheus = "prometheus"


DESCRIPTIONS = (Format.inference_perf, Format.guidellm, Format.prometheus)


def fit_workload(
    file: Annotated[Path, typer.Argument(help="a trace, or the description of a workload", metavar="FILE")],
    format: Annotated[Format, typer.Option(help="what the file is; auto tells traces by their columns")] = Format.auto,
    columns: Annotated[
        str | None,
        typer.Option(
            help="of an access_log: what it calls them, as YAML: '{time: ts, prompt_tokens: in, output_tokens: out}'"
        ),
    ] = None,
    max_bad_share: Annotated[float, typer.Option(min=0, max=1, help="share of rows that may be left out")] = 0.0,
    duration_s: Annotated[float | None, typer.Option(help="seconds that were watched; needed for prometheus")] = None,
    earlier: Annotated[Path | None, typer.Option(help="prometheus: the scrape before")] = None,
    out: Annotated[Path | None, typer.Option(help="write the workload as YAML")] = None,
    report: Annotated[Path | None, typer.Option(help="write pictures of the fit (.html, .png, .svg)")] = None,
    overwrite: Annotated[bool, typer.Option(help="replace existing files")] = False,
    seed: Annotated[int, typer.Option(min=0, help="of the sample that is compared with the trace")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print workload, quality and notes as JSON")] = False,
) -> None:
    """Give a generator for a trace, and show how well it fits; or map what another tool describes."""
    try:
        for path in (out, report):
            if path is not None and path.exists() and not overwrite:
                raise ServelabError(f"{str(path)!r} exists already; name another, or add --overwrite")
        if format in DESCRIPTIONS:
            mapping, notes = _described(file, format, earlier, duration_s)
            quality = None
        else:
            mapping, notes, quality = _fitted(file, format.value, columns, max_bad_share, duration_s, seed, report)
        text = _yaml(file, mapping, notes)
        if out is not None:
            out.write_text(text, encoding="utf-8")
        if as_json:
            rows = None if quality is None else json.loads(quality.to_json(orient="records"))
            typer.echo(json.dumps({"workload": mapping, "quality": rows, "notes": notes}, indent=1))
            return
        if quality is not None:
            _show(quality)
        for note in notes:
            typer.echo(f"note: {note}")
        typer.echo(f"wrote {out}" if out is not None else f"\n{text}")
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None


def _described(
    file: Path, format: Format, earlier: Path | None, duration_s: float | None
) -> tuple[dict[str, Any], list[str]]:
    from simulator.workload.descriptions import guidellm, inference_perf, prometheus

    if format is Format.prometheus:
        found = prometheus.read(file, earlier, duration_s)
    else:
        found = (guidellm if format is Format.guidellm else inference_perf).read(file)
    return found.mapping, list(found.notes)


def _fitted(
    file: Path,
    format: str,
    columns: str | None,
    max_bad_share: float,
    duration_s: float | None,
    seed: int,
    report: Path | None,
) -> tuple[dict[str, Any], list[str], Any]:
    from pydantic import ValidationError

    from simulator.workload import LogColumns, read_trace
    from simulator.workload.fitting import fit_workload as fit
    from simulator.workload.rows import noted

    try:
        names = LogColumns.model_validate(yaml.safe_load(columns)) if columns is not None else None
    except (ValidationError, yaml.YAMLError) as problem:
        raise ServelabError(f"--columns: {problem}") from None
    with noted() as said:
        table = read_trace(file, format, columns=names, max_bad_share=max_bad_share)
    found = fit(table, name=file.name.partition(".")[0], seed=seed, observed_s=duration_s)
    if report is not None:
        from simulator.charts.theme import save
        from simulator.charts.workload import fit_sheet

        save(fit_sheet(table, found.sample), report)
    return found.mapping, [*said, *found.notes], found.quality


def _yaml(file: Path, mapping: dict[str, Any], notes: list[str]) -> str:
    head = [f"# Made from {file.name} on {dt.date.today()} by servelab fit-workload.", *(f"# {note}" for note in notes)]
    return "\n".join(head) + "\n" + yaml.safe_dump({"workload": mapping}, sort_keys=False, default_flow_style=None)


def _show(quality: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, side in (
        ("measure", "left"),
        ("trace", "right"),
        ("generator", "right"),
        ("difference", "right"),
        ("unit", "left"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for row in quality.to_dict("records"):
        cells = [
            f"{row[name]:{form}}" if math.isfinite(row[name]) else ""
            for name, form in (("trace", ",.4g"), ("generator", ",.4g"), ("difference", "+.1%"))
        ]
        table.add_row(row["measure"], *cells, row["unit"])
    Console(width=140, highlight=False).print(table)
