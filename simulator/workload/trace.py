"""Traces in and out: recorded requests as files.

azure      CSV of the Azure LLM inference traces: TIMESTAMP, ContextTokens, GeneratedTokens
servelab   CSV or Parquet with the columns of `RequestTable`: arrival_s, prompt_tokens, output_tokens and,
           optional, max_tokens, priority, prefix_segments (``stream:tokens;stream:tokens``)

Azure's clock times become seconds since the first request; our own are read as they stand. Nothing is
dropped: a row that cannot be used is an error that names it. Row 1 is the first after the header; requests are
counted from 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.errors import ServelabError, nearest
from simulator.workload.table import DTYPES, INT32_MAX, PREFIX, REQUIRED, RequestTable

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
SERVELAB = (*DTYPES, PREFIX)


def read_trace(path: Path, format: str = "auto") -> RequestTable:
    """The requests of a trace.

    Raises ServelabError, naming the file and the row or column, for: no file, no rows, a missing or unknown
    column, a time or a length that is not a number, lengths below 1, rows out of order.
    """
    frame = _read_frame(path)
    names = [str(c) for c in frame.columns]
    if format == "auto":
        format = _tell_format(path, names)
    required, known = (AZURE, AZURE) if format == "azure" else (REQUIRED, SERVELAB)
    for name in required:
        if name not in names:
            hint = nearest(name, set(names) - set(known))
            raise ServelabError(f"{path}: no column {name!r}{hint}; the file has {_list(names)}")
    for name in names:
        if name not in known:
            raise ServelabError(
                f"{path}: unknown column {name!r}{nearest(name, known)}; format {format!r} has {_list(known)}"
            )
    if frame.empty:
        raise ServelabError(f"{path}: the trace has no rows, expected at least 1")
    columns = _azure_columns(path, frame) if format == "azure" else _servelab_columns(path, frame)
    _check_order(path, columns["arrival_s"], frame[required[0]])
    try:
        if format == "servelab" and PREFIX in frame:
            text = pd.DataFrame({**columns, PREFIX: frame[PREFIX].to_numpy()})
            return RequestTable.from_frame(text)
        return RequestTable.from_columns(**columns)
    except ServelabError as error:
        raise ServelabError(f"{path}: {error}") from None


def write_trace(table: RequestTable, path: Path) -> Path:
    """Write ``table`` in our own format, CSV (``.csv``, ``.csv.gz``) or Parquet by the name of the file.

    Raises ServelabError for another ending and for a file that exists.
    """
    path = Path(path)
    if path.exists():
        raise ServelabError(f"{path} exists; choose another name or delete it")
    if path.suffix == ".parquet":
        table.to_frame().to_parquet(path, index=False)
    elif path.name.endswith((".csv", ".csv.gz")):
        table.to_frame().to_csv(path, index=False, lineterminator="\n")
    else:
        raise ServelabError(f"{path}: the name must end in .csv, .csv.gz or .parquet, got {path.suffix!r}")
    return path


def _read_frame(path: Path) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        here = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ServelabError(f"{path}: no such trace file{nearest(path.name, here)}")
    if path.stat().st_size == 0:
        raise ServelabError(f"{path}: the trace is empty (0 bytes)")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, low_memory=False)
    except pd.errors.EmptyDataError:
        raise ServelabError(f"{path}: the trace is empty (no header)") from None
    except (ValueError, OSError) as error:
        raise ServelabError(f"{path}: cannot be read as a trace: {error}") from None


def _tell_format(path: Path, names: list[str]) -> str:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise ServelabError(f"{path}: columns must be separated by commas, got the header {names[0]!r}")
    hits = {kind: sum(n in names for n in want) for kind, want in (("azure", AZURE), ("servelab", REQUIRED))}
    if hits["azure"] == hits["servelab"]:
        hits = {
            kind: sum(bool(nearest(n, names)) for n in want)
            for kind, want in (("azure", AZURE), ("servelab", REQUIRED))
        }
    if not any(hits.values()):
        raise ServelabError(
            f"{path}: not a known trace: format 'azure' has {_list(AZURE)}, 'servelab' has {_list(REQUIRED)}; "
            f"the file has {_list(names)}"
        )
    return "azure" if hits["azure"] > hits["servelab"] else "servelab"


def _azure_columns(path: Path, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    stamp = pd.to_datetime(frame["TIMESTAMP"], format="ISO8601", errors="coerce", utc=True)
    _refuse(path, frame, "TIMESTAMP", stamp.isna().to_numpy(), "a time such as 2023-11-16 18:15:46.68")
    return {
        "arrival_s": (stamp - stamp.iloc[0]).dt.total_seconds().to_numpy(),
        "prompt_tokens": _tokens(path, frame, "ContextTokens"),
        "output_tokens": _tokens(path, frame, "GeneratedTokens"),
    }


def _servelab_columns(path: Path, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    arrival_s = pd.to_numeric(frame["arrival_s"], errors="coerce").to_numpy(float)
    _refuse(path, frame, "arrival_s", ~np.isfinite(arrival_s), "a number of seconds")
    columns = {"arrival_s": arrival_s}
    for name in ("prompt_tokens", "output_tokens", "max_tokens", "priority"):
        if name in frame:
            columns[name] = _tokens(path, frame, name, least=None if name == "priority" else 1)
    return columns


def _tokens(path: Path, frame: pd.DataFrame, name: str, least: int | None = 1) -> np.ndarray:
    value = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
    bad = ~(np.abs(value) <= INT32_MAX) | (value != np.floor(value))
    _refuse(path, frame, name, bad, f"a whole number up to {INT32_MAX}")
    if least is not None:
        _refuse(path, frame, name, value < least, f"at least {least} token")
    return value.astype(np.int32)


def _refuse(path: Path, frame: pd.DataFrame, name: str, bad: np.ndarray, limit: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        value = frame[name].iloc[row]
        got = "nothing (NaN)" if pd.isna(value) else repr(value.item() if hasattr(value, "item") else value)
        more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
        raise ServelabError(f"{path}: row {row + 1}: {name} must be {limit}, got {got}{more}")


def _check_order(path: Path, arrival_s: np.ndarray, shown: pd.Series) -> None:
    late = np.flatnonzero(np.diff(arrival_s) < 0)
    if late.size:
        row = int(late[0]) + 1
        raise ServelabError(
            f"{path}: row {row + 1} is out of order: {shown.name} {shown.iloc[row]} comes before "
            f"{shown.iloc[row - 1]} of row {row}; sort the trace by arrival"
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(str, names)) or "no columns"
