"""Result: the records of one simulation and what is asked of them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.core.slo import SloConfig
from simulator.core.stamp import stamp
from simulator.errors import ServelabError, nearest
from simulator.records import metrics
from simulator.records.metrics import Window
from simulator.records.tables import TABLES, Column, State
from simulator.results import objectives
from simulator.results.explain import Explanation, explain
from simulator.results.verdict import RunState, run_state
from simulator.results.waterfall import stage_table, waterfall

ITL = (
    Column("value_us", "i8", "us", "gap between two tokens of a request, rounded to a microsecond"),
    Column("count", "i8", "token", "how often it occurred"),
)
COLUMNS: dict[str, tuple[Column, ...]] = {**TABLES, "itl": ITL}
FORMAT = 3  # of the files; raised when their shape changes


def table(name: str, columns: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of the columns of table ``name``, in the contract's order and dtypes; arrays are not copied.

    Raises ServelabError for a missing or unknown column, or columns of different lengths.
    """
    wanted = COLUMNS[name]
    known = [c.name for c in wanted]
    for given in columns:
        if given not in known:
            raise ServelabError(f"table {name!r} has no column {given!r}{nearest(given, known)}")
    for c in known:
        if c not in columns:
            raise ServelabError(f"table {name!r} lacks the column {c!r}")
    arrays = {c.name: _typed(columns[c.name], c.dtype) for c in wanted}
    lengths = {key: len(values) for key, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ServelabError(f"columns of table {name!r} differ in length: {lengths}")
    return pd.DataFrame(arrays, copy=False)


def _typed(values: Any, dtype: str) -> Any:
    return pd.array(np.asarray(values, dtype=object), dtype="str") if dtype == "U" else np.asarray(values, dtype=dtype)


@dataclass(eq=False)
class Result:
    """Records of one simulation as frames, with the columns of :mod:`simulator.records.tables`.

    ``meta`` is plain JSON: scenario, seed, version, deployments (each: name, model, gpu, gpus_per_replica,
    step_time, trust, source, and of one GPU peak_flops [FLOP/s] and peak_bytes_per_s [B/s]), notes,
    partial, method, slo, prices. ``itl`` is the histogram of gaps between tokens (value_us, count).
    """

    meta: dict[str, Any]
    requests: pd.DataFrame
    steps: pd.DataFrame
    interruptions: pd.DataFrame
    timeline: pd.DataFrame
    instances: pd.DataFrame
    events: pd.DataFrame
    stages: pd.DataFrame
    starts: pd.DataFrame
    nodes: pd.DataFrame
    itl: pd.DataFrame

    @classmethod
    def from_columns(
        cls, meta: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], itl_us: Any = (), itl_count: Any = ()
    ) -> "Result":
        """A result from columns by table name; a table left out is empty. Arrays are not copied.

        ``itl_us`` [us] need not be sorted or distinct; values that never occurred are dropped.
        Raises ServelabError for an unknown table or column, TypeError when ``meta`` is not JSON.
        """
        for name in tables:
            if name not in TABLES:
                raise ServelabError(f"a result has no table {name!r}{nearest(name, TABLES)}")
        frames = {}
        for name, columns in TABLES.items():
            given = tables.get(name)
            frames[name] = table(name, given if given is not None else {c.name: () for c in columns})
        return cls(json.loads(json.dumps(dict(meta))), **frames, itl=_histogram(itl_us, itl_count))

    @property
    def slo_config(self) -> SloConfig:
        """The SLO of the scenario."""
        return SloConfig.model_validate(self.meta.get("slo") or {})

    @property
    def stamp(self) -> str:
        """Hash of the scenario, and the seed: what a chart of this run has in its corner."""
        return stamp(self.meta.get("scenario") or {}, self.meta.get("seed"))

    @property
    def partial(self) -> bool:
        """Whether the run was stopped before its end."""
        return bool(self.meta.get("partial", False))

    def counts(self) -> dict[str, int]:
        """Requests arrived and by how they ended; ``arrived`` is the sum of the others, always."""
        states = np.bincount(metrics.column(self.requests, "state"), minlength=len(State))
        found = {s.name.lower(): int(states[s]) for s in State if s or self.partial or states[s]}
        return {"arrived": len(self.requests), **found}

    def good(self) -> np.ndarray:
        """Which requests completed and met every limit of the SLO of their class."""
        return objectives.good(self.requests, self.meta)

    def breakdown(self, by: str = "traffic_class", window_s: float = 3600.0) -> pd.DataFrame:
        """Attainment and percentiles by class, tenant, deployment or window: see `objectives.breakdown`."""
        return objectives.breakdown(self.requests, self.meta, by, window_s)

    def explain(self, request_id: int) -> Explanation:
        """Where the time of one request went, and who was ahead of it: see `simulator.results.explain`."""
        return explain(self.requests, self.steps, self.interruptions, self.meta.get("steps") == "full", request_id)

    def waterfall(self, percentile: float = 50.0) -> pd.DataFrame:
        """Where the time of a request at ``percentile`` of E2EL goes: see
        :func:`simulator.results.waterfall.waterfall`."""
        return waterfall(self.requests, self.stages, self.meta, percentile)

    def stage_table(self) -> pd.DataFrame:
        """Queue, service and use of each stage: see :func:`simulator.results.waterfall.stage_table`."""
        return stage_table(self.stages, self.meta, metrics.duration_s(self.requests))

    def summary(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """Everything asked of a run, long: metric, stat, value, unit. Definitions: :mod:`simulator.records.metrics`.

        Trimming leaves out the first ``trim_warmup_s`` and the last ``trim_drain_s`` [s] of the run:
        latencies, counts and attainment are then of the requests that arrived in between, throughput and
        goodput of those that ended in between. The ITL histogram and the utilisation are of the whole run.
        """
        window = metrics.measured(self.requests, trim_warmup_s, trim_drain_s)
        rows = [
            *metrics.count_rows(self.requests, window, self.partial),
            *metrics.latency_rows(self.requests, window),
            *metrics.itl_rows(self.itl),
            *metrics.throughput_rows(self.requests, window),
            *self._slo_rows(window),
            *metrics.utilisation_rows(
                self.instances, self.meta.get("deployments") or [], metrics.duration_s(self.requests)
            ),
            *metrics.batch_rows(self.timeline, window),
            *metrics.cache_rows(self.requests, window),
        ]
        return metrics.to_frame(rows)

    def _slo_rows(self, window: Window) -> list[metrics.Row]:
        total = self._judge(window).iloc[-1]
        good = int(np.count_nonzero(self.good() & window.holds(metrics.column(self.requests, "end_s"))))
        goodput = good / window.length_s if window.length_s > 0 else float("nan")
        return [
            ("request_goodput", "mean", goodput, "request/s"),
            ("attainment", "mean", float(total["attainment"]), "ratio"),
            ("attainment", "worst_window", float(total["worst_window"]), "ratio"),
        ]

    def slo(self, trim_warmup_s: float = 0.0, trim_drain_s: float = 0.0) -> pd.DataFrame:
        """Each limit and all together (row ``all``) judged: see :func:`simulator.results.objectives.judged`."""
        return self._judge(metrics.measured(self.requests, trim_warmup_s, trim_drain_s))

    def _judge(self, window: Window) -> pd.DataFrame:
        return objectives.judged(self.requests, self.meta, window)

    def state(self) -> RunState:
        """Stable, backlogged or overloaded, and why: see :mod:`simulator.results.verdict`."""
        return run_state(self.requests)

    def verdict(self) -> str:
        """One sentence: ``meets SLO: yes|no, because ...``."""
        return objectives.verdict(self.requests, self.meta, self.slo(), self.state(), self.partial)

    def to_parquet(self, folder: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write one Parquet file a table, units and meanings in its schema's metadata, and ``meta.json``.

        Raises ServelabError, naming the folder, when it exists and ``overwrite`` is false. Overwriting
        replaces these files and leaves others in the folder alone. ``meta.json`` is written last.
        """
        import pyarrow.parquet as pq

        path = Path(folder)
        if path.exists() and not (overwrite and path.is_dir()):
            hint = "is not a folder" if not path.is_dir() else "exists already; name another, or overwrite it"
            raise ServelabError(f"output folder {str(path)!r} {hint}")
        path.mkdir(parents=True, exist_ok=True)
        (path / "meta.json").unlink(missing_ok=True)
        for name in COLUMNS:
            pq.write_table(_arrow(name, getattr(self, name)), path / f"{name}.parquet", compression="zstd")
        text = json.dumps({"format": FORMAT, "meta": self.meta}, indent=1, sort_keys=True)
        (path / "meta.json").write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Result":
        """Read what :meth:`to_parquet` wrote; identical to what was written.

        Raises ServelabError for a folder that is missing, incomplete or of another format.
        """
        import pyarrow.parquet as pq

        path = Path(folder)
        if not (path / "meta.json").is_file():
            what = (
                "has no meta.json: it is not a result, or writing it was cut off" if path.is_dir() else "does not exist"
            )
            raise ServelabError(f"result folder {str(path)!r} {what}")
        stored = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        if stored.get("format") != FORMAT:
            raise ServelabError(
                f"result folder {str(path)!r} has format {stored.get('format')!r}; this version reads {FORMAT}"
            )
        frames = {}
        for name in COLUMNS:
            file = path / f"{name}.parquet"
            if not file.is_file():
                raise ServelabError(f"result folder {str(path)!r} lacks {file.name}")
            read = pq.read_table(file)
            frames[name] = table(name, {c: read.column(c).to_numpy() for c in read.column_names})
        return cls(stored["meta"], **frames)


def _histogram(value_us: Any, count: Any) -> pd.DataFrame:
    value, number = np.asarray(value_us, dtype="i8"), np.asarray(count, dtype="i8")
    if value.shape != number.shape:
        raise ServelabError(f"itl_us has {value.size} values, itl_count {number.size}")
    distinct, place = np.unique(value[number > 0], return_inverse=True)
    total = np.zeros(distinct.size, dtype="i8")
    np.add.at(total, place, number[number > 0])
    return table("itl", {"value_us": distinct, "count": total})


def _arrow(name: str, frame: pd.DataFrame) -> Any:
    """An Arrow table whose fields carry unit and meaning."""
    import pyarrow as pa

    arrays = [pa.array(frame[c.name], type=pa.string() if c.dtype == "U" else None) for c in COLUMNS[name]]
    fields = [
        pa.field(c.name, a.type, metadata={"unit": c.unit, "meaning": c.meaning})
        for c, a in zip(COLUMNS[name], arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"servelab_table": name}))
