"""What ``servelab calibrate`` does: plan, measure with progress, fit, say what came of it."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from calibration.judge.report import verdict
from calibration.measure.http_client import Loads, measure, plan
from calibration.measure.measurements import lines
from calibration.measure.runner import interpreters, run_campaign, write_plan
from calibration.profiles.calibrate import calibrate_folder
from simulator.catalog import GpuSpec, find_gpu, find_model
from simulator.catalog.huggingface import read_config
from simulator.errors import ServelabError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LEAST_S = 60.0
BATCH_SHARE, LOAD_SHARE, LOADS = 0.4, 0.5, 9.5
DIED, STOPPED = 4, 130


def seconds(text: str) -> float:
    """A duration such as ``90s``, ``5m`` or ``1h`` [s]. Raises ServelabError for another form, or less than a minute.

    >>> seconds("5m")
    300.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found:
        raise ServelabError(f"--budget {text!r}: expected a number and s, m or h, such as 5m")
    out = float(found[1]) * SECONDS[found[2]]
    if out < LEAST_S:
        raise ServelabError(f"--budget {text!r}: {out:g} s is too short, at least {LEAST_S:g} s")
    return out


def key_values(pairs: list[str], option: str = "--engine-arg") -> dict[str, Any]:
    """Flags given as ``key=value``; values are JSON where they can be. Raises ServelabError for another form.

    >>> key_values(["max_num_seqs=64", "enforce-eager=true", "dtype=float32"])
    {'max_num_seqs': 64, 'enforce_eager': True, 'dtype': 'float32'}
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ServelabError(f"{option} {pair!r}: expected key=value")
        try:
            out[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            out[key.replace("-", "_")] = value
    return out


def cpu_spec() -> GpuSpec:
    """This machine's processors as the thing that computes. Rates are upper bounds of its vector units and caches,
    not measured."""
    cores = os.cpu_count() or 1
    name = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "CPU"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return GpuSpec(
        name=f"cpu-{cores}x-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}",
        memory_bytes=memory,
        gpus_per_node=1,
        memory_bandwidth_bytes_per_s=2e11 * cores,
        bf16_flops=2.5e11 * cores,
        source="upper bounds for a CPU core",
    )


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.is_file() else []


def gpu_of(folder: Path, said: str | None) -> str | GpuSpec:
    """The GPU that was measured: what the user said, what the driver called it, or this machine's CPU."""
    if said is not None:
        return find_gpu(said).name
    engine = list(lines(folder / "engine.jsonl"))
    driver = engine[-1].get("gpu") if engine else None
    if driver is None:
        return cpu_spec()
    short = re.sub(r"nvidia|geforce|\d+gb|hbm\d?e?|pcie|server edition|blackwell|workstation", "", driver.lower())
    for name in (driver, short.strip().replace(" ", "_"), short.split()[0] if short.split() else driver):
        try:
            return find_gpu(name).name
        except ServelabError:
            continue
    raise ServelabError(f"the driver calls the GPU {driver!r}, which is not in the catalog: name it with --gpu")


@dataclass(frozen=True)
class Asked:
    """What to measure and where the rows go; ``python`` runs vLLM, ``gpu`` is a catalog name, None: the driver's."""

    model: str
    out: Path
    name: str
    engine_args: list[str]
    budget_s: float
    loads: Loads
    python: Path | None = None
    gpu: str | None = None

    @property
    def model_path(self) -> str:
        """The model as the campaign's folder names it: the folder's own path, or the name."""
        folder = Path(self.model)
        return str(folder.resolve()) if folder.is_dir() else self.model


@dataclass(frozen=True)
class Server:
    """A running server: at most ``concurrency`` sequences, prompt and answer of at most ``longest`` tokens together."""

    url: str
    served: str
    concurrency: int = 16
    longest: int = 2048


def measure_and_fit(asked: Asked, server: Server | None, fit_only: bool) -> int:
    """See `calibration.commands.calibrate.calibrate`; returns the exit code."""
    said = Console(highlight=False, soft_wrap=True)
    code = 0
    if not fit_only:
        code = _measure(asked) if server is None else _measure_http(asked, server)
    if code:
        if code == STOPPED:
            said.print(f"stopped; what was measured is in {asked.out}, the same command goes on", markup=False)
            return STOPPED
        if code:
            said.print(f"the engine died (worker.log in {asked.out} says why); fitting what was measured", markup=False)
    done = calibrate_folder(asked.out, asked.name, gpu_of(asked.out, asked.gpu), _catalog_name(asked.model))
    said.print(
        f"{done.profile.name}: {done.fit.design.name}, held-out error of batches {done.fit.score:.1%}", markup=False
    )
    said.print(verdict(done.table), markup=False)
    for note in done.campaign.notes:
        said.print(f"note: {note}", markup=False)
    said.print(f"wrote {done.profile_file} and {done.report_file}", markup=False)
    return DIED if code else 0


def _catalog_name(model: str) -> str | None:
    """The catalog's name of a model; None for a folder, whose config.json is read."""
    if (Path(model) / "config.json").is_file():
        return None
    return find_model(model).name


def _measure(asked: Asked) -> int:
    python = asked.python or next((p for p in interpreters() if p.exists()), Path("python3"))
    loads = asked.loads
    load_s = LOAD_SHARE * asked.budget_s / LOADS
    plan = {
        "model": asked.model_path,
        "engine_args": key_values(asked.engine_args),
        "seed": loads.seed,
        "fit_s": BATCH_SHARE * asked.budget_s,
        "campaign": {"prompt": loads.prompt, "output": loads.output, "load_s": load_s, "seed": loads.seed},
    }
    write_plan(asked.out, plan)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting vLLM", total=1, left="")

        def told(done: int, all_: int, elapsed: float) -> None:
            left = f"about {max(0.0, asked.budget_s - elapsed):.0f} s left of the budget" if all_ else ""
            bar.update(
                task,
                completed=done,
                total=max(all_, 1),
                left=left,
                description="measuring" if all_ else "starting vLLM",
            )

        return run_campaign(asked.out, python, told)


def _measure_http(asked: Asked, server: Server) -> int:
    """Measure a running server; its flags are what the user says, for nothing tells them over HTTP."""
    folder, out = Path(asked.model), asked.out
    spec = read_config(folder) if (folder / "config.json").is_file() else find_model(asked.model)
    load_s = LOAD_SHARE * asked.budget_s / 7
    most = (server.concurrency, server.longest)
    planned = plan(server.served, server.url, *most, spec.vocab_size, load_s, asked.loads)
    flags = key_values(asked.engine_args)
    if not (out / "plan.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        (out / "plan.json").write_text(json.dumps(planned | {"model": asked.model_path, "served": server.served}))
        (out / "flags.json").write_text(json.dumps(flags))
    return measure(out)
