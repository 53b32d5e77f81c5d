"""Starts a campaign in vLLM's own environment, follows it, and goes on after it was stopped."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from calibration.measure.measurements import lines
from calibration.oracle.client import done_runs
from simulator.errors import ServelabError

Told = Callable[[int, int, float], None]
POLL_S = 0.5
STOP_S = 20.0


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Begin a campaign in ``folder``, or go on with it. Raises ServelabError where it holds another one."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.json"
    if file.exists():
        old = json.loads(file.read_text())
        for key in ("model", "engine_args", "campaign", "seed"):
            if old.get(key) != plan.get(key):
                raise ServelabError(
                    f"{str(folder)!r} holds a campaign with {key}={old.get(key)!r}, this one has {plan.get(key)!r}; "
                    "name another folder"
                )
        return
    file.write_text(json.dumps(plan, indent=1))


def run_campaign(folder: Path, python: Path, told: Told, environment: dict[str, str] | None = None) -> int:
    """Run the worker until it ends; ``told(done, all, seconds)`` follows it. Returns its exit code, 130 after Ctrl-C.

    What it has measured stays in ``folder``. Raises ServelabError where ``python`` has no vLLM.
    """
    if not python.exists():
        raise ServelabError(f"--python {str(python)!r}: no such file; `make vllm-env` builds one for CPUs")
    root = str(Path(__file__).resolve().parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    env |= {"VLLM_LOGGING_LEVEL": "WARNING"} | (environment or {})
    log = folder / "worker.log"
    began = time.monotonic()
    with log.open("a") as out:
        worker = subprocess.Popen(
            [str(python), "-m", "calibration.oracle.vllm_worker", str(folder)],
            stdout=out,
            stderr=out,
            env=env,
            cwd=root,
            start_new_session=True,
        )
        try:
            while worker.poll() is None:
                told(*_done(folder), time.monotonic() - began)
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            _stop(worker)
            return 130
    told(*_done(folder), time.monotonic() - began)
    if worker.returncode and not any(lines(folder / "engine.jsonl")):
        raise ServelabError(f"vLLM did not start: {_why(log)} (all of it: {log})")
    return worker.returncode


def _stop(worker: "subprocess.Popen[Any]") -> None:
    """End the worker and the engine processes of its session."""
    for sent in (15, 9):
        try:
            os.killpg(worker.pid, sent)
        except ProcessLookupError:
            return
        try:
            worker.wait(STOP_S)
        except subprocess.TimeoutExpired:
            continue


def _done(folder: Path) -> tuple[int, int]:
    plan = json.loads((folder / "plan.json").read_text())
    return len(done_runs(folder)), len(plan.get("runs", ()))


def _why(log: Path) -> str:
    """The last line of a log that names an error."""
    text = log.read_text(errors="replace").splitlines()
    named = [line for line in text if "Error" in line or "error:" in line]
    return (named or text or ["no output"])[-1].strip()[:300]


def interpreters() -> Iterator[Path]:
    """Where a Python with vLLM may be: the project's own environment for it, then this one."""
    yield Path(".venv-vllm/bin/python")
    yield Path(sys.executable)
