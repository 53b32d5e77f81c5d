"""The records of one simulation, and the folder that they are kept in."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from simulator.core.slo import SloConfig
from simulator.core.stamp import stamp
from simulator.errors import ServelabError, nearest
from simulator.records import metrics, objectives
from simulator.records.frames import COLUMNS, histogram, table
from simulator.records.tables import TABLES, State

FORMAT = 3  # of the files; raised when their shape changes


@dataclass(eq=False)
class RunRecords:
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
    ) -> Self:
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
        return cls(json.loads(json.dumps(dict(meta))), **frames, itl=histogram(itl_us, itl_count))

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
    def load(cls, folder: str | os.PathLike) -> Self:
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


def _arrow(name: str, frame: pd.DataFrame) -> Any:
    """An Arrow table whose fields carry unit and meaning."""
    import pyarrow as pa

    arrays = [pa.array(frame[c.name], type=pa.string() if c.dtype == "U" else None) for c in COLUMNS[name]]
    fields = [
        pa.field(c.name, a.type, metadata={"unit": c.unit, "meaning": c.meaning})
        for c, a in zip(COLUMNS[name], arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"servelab_table": name}))
