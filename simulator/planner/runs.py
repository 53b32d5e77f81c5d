"""Many evaluations: in parallel, on one machine or many, with progress, and kept on disk so that none is done twice.

A row is found again by a hash of the scenario, the seed, the version of servelab, its data files and the files that the
scenario reads. Rows are written as they come, so that an interrupted sweep resumes.
"""

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from simulator.catalog import data_folder
from simulator.errors import ServelabError
from simulator.planner.evaluate import evaluate, key

Job = tuple[dict[str, Any], str, int, bool]
Row = dict[str, Any]
Backend = Literal["serial", "local", "ray"]
FORMAT = 1


def quiet(done: int, all_: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class Runs:
    """Where evaluations run and are kept.

    backend   ``local``: processes of this machine (joblib), ``serial``: this process, ``ray``: a Ray cluster
    workers   processes; None: a core each
    address   of the Ray cluster; None: one is started here
    cache     folder for finished rows; None: they are not kept
    progress  called with rows done and rows in all
    """

    backend: Backend = "local"
    workers: int | None = None
    address: str | None = None
    cache: Path | None = None
    progress: Callable[[int, int], None] = quiet

    def rows(self, jobs: Sequence[Job]) -> list[Row]:
        """A row for each job, in order; the same whatever the backend.

        Raises ServelabError for a cache of another version and for a Ray address that does not answer.
        """
        store = Store(self.cache) if self.cache is not None else None
        names = [digest(j) for j in jobs] if store else [str(i) for i in range(len(jobs))]
        found: dict[str, Row] = {}
        if store:
            found = {n: row for n in names if (row := store.get(n)) is not None}
        todo = {n: j for n, j in zip(names, jobs, strict=True) if n not in found}
        self.progress(len(jobs) - len(todo), len(jobs))
        for name, row in self._computed(todo):
            found[name] = row
            if store:
                store.put(name, row)
            self.progress(len(jobs) - len(todo) + sum(n in found for n in todo), len(jobs))
        return [found[n] for n in names]

    def _computed(self, todo: dict[str, Job]) -> Iterator[tuple[str, Row]]:
        if self.backend == "serial" or (self.backend == "local" and len(todo) == 1):
            for name, job in todo.items():
                yield name, evaluate(*job)
        elif self.backend == "ray":
            yield from _on_ray(todo, self.address)
        elif todo:
            from joblib import Parallel, delayed

            work = Parallel(n_jobs=self.workers or -1, backend="loky", return_as="generator_unordered", batch_size=1)
            yield from work(delayed(_named)(name, job) for name, job in todo.items())


def _named(name: str, job: Job) -> tuple[str, Row]:
    return name, evaluate(*job)


def _on_ray(todo: dict[str, Job], address: str | None) -> Iterator[tuple[str, Row]]:
    """A task each on a Ray cluster, as they finish. (joblib's Ray backend hands rows back only when all are done.)"""
    try:
        import ray
    except ImportError:
        raise ServelabError("--backend ray needs Ray: pip install 'servelab[ray]'") from None
    if not ray.is_initialized():
        _answers(address)
        try:
            with _patience():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as problem:
            where = f"--address {address!r}" if address else "a local Ray cluster"
            raise ServelabError(f"{where} does not answer: {problem}") from None
    task = ray.remote(_named)
    left = [task.remote(name, job) for name, job in todo.items()]
    while left:
        done, left = ray.wait(left)
        yield from ray.get(done)


def _answers(address: str | None) -> None:
    """Raises ServelabError where nothing listens at ``host:port``: Ray itself goes on trying for a quarter of an
    hour."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as problem:
        raise ServelabError(f"--address {address!r} does not answer: {problem}") from None


@contextmanager
def _patience() -> Iterator[None]:
    """Ray tries for so long to reach a cluster [s] unless the user says otherwise."""
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    yield


def digest(job: Job) -> str:
    """Name of a job's row: a hash of all that it depends on."""
    mapping, folder, seed, hour = job
    text = key({"scenario": mapping, "seed": seed, "hour": hour, "files": _files(mapping, folder), "version": stamp()})
    return hashlib.sha256(text.encode()).hexdigest()


def _files(mapping: dict[str, Any], folder: str) -> dict[str, str]:
    """Hashes of the files that a scenario names: a trace, prices, profiles, models."""
    named = [mapping["workload"].get("path"), (mapping.get("prices") or {}).get("file")]
    for d in mapping["deployments"]:
        model = d["model"] if isinstance(d["model"], str) else ""
        named += [(d.get("step_time") or {}).get("name"), f"{model}/config.json" if model else None]
    out = {}
    for name in named:
        path = Path(folder) / name if name else None
        if path is not None and path.is_file():
            out[name] = _hash(path, path.stat().st_mtime_ns, path.stat().st_size)
    return out


@lru_cache(maxsize=1000)
def _hash(path: Path, changed_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache
def stamp() -> str:
    """Version of servelab and a hash of its code and data."""
    from simulator.simulation import _version

    seen = hashlib.sha256()
    code = Path(__file__).parents[1]
    for root, pattern in ((data_folder(), "**/*"), (code, "**/*.py")):
        for path in sorted(p for p in root.glob(pattern) if p.is_file()):
            seen.update(path.relative_to(root).as_posix().encode())
            seen.update(path.read_bytes())
    return f"{_version()}+{seen.hexdigest()[:16]}"


class Store:
    """Rows on disk, a file each. ``cache.json`` says which version wrote them.

    Raises ServelabError for a folder that another version wrote, or that is no cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mark = folder / "cache.json"
        mine = {"format": FORMAT, "version": stamp()}
        if folder.exists() and not folder.is_dir():
            raise ServelabError(f"cache {str(folder)!r} is a file; name a folder")
        if mark.is_file():
            try:
                said = json.loads(mark.read_text())
            except (json.JSONDecodeError, UnicodeDecodeError) as problem:
                raise ServelabError(
                    f"cache {str(folder)!r}: cache.json is damaged ({problem}); delete the folder"
                ) from None
            if said != mine:
                raise ServelabError(
                    f"cache {str(folder)!r} was written by servelab {said.get('version')}, this is {mine['version']}: "
                    "its rows could differ; name another folder, or delete this one"
                )
        elif folder.exists() and any(folder.iterdir()):
            raise ServelabError(f"cache {str(folder)!r} is a folder with other files in it; name another")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            mark.write_text(json.dumps(mine))

    def get(self, name: str) -> Row | None:
        """A row that is there."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def put(self, name: str, row: Row) -> None:
        """Keep a row; a killed process leaves none half written."""
        part = self.folder / f"{name}.{os.getpid()}.part"
        part.write_text(json.dumps(row))
        part.replace(self.folder / f"{name}.json")
