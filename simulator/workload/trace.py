"""Traces in and out: recorded requests as files.

azure      CSV of the Azure LLM inference traces: TIMESTAMP, ContextTokens, GeneratedTokens
servelab   CSV or Parquet with the columns of `RequestTable`: arrival_s, prompt_tokens, output_tokens and,
           optional, max_tokens, priority, prefix_segments (``stream:tokens;stream:tokens``)
burstgpt, mooncake, vllm_bench, access_log: see `simulator.workload.formats`

Azure's clock times become seconds since the first request; our own are read as they stand. A row
that cannot be used is an error that names it, unless ``max_bad_share`` allows to leave it out. Row 1 is the first
after the header; requests are counted from 0. Any text may be packed with gzip.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError, nearest
from simulator.workload.columns import COLUMNS, NONE
from simulator.workload.files import check_file, open_trace, reading
from simulator.workload.formats import access_log, burstgpt, mooncake, vllm_bench
from simulator.workload.formats import config as formats
from simulator.workload.formats.access_log import LogColumns
from simulator.workload.frame import KNOWN, NAMED, PREFIX, REQUIRED
from simulator.workload.rows import RowCheck, check_order, need_columns
from simulator.workload.table import RequestTable

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
FORMATS = ("auto", *(f.name for f in formats.FORMATS))


def read_trace(
    path: Path, format: str = "auto", *, columns: LogColumns | None = None, max_bad_share: float = 0.0
) -> RequestTable:
    """The requests of a trace.

    ``max_bad_share`` is the share of rows that may be left out because they cannot be used (with a
    `TraceWarning` that counts and shows them); 0: the first is an error. ``columns`` says what an
    ``access_log`` calls its columns.

    Raises ServelabError, naming the file and the row or column, for: no file, no rows, more text than can be held,
    a missing or unknown column, a time or a length that is not a number, lengths below 1, rows out of order.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ServelabError(f"format {format!r}{nearest(format, FORMATS)}: expected one of {_list(FORMATS)}")
    if (columns is None) == (format == "access_log"):
        raise ServelabError(f"columns are for format 'access_log', which needs them; format is {format!r}")
    try:
        if columns is not None:
            return access_log.read(path, columns, max_bad_share)
        if format == "auto" and path.suffix != ".parquet":
            format = _tell_json(path)
        if format == "mooncake":
            return mooncake.read(path, max_bad_share)
        if format == "vllm_bench":
            return vllm_bench.read(path, max_bad_share)
        frame = _read_frame(path)
        names = [str(c) for c in frame.columns]
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            raise ServelabError(f"{path}: columns must be separated by commas, got the header {names[0]!r}")
        if format == "auto":
            format = _tell_format(path, names)
        if format == "burstgpt":
            _refuse_empty(path, frame)
            return burstgpt.read(path, frame, max_bad_share)
        return _read_plain(path, format, frame, names, max_bad_share)
    except ServelabError as error:
        text = str(error)
        raise error if text.startswith(str(path)) else ServelabError(f"{path}: {text}") from None


def _read_plain(path: Path, format: str, frame: pd.DataFrame, names: list[str], max_bad_share: float) -> RequestTable:
    required, known = (AZURE, AZURE) if format == "azure" else (REQUIRED, KNOWN)
    need_columns(path, names, required, lambda name: nearest(name, set(names) - set(known)))
    for name in names:
        if name not in known:
            raise ServelabError(
                f"{path}: unknown column {name!r}{nearest(name, known)}; format {format!r} has {_list(known)}"
            )
    _refuse_empty(path, frame)
    check = RowCheck(path, len(frame), max_bad_share)
    columns = (_azure_columns if format == "azure" else _servelab_columns)(check, frame)
    keep = check.finish()
    if format == "servelab":
        return _own(path, frame, columns, keep)
    kept: dict[str, Any] = {name: values[keep] for name, values in columns.items()}
    kept["arrival_s"] = kept["arrival_s"] - kept["arrival_s"][0]
    check_order(path, kept["arrival_s"], required[0], frame[required[0]], keep)
    return RequestTable.from_columns(**kept)


def _own(path: Path, frame: pd.DataFrame, columns: dict[str, np.ndarray], keep: np.ndarray) -> RequestTable:
    """Rows ``keep`` of a file in our own format, whose numbers are ``columns``."""
    free = columns["after"][keep] == NONE if "after" in columns else np.ones(len(keep), bool)
    check_order(path, columns["arrival_s"][keep][free], "arrival_s", frame["arrival_s"], keep[free])
    rest = [name for name in (*NAMED, PREFIX) if name in frame]
    table = RequestTable.from_frame(pd.DataFrame({**columns, **frame[rest]}).iloc[keep])
    if len(keep) < len(frame):
        table.refuse_parts()
    return table


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
    check_file(path)
    with reading(path):
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        try:
            with open_trace(path) as file:
                return pd.read_csv(file, low_memory=False)
        except pd.errors.EmptyDataError:
            raise ServelabError(f"{path}: the trace is empty (no header)") from None


def _refuse_empty(path: Path, frame: pd.DataFrame) -> None:
    if frame.empty:
        raise ServelabError(f"{path}: the trace has no rows, expected at least 1")


def _tell_json(path: Path) -> str:
    """``mooncake`` or ``vllm_bench`` for JSON, else ``auto``."""
    with reading(path), open_trace(path) as file:
        line = file.readline()
    if not line.lstrip().startswith(b"{"):
        return "auto"
    try:
        first = json.loads(line)
    except ValueError:  # spread over lines, or damaged
        return "mooncake" if ".jsonl" in path.name else "vllm_bench"
    if "timestamp" in first or "hash_ids" in first:
        return "mooncake"
    if set(first) & {*vllm_bench.ARRAYS, "num_prompts", "completed", "request_throughput"}:
        return "vllm_bench"
    raise ServelabError(
        f"{path}: not a known trace: lines of a mooncake trace have {_list(mooncake.REQUIRED)}, a result of vllm bench "
        f"{_list(vllm_bench.ARRAYS)}; the file has {_list(list(first))}; for a log give format 'access_log' and columns"
    )


def _tell_format(path: Path, names: list[str]) -> str:
    kinds = (("azure", AZURE), ("servelab", REQUIRED), ("burstgpt", burstgpt.REQUIRED))
    hits = {kind: sum(n in names for n in want) for kind, want in kinds}
    if hits["burstgpt"] > max(hits["azure"], hits["servelab"]):
        return "burstgpt"
    if hits["azure"] == hits["servelab"]:
        hits = {kind: sum(bool(nearest(n, names)) for n in want) for kind, want in kinds}
        if hits["burstgpt"] > max(hits["azure"], hits["servelab"]):
            return "burstgpt"
    if not any(hits.values()):
        raise ServelabError(
            f"{path}: not a known trace: format 'azure' has {_list(AZURE)}, 'servelab' has {_list(REQUIRED)}, "
            f"'burstgpt' has {_list(burstgpt.REQUIRED)}; the file has {_list(names)}; for a log give format "
            "'access_log' and columns"
        )
    return "azure" if hits["azure"] > hits["servelab"] else "servelab"


def _azure_columns(check: RowCheck, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    stamp = pd.to_datetime(frame["TIMESTAMP"], format="ISO8601", errors="coerce", utc=True)
    check.refuse("TIMESTAMP", frame["TIMESTAMP"], stamp.isna().to_numpy(), "a time such as 2023-11-16 18:15:46.68")
    return {
        "arrival_s": (stamp - stamp.min()).dt.total_seconds().to_numpy(),
        "prompt_tokens": check.tokens("ContextTokens", frame["ContextTokens"]),
        "output_tokens": check.tokens("GeneratedTokens", frame["GeneratedTokens"]),
    }


def _servelab_columns(check: RowCheck, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    columns = {}
    for name, (dtype, _) in COLUMNS.items():
        if name not in frame or name in NAMED or name == "arrival_s":
            continue
        if dtype is np.float64:
            columns[name] = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
            check.refuse(name, frame[name], ~(columns[name] >= 0), "at least 0 s")
        else:
            columns[name] = check.tokens(name, frame[name], least=1 if name.endswith("_tokens") else None)
    columns["arrival_s"] = pd.to_numeric(frame["arrival_s"], errors="coerce").to_numpy(float)
    unknown = ~np.isfinite(columns["arrival_s"])
    if "after" in columns:
        unknown &= columns["after"] == NONE
    check.refuse("arrival_s", frame["arrival_s"], unknown, "a number of seconds")
    return columns


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(str, names)) or "no columns"
