"""The price table, with rows of one's own."""

import datetime as dt
import math
from pathlib import Path
from typing import Any

import pandas as pd

from simulator.catalog import find_gpu, load_prices
from simulator.errors import ServelabError
from simulator.pricing.prices import COLUMN, PricesConfig

KEY = ["provider", "instance_type", "region"]
NEEDED = ["provider", "instance_type", "gpu", "gpu_count", "region", *COLUMN.values(), "as_of", "source"]


def price_list(own: list[dict[str, Any]] | None = None) -> pd.DataFrame:
    """The price table with rows of one's own in it: those of the same provider, instance_type and region are
    replaced."""
    table = load_prices()
    if not own:
        return table
    rows = pd.DataFrame(own)
    keys = [frame[KEY].fillna("").apply(tuple, axis=1) for frame in (table, rows)]
    return pd.concat([rows, table[~keys[0].isin(keys[1])]], ignore_index=True)


def own_rows(config: PricesConfig, folder: Path = Path()) -> list[dict[str, Any]]:
    """The rows of ``config.file``, a CSV relative to ``folder``, with catalog names of GPUs.

    Raises ServelabError for a missing file and missing columns, and with the line for another currency than USD (the
    unit column, where there is one, must say USD), a price that is negative or no number, a number of GPUs that is not
    whole and positive, a date that is not YYYY-MM-DD, an unknown GPU, and a provider or instance_type that is empty.
    """
    if config.file is None:
        return []
    path = folder / config.file
    try:
        own = pd.read_csv(path, dtype=str, skip_blank_lines=False).dropna(how="all").fillna("")
    except (OSError, ValueError) as problem:
        raise ServelabError(f"prices.file {str(path)!r} cannot be read: {problem}") from None
    if missing := [c for c in NEEDED if c not in own.columns]:
        raise ServelabError(f"prices.file {str(path)!r} lacks the columns {', '.join(missing)}")
    rows = []
    for line, row in zip(own.index + 2, own.to_dict("records"), strict=True):
        try:
            rows.append(_checked({str(k): str(v).strip() for k, v in row.items()}))
        except ServelabError as problem:
            raise ServelabError(f"prices.file {str(path)!r}, line {line}: {problem}") from None
    return rows


def _checked(row: dict[str, str]) -> dict[str, Any]:
    """A row of the file with numbers for what are numbers. Raises ServelabError for a value that cannot be."""
    for column in ("unit", "currency"):
        if not row.get(column, "USD").upper().startswith("USD"):
            raise ServelabError(
                f"{column} is {row[column]!r}; all prices are in USD, convert them and note the rate and its date "
                "in source"
            )
    for column in ("provider", "instance_type"):
        if not row[column]:
            raise ServelabError(f"{column} is empty")
    if not _is_date(row["as_of"]):
        raise ServelabError(f"as_of is {row['as_of']!r}, expected a date YYYY-MM-DD")
    out: dict[str, Any] = {c: row[c] for c in NEEDED} | {"region": row["region"] or None}
    for column in COLUMN.values():
        out[column] = _number(column, row[column]) if row[column] else None
    gpus = _number("gpu_count", row["gpu_count"])
    if gpus < 1 or gpus != int(gpus):
        raise ServelabError(f"gpu_count is {row['gpu_count']!r}, expected a whole number, at least 1")
    return out | {"gpu_count": int(gpus), "gpu": find_gpu(row["gpu"]).name}


def _number(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ServelabError(f"{column} is {text!r}, expected a number")
    if value < 0:
        raise ServelabError(f"{column} is {text!r}, expected a number that is not negative")
    return value


def _is_date(text: str) -> bool:
    """Whether it is written YYYY-MM-DD.

    >>> _is_date("2026-11-01"), _is_date("20261101"), _is_date("2026-02-30")
    (True, False, False)
    """
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
