"""``servelab list``: what the catalog knows."""

import sys
from typing import Any

import typer

app = typer.Typer(no_args_is_help=True, help="Show what the catalog knows.")


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command("gpus")
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


@app.command("models")
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


@app.command("profiles")
def list_profiles() -> None:
    """Calibrated step times that ship, their largest error where it is known, and their age."""
    from simulator.catalog.profile import load_profiles
    from simulator.engine.step_time.profile import worst

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


@app.command("prices")
def list_prices() -> None:
    """Prices of GPU instances, with their dates."""
    from simulator.catalog import load_prices

    frame = load_prices().astype(object)
    rows = frame.where(frame.notna(), "").to_numpy().tolist()
    _table("Prices of GPU instances, USD/hour", list(frame.columns), rows)
