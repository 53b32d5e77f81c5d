"""``servelab fit-log``: a profile from the batches in vLLM's own log."""

from pathlib import Path
from typing import Annotated

import typer


def fit_log(
    log: Annotated[
        Path, typer.Argument(help="log of vLLM served with --enable-logging-iteration-details", metavar="LOG")
    ],
    model: Annotated[str, typer.Option(help="catalog name of the model, or a folder with its config.json")],
    gpu: Annotated[str, typer.Option(help="catalog name of the GPU")],
    out: Annotated[Path, typer.Option(help="profile to write (.json)")],
    version: Annotated[str, typer.Option(help="version of vLLM, such as 0.32")] = "0.32",
) -> None:
    """Fit a profile to the batches in vLLM's own log. It says which coefficients such a log cannot tell."""
    from rich.console import Console

    from calibration.profiles.build_profile import profile_of_log
    from simulator.catalog import find_gpu, find_model
    from simulator.errors import ServelabError

    try:
        profile, fit = profile_of_log(log, out.stem, find_gpu(gpu).name, find_model(model), version)
        out.write_text(profile.to_json())
    except ServelabError as problem:
        Console(stderr=True, soft_wrap=True).print(f"error: {problem}", markup=False)
        raise typer.Exit(2) from None
    said = Console(highlight=False, soft_wrap=True)
    said.print(f"{profile.provenance['batches']} batches, held-out error {fit.score:.1%}; wrote {out}", markup=False)
    said.print(f"note: {profile.provenance['notes'][0]}", markup=False)
