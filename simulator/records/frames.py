"""The tables of a run as frames: columns in the contract's order and types, and the nearest one for a misspelt name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError, UnknownName, nearest
from simulator.records.tables import TABLES, Column

ITL = (
    Column("value_us", "i8", "us", "gap between two tokens of a request, rounded to a microsecond"),
    Column("count", "i8", "token", "how often it occurred"),
)
COLUMNS: dict[str, tuple[Column, ...]] = {**TABLES, "itl": ITL}


class Frame(pd.DataFrame):
    """A table of a run: a DataFrame that names the nearest column where one is misspelt. What is derived from it is a
    plain one."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __getitem__(self, key: Any) -> Any:
        try:
            return super().__getitem__(key)
        except KeyError:
            known = [str(c) for c in self.columns]
            for name in [key] if isinstance(key, str) else key if isinstance(key, list) else []:
                if isinstance(name, str) and name not in known:
                    raise UnknownName(f"no column {name!r}{nearest(name, known)}") from None
            raise


def table(name: str, columns: Mapping[str, Any]) -> Frame:
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
    return Frame(arrays, copy=False)


def _typed(values: Any, dtype: str) -> Any:
    return pd.array(np.asarray(values, dtype=object), dtype="str") if dtype == "U" else np.asarray(values, dtype=dtype)


def histogram(value_us: Any, count: Any) -> Frame:
    """The table ``itl`` of values [us], sorted and distinct, and how often each occurred."""
    value, number = np.asarray(value_us, dtype="i8"), np.asarray(count, dtype="i8")
    if value.shape != number.shape:
        raise ServelabError(f"itl_us has {value.size} values, itl_count {number.size}")
    distinct, place = np.unique(value[number > 0], return_inverse=True)
    total = np.zeros(distinct.size, dtype="i8")
    np.add.at(total, place, number[number > 0])
    return table("itl", {"value_us": distinct, "count": total})
