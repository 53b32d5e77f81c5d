"""Rows that cannot be used: named, counted, left out up to a stated share, refused above it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.workload.columns import INT32_MAX

SHOWN = 3  # faults named when rows are left out


class TraceWarning(UserWarning):
    """Rows of a trace were left out; the message counts and shows them."""


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect what `TraceWarning`s inside say; other warnings pass on."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TraceWarning)
        yield said
    for warning in caught:
        if issubclass(warning.category, TraceWarning):
            said.append(str(warning.message))
        else:
            warnings.warn(warning.message, stacklevel=3)


class RowCheck:
    """Faults of the rows of one file. Row 1 is the first after a header.

    path           named in each message
    rows           rows of the file
    max_bad_share  share of them that may be left out; 0: the first fault is an error
    """

    def __init__(self, path: Path, rows: int, max_bad_share: float = 0.0) -> None:
        self.path, self.max_bad_share = path, max_bad_share
        self.bad = np.zeros(rows, bool)
        self._faults: list[str] = []

    def refuse(self, name: str, values: Any, bad: np.ndarray, limit: str) -> None:
        """Note the rows where ``bad`` (unless noted before). Raises ServelabError when none may be left out."""
        fresh = np.asarray(bad, bool) & ~self.bad
        count = int(fresh.sum())
        if not count:
            return
        row = int(np.argmax(fresh))
        fault = f"row {row + 1}: {name} must be {limit}, got {_shown(values, row)}"
        fault += f" (and {count - 1} more rows)" if count > 1 else ""
        if self.max_bad_share == 0:
            raise ServelabError(f"{self.path}: {fault}; max_bad_share allows to leave out such rows")
        self._faults.append(fault)
        self.bad |= fresh

    def tokens(self, name: str, values: Any, least: int | None = 1) -> np.ndarray:
        """The column as whole numbers; rows noted as bad hold 0."""
        value = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(float)
        bad = ~(np.abs(value) <= INT32_MAX) | (value != np.floor(value))
        self.refuse(name, values, bad, f"a whole number up to {INT32_MAX}")
        if least is not None:
            self.refuse(name, values, value < least, f"at least {least} token")
        return np.where(self.bad, 0, value).astype(np.int32)

    def finish(self) -> np.ndarray:
        """The rows to keep (their places, rising). Warns (`TraceWarning`) when some are left out.

        Raises ServelabError when their share is above ``max_bad_share``, or none is left.
        """
        count, rows = int(self.bad.sum()), len(self.bad)
        if count:
            more = f"; and {len(self._faults) - SHOWN} more kinds" if len(self._faults) > SHOWN else ""
            what = f"{count} of {rows} rows ({count / rows:.2%})"
            why = "; ".join(self._faults[:SHOWN]) + more
            if count > self.max_bad_share * rows:
                raise ServelabError(
                    f"{self.path}: {what} cannot be used, max_bad_share allows {self.max_bad_share:.2%}: {why}"
                )
            if count == rows:
                raise ServelabError(f"{self.path}: no row can be used: {why}")
            warnings.warn(f"{self.path}: {what} left out: {why}", TraceWarning, stacklevel=2)
        return np.flatnonzero(~self.bad)


def check_order(path: Path, arrival_s: np.ndarray, name: str, shown: Any, places: np.ndarray) -> None:
    """Raise ServelabError where a time comes before the one above it. ``places``: the rows in the file, from 0."""
    late = np.flatnonzero(np.diff(arrival_s) < 0)
    if late.size:
        k = int(late[0]) + 1
        row, before = int(places[k]), int(places[k - 1])
        raise ServelabError(
            f"{path}: row {row + 1} is out of order: {name} {_item(shown, row)} comes before "
            f"{_item(shown, before)} of row {before + 1}; sort the trace by arrival"
        )


def need_columns(path: Path, names: Sequence[str], required: Sequence[str], hint) -> None:
    """Raise ServelabError for the first of ``required`` that the file does not have; ``hint`` names the nearest."""
    for name in required:
        if name not in names:
            listed = ", ".join(map(str, names)) or "no columns"
            raise ServelabError(f"{path}: no column {name!r}{hint(name)}; the file has {listed}")


def _item(values: Any, row: int) -> Any:
    value = values.iloc[row] if isinstance(values, pd.Series) else values[row]
    return value.item() if hasattr(value, "item") else value


def _shown(values: Any, row: int) -> str:
    value = _item(values, row)
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return "nothing (NaN)"
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
