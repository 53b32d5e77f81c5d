"""Raw rows of a campaign -> batches and load tests.

A folder holds ``plan.json``, ``engine.jsonl``, ``runs.jsonl``, ``requests.jsonl`` and ``steps-*.jsonl``, as
`calibration.oracle.vllm_worker` writes them; a torn last line is left out.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.measure.measured import STEP_COLUMNS, MeasuredRun
from calibration.oracle.client import UNIT_S
from simulator.errors import ServelabError

IDLE_S = 0.02  # a batch planned so long after the last one's outputs followed an idle engine


@dataclass(frozen=True)
class Campaign:
    """What one folder holds.

    steps: one row a batch: the columns of STEP_COLUMNS, ``seconds`` (from one batch's completion to the next one's, or
        from planning to completion after an idle engine), ``host_s`` (outputs handed back until the next batch was
        planned; NaN after an idle engine), ``idle``, ``run``, ``engine``.
    """

    folder: Path
    plan: dict[str, Any]
    engine: dict[str, Any]
    runs: pd.DataFrame
    steps: pd.DataFrame
    loads: tuple[MeasuredRun, ...]
    asynchronous: bool
    notes: tuple[str, ...] = ()


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a file, also gzipped. Raises ServelabError for a broken line that is not the last."""
    if not path.is_file():
        path = path.with_name(path.name + ".gz")
    if not path.is_file():
        return
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        broken = ""
        for number, line in enumerate(file, 1):
            if broken:
                raise ServelabError(broken)
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                broken = f"{path.name} line {number} is not JSON: {line[:80]!r}"
                continue
            if isinstance(row, dict):
                yield row


def read_campaign(folder: Path) -> Campaign:
    """The rows of a folder. Raises ServelabError where it holds no campaign, no rows, or rows of two engines."""
    plan = read_plan(folder)
    engines = list(lines(folder / "engine.jsonl"))
    if not engines:
        raise ServelabError(f"{str(folder)!r}: engine.jsonl is empty, no engine has started")
    told = {json.dumps([e["vllm"], e["engine"], e.get("gpu")], sort_keys=True) for e in engines}
    if len(told) > 1:
        raise ServelabError(
            f"{str(folder)!r}: engine.jsonl holds {len(told)} different engines: rows of one profile come from one"
        )
    runs = pd.DataFrame(r for r in lines(folder / "runs.jsonl") if "end" in r)
    if runs.empty:
        raise ServelabError(f"{str(folder)!r}: no run has ended")
    runs = runs.drop_duplicates("run", keep="last").reset_index(drop=True)
    steps, asynchronous = _steps(folder, runs)
    loads = tuple(_loads(folder, plan, runs, engines[-1]))
    failed = [r for r in lines(folder / "runs.jsonl") if "error" in r]
    notes = tuple(f"run {r['run']}: {r['error']}" for r in failed)
    return Campaign(folder, plan, engines[-1], runs, steps, loads, asynchronous, notes)


def read_plan(folder: Path) -> dict[str, Any]:
    """What was to be measured. Raises ServelabError where ``folder`` holds no plan."""
    for path in (folder / "plan.json", folder / "plan.json.gz"):
        if path.is_file():
            text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
            return json.loads(text)
    raise ServelabError(f"{str(folder)!r} holds no plan.json: it is no folder of `servelab calibrate`")


def _steps(folder: Path, runs: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """All batches that belong to a run, with their durations."""
    parts, asynchronous = [], False
    names = sorted({p.name.removesuffix(".gz") for p in folder.glob("steps-*.jsonl*")})
    for engine, name in enumerate(names):
        rows = []
        for row in lines(folder / name):
            if "t" in row:
                chunks = row["p"]
                tokens = sum(n for _, n in chunks)
                pairs = sum(n * (start + (n + 1) / 2) for start, n in chunks)
                past = sum(start + n for start, n in chunks)
                rows.append((*row["t"], tokens, len(chunks), pairs, past, row["d"], row["kv"], row["s"], row["x"]))
            asynchronous |= row.get("class") == "RecordingAsyncScheduler"
        frame = pd.DataFrame(rows, columns=["called", "planned", "done", *STEP_COLUMNS, "preempted"])
        frame["engine"] = engine
        before = frame["done"].shift(1)
        frame["idle"] = ~(frame["called"] - before < IDLE_S)
        frame["host_s"] = (frame["planned"] - before).where(~frame["idle"])
        if asynchronous:
            frame["host_s"] = frame["planned"] - frame["called"]
            frame["seconds"] = frame["done"] - before.where(~frame["idle"], frame["called"])
        else:
            frame["seconds"] = frame["done"] - before.where(~frame["idle"], frame["planned"])
        parts.append(frame)
    if not parts:
        return pd.DataFrame(columns=[*STEP_COLUMNS, "seconds", "host_s", "idle", "run"]), asynchronous
    steps = pd.concat(parts, ignore_index=True)
    began = runs.sort_values("began")
    at = np.searchsorted(began["began"].to_numpy(), steps["called"].to_numpy(), side="right") - 1
    inside = (at >= 0) & (steps["called"].to_numpy() <= began["end"].to_numpy()[at.clip(0)])
    steps["run"] = np.where(inside, began["run"].to_numpy()[at.clip(0)], "")
    return steps[inside].reset_index(drop=True), asynchronous


def _loads(folder: Path, plan: dict[str, Any], runs: pd.DataFrame, engine: dict[str, Any]) -> Iterator[MeasuredRun]:
    """The load tests; of a run that was tried twice, the last trial counts."""
    rows = pd.DataFrame(lines(folder / "requests.jsonl"))
    if rows.empty:
        return
    rows = rows.drop_duplicates(["run", "row"], keep="last")
    planned = {r["name"]: r for r in plan["runs"]}
    for run in runs["run"]:
        spec = planned.get(run)
        if spec is None or spec["kind"] != "load":
            continue
        part = rows[rows["run"] == run].sort_values("row")
        good = part["ttft"].notna() & (part["error"].isna() if "error" in part else True)
        kept = part[good]
        gaps = tuple(np.asarray(g, float) * UNIT_S for g in kept["itl"])
        asked = [spec["requests"][int(i)] for i in kept["row"]]
        table = pd.DataFrame(
            {
                "row": kept["row"].astype(int),
                "arrival_s": kept["sent"],
                "prompt_tokens": kept["prompt"].astype(int),
                "output_tokens": kept["output"].astype(int),
                "ttft_s": kept["ttft"],
                "e2el_s": kept["ttft"] + [g.sum() for g in gaps],
                "cached_tokens": kept["cached"].fillna(0).astype(int),
                "engine": kept["engine"].astype(int),
                "after": [r.get("after", -1) for r in asked],
                "wait_s": [r.get("wait", 0.0) for r in asked],
                "grow": [bool(r.get("grow")) for r in asked],
            }
        ).reset_index(drop=True)
        yield MeasuredRun(
            name=run,
            requests=table,
            itl_s=gaps,
            failed=int((~good).sum()),
            level=spec.get("share", float("nan")),
            engine=engine["engine"],
            source=f"vLLM {engine['vllm']}, {engine['date']}",
        )
