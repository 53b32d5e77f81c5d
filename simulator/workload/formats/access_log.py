"""When all you have is a gateway's access log: CSV or JSON lines, with the names of their columns given.

Requests are sorted by time, for logs are written as answers end; the first is at 0 s.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from simulator.errors import ServelabError, nearest
from simulator.workload.files import open_trace, reading
from simulator.workload.frame import NAMED
from simulator.workload.rows import RowCheck, need_columns
from simulator.workload.table import RequestTable

Name = Annotated[str, Field(min_length=1)]
UNIT_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
OFFSET = r"(?:Z|[+-]\d{2}:?\d{2})\s*$"


class LogColumns(BaseModel):
    """Where an access log has what a workload needs; in JSON lines a dot leads into an object
    (``usage.prompt_tokens``).

    time           when the request arrived: a date and time (ISO 8601 or ``time_format``), or a number
    request_id     tells rows that were logged twice (retries): an id seen before, or none, makes a row unusable
    tenant, traffic_class  who asked, and what kind of request it was
    time_unit      of a number: s, ms, us or ns since any moment
    time_format    of a text, as strptime has it (``%d/%b/%Y:%H:%M:%S %z``)
    timezone       of times without an offset (``Europe/Berlin``); null: they stand as they are, without clock changes
    delimiter      between columns of a CSV
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: Name
    prompt_tokens: Name
    output_tokens: Name
    max_tokens: Name | None = None
    priority: Name | None = None
    request_id: Name | None = None
    tenant: Name | None = None
    traffic_class: Name | None = None
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    time_format: Name | None = None
    timezone: Name | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ValueError, OSError, KeyError):
                from zoneinfo import available_timezones

                raise ValueError(f"unknown time zone {value!r}{nearest(value, available_timezones())}") from None
        return value

    @property
    def names(self) -> dict[str, str]:
        """Our columns -> theirs."""
        ours = ("prompt_tokens", "output_tokens", "max_tokens", "priority")
        return {name: getattr(self, name) for name in ours if getattr(self, name) is not None}

    @property
    def texts(self) -> dict[str, str]:
        """Our columns of names -> theirs."""
        ours = ("request_id", *NAMED)
        return {name: getattr(self, name) for name in ours if getattr(self, name) is not None}


def read(path: Path, columns: LogColumns, max_bad_share: float = 0.0) -> RequestTable:
    """The requests of a log. Raises ServelabError as `trace.read_trace` says."""
    frame, broken = _frame(path, columns)
    if frame.empty:
        raise ServelabError(f"{path}: the trace has no rows, expected at least 1")
    check = RowCheck(path, len(frame), max_bad_share)
    if broken:
        bad = np.isin(np.arange(len(frame)), list(broken))
        check.refuse("the line", [broken.get(i, "") for i in range(len(frame))], bad, "a JSON object")
    time_s = _seconds(check, frame[columns.time], columns)
    values = {
        ours: check.tokens(theirs, frame[theirs], least=None if ours == "priority" else 1)
        for ours, theirs in columns.names.items()
    }
    if "max_tokens" in values:
        short = values["max_tokens"] < values["output_tokens"]
        check.refuse(str(columns.max_tokens), frame[columns.max_tokens], short, f"at least {columns.output_tokens}")
    if columns.request_id is not None:
        _check_ids(check, columns.request_id, frame[columns.request_id])
    keep = check.finish()
    keep = keep[np.argsort(time_s[keep], kind="stable")]
    named: dict[str, Any] = {}
    for ours, names in NAMED.items():
        if ours in columns.texts:
            text = frame[columns.texts[ours]].astype("string").fillna("")
            place, found = pd.factorize(text.iloc[keep], sort=True)
            named |= {ours: place, names: tuple(map(str, found))}
    return RequestTable.from_columns(time_s[keep] - time_s[keep[0]], **{k: v[keep] for k, v in values.items()}, **named)


def _check_ids(check: RowCheck, name: str, column: pd.Series) -> None:
    """Rows without an id, and those whose id an earlier row had, cannot be used."""
    text = column.astype("string").str.strip()
    missing = (text.isna() | (text == "")).to_numpy(bool)
    check.refuse(name, column, missing, "an id")
    check.refuse(name, column, text.duplicated().to_numpy(bool) & ~missing, "an id of no earlier row")


def _seconds(check: RowCheck, column: pd.Series, config: LogColumns) -> np.ndarray:
    """Times [s since some moment]; rows without one are noted."""
    number = pd.to_numeric(column, errors="coerce")
    if config.time_format is None and (number.notna().any() or column.isna().all()):
        time_s = number.to_numpy(float) * UNIT_S[config.time_unit]
        check.refuse(config.time, column, ~np.isfinite(time_s), f"a number [{config.time_unit}]")
        return time_s
    text = column.astype("string").str.strip()
    form = config.time_format or "ISO8601"
    zoned = (text.str.contains(OFFSET, regex=True) & text.notna()).fillna(False).to_numpy(bool)
    limit = "a time such as 2023-11-16T18:15:46.68+00:00" if form == "ISO8601" else f"a time like {form}"
    if config.timezone is None and zoned.any() and not zoned.all():
        check.refuse(
            config.time, column, ~zoned & text.notna().to_numpy(bool), f"{limit} with an offset (or set timezone)"
        )
    time_s = np.full(len(text), np.nan)
    for rows in (np.flatnonzero(zoned), np.flatnonzero(~zoned)):
        if not len(rows):
            continue
        stamp = pd.to_datetime(text.iloc[rows].astype(object), format=form, errors="coerce", utc=bool(zoned[rows[0]]))
        if config.timezone is not None and not zoned[rows[0]]:
            stamp = stamp.dt.tz_localize(config.timezone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
        base = pd.Timestamp("2000-01-01", tz="UTC" if stamp.dt.tz is not None else None)
        time_s[rows] = (stamp - base).dt.total_seconds().to_numpy(float)
    zone = f", once in {config.timezone}" if config.timezone is not None else ""
    check.refuse(config.time, column, ~np.isfinite(time_s), limit + zone)
    return time_s


def _frame(path: Path, columns: LogColumns) -> tuple[pd.DataFrame, dict[int, str]]:
    """The columns asked for, as they stand in the file, and lines that could not be read."""
    wanted = [columns.time, *columns.names.values(), *columns.texts.values()]
    with reading(path):
        with open_trace(path) as file:
            start = file.peek(64)[:64].lstrip() if hasattr(file, "peek") else b""
            if start.startswith(b"{"):
                return _json_lines(path, file.read(), wanted)
            head = file.readline().decode("utf-8-sig", "replace").strip()
            names = [n.strip().strip('"') for n in head.split(columns.delimiter)]
            if len(names) == 1 and any(mark in head for mark in ",;\t|"):
                raise ServelabError(
                    f"{path}: columns must be separated by {columns.delimiter!r}, got the header {head!r}"
                )
            need_columns(path, names, wanted, lambda name: nearest(name, names))
        with open_trace(path) as file:
            return pd.read_csv(
                file,
                sep=columns.delimiter,
                usecols=list(dict.fromkeys(wanted)),
                skipinitialspace=True,
                encoding="utf-8-sig",
                low_memory=False,
            ), {}


def _json_lines(path: Path, data: bytes, wanted: list[str]) -> tuple[pd.DataFrame, dict[int, str]]:
    found: dict[str, list] = {name: [] for name in wanted}
    broken: dict[int, str] = {}
    seen: set[str] = set()
    row = 0
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            broken[row], record = line, {}
        if row < 100:
            seen |= set(_leaves(record))
        for name, values in found.items():
            value = record.get(name)
            if value is None:
                value = record
                for key in name.split("."):
                    value = value.get(key) if isinstance(value, dict) else None
            values.append(value)
        row += 1
    names = sorted(seen | {n for n, values in found.items() if any(v is not None for v in values)})
    need_columns(path, names, wanted, lambda name: nearest(name, names))
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in found.items()}), broken


def _leaves(record: dict, prefix: str = "") -> list[str]:
    out: list[str] = []
    for key, value in record.items():
        out += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return out
