"""``servelab export``: what `run --out` wrote as files that other tools read, and a scenario as what runs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.command.exits import BAD_INPUT
from simulator.errors import ServelabError, nearest

if TYPE_CHECKING:
    from simulator.scenario import Scenario

app = typer.Typer(
    no_args_is_help=True, help="Write a result as a file that other tools read, or a scenario as what runs it."
)

Folder = Annotated[Path, typer.Argument(help="folder that run --out wrote", metavar="RESULT")]
Overwrite = Annotated[bool, typer.Option(help="replace an existing file")]

ScenarioFile = Annotated[Path, typer.Argument(help="scenario file (YAML)", metavar="SCENARIO.yaml")]
DeploymentName = Annotated[str | None, typer.Option(help="name of the deployment, where there are several")]
ModelId = Annotated[str | None, typer.Option(help="Hugging Face id or path that vLLM is to load")]
Override = Annotated[list[str] | None, typer.Option("--set", help="override a field: path=value")]


def _chosen(scenario: "Scenario", name: str | None, several: bool) -> list[int]:
    """The deployment called ``name``; without a name all, or the only one."""
    names = [d.name for d in scenario.deployments]
    if name is None:
        if len(names) > 1 and not several:
            raise ServelabError(
                f"the scenario has {len(names)} deployments; choose one: --deployment {' | '.join(names)}"
            )
        return list(range(len(names)))
    if name not in names:
        raise ServelabError(f"--deployment {name!r}: expected one of {', '.join(names)}{nearest(name, names)}")
    return [names.index(name)]


@app.command()
def bench(
    result: Folder,
    file: Annotated[Path, typer.Argument(help="file to write (.json)")],
    percentiles: Annotated[str, typer.Option(help="as --metric-percentiles of vllm bench serve")] = "99",
    overwrite: Overwrite = False,
) -> None:
    """The JSON of vllm bench serve --save-result --save-detailed; needs a run with --steps full."""
    from simulator.export.vllm_bench import write_bench
    from simulator.results.result import Result

    try:
        try:
            wanted = [float(p) for p in percentiles.split(",")]
        except ValueError:
            raise ServelabError(f"--percentiles: expected numbers such as 50,99, got {percentiles!r}") from None
        write_bench(Result.load(result), file, overwrite=overwrite, percentiles=wanted)
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(f"wrote {file}")


@app.command()
def trace(
    result: Folder,
    file: Annotated[Path, typer.Argument(help="file to write (.json or .json.gz)")],
    max_requests: Annotated[int, typer.Option(min=0, help="show so many requests, the first ones")] = 10_000,
    overwrite: Overwrite = False,
) -> None:
    """Batches and requests for Perfetto or chrome://tracing; needs a run with --steps full or sampled."""
    from simulator.export.chrome_trace import write_trace_events
    from simulator.results.result import Result

    try:
        write_trace_events(Result.load(result), file, max_requests=max_requests, overwrite=overwrite)
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(f"wrote {file}")


@app.command()
def serve(
    scenario: ScenarioFile, deployment: DeploymentName = None, model_id: ModelId = None, set_: Override = None
) -> None:
    """Print the vllm serve command of one pod of a deployment."""
    from simulator.export.vllm_serve import serve_command
    from simulator.scenario import Scenario

    try:
        loaded = Scenario.load(scenario, set_ or [])
        (index,) = _chosen(loaded, deployment, several=False)
        text = serve_command(loaded.deployments[index], model_id)
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(text)


@app.command()
def kubernetes(
    scenario: ScenarioFile,
    out: Annotated[Path, typer.Option(help="folder for a file a deployment")],
    deployment: DeploymentName = None,
    model_id: ModelId = None,
    image: Annotated[str | None, typer.Option(help="container image; none: vLLM's own of that version")] = None,
    namespace: Annotated[str, typer.Option(help="namespace")] = "default",
    prometheus: Annotated[str | None, typer.Option(help="address of Prometheus, for KEDA")] = None,
    weights_claim: Annotated[
        str | None, typer.Option(help="PersistentVolumeClaim with the weights; none: pods download them")
    ] = None,
    set_: Override = None,
    overwrite: Overwrite = False,
) -> None:
    """Write Kubernetes manifests of the deployments, checked against schemas."""
    from simulator.export.kubernetes.manifests import DOWNLOADS, manifests, to_yaml
    from simulator.export.kubernetes.schemas import CUSTOM, FALLBACK
    from simulator.scenario import Scenario

    try:
        loaded = Scenario.load(scenario, set_ or [])
        files: dict[Path, list[dict[str, Any]]] = {}
        names: dict[Path, str] = {}
        for i in _chosen(loaded, deployment, several=True):
            made = manifests(
                loaded,
                i,
                image=image,
                model_id=model_id,
                namespace=namespace,
                prometheus=prometheus,
                weights_claim=weights_claim,
            )
            file, own = out / f"{made[0]['metadata']['name']}.yaml", loaded.deployments[i].name
            if file in files:
                raise ServelabError(
                    f"deployments {names[file]!r} and {own!r} would both be {file.stem!r} in Kubernetes; rename one"
                )
            files[file], names[file] = made, own
        if there := [f for f in files if f.exists() and not overwrite]:
            raise ServelabError(f"file {str(there[0])!r} exists already; name another folder, or add --overwrite")
        out.mkdir(parents=True, exist_ok=True)
        for file, made in files.items():
            about = f"Written by servelab from {scenario.name}. kubectl apply -f {file.name}"
            text = to_yaml(made)
            file.write_text(to_yaml(made, f"{about}\n{DOWNLOADS}" if "HF_TOKEN" in text else about))
            kinds = ", ".join(m["kind"] for m in made)
            typer.echo(f"wrote {file}: {kinds}, valid")
        if any(m["kind"] in CUSTOM for made in files.values() for m in made):
            typer.echo(f"note: {FALLBACK}")
    except ServelabError as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(BAD_INPUT) from None
