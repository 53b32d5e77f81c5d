"""The price table, with rows of one's own."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from simulator.catalog import find_gpu, load_prices
from simulator.cost.prices import COLUMN, PricesConfig
from simulator.errors import ServelabError


def price_list(own: list[dict[str, Any]] | None = None) -> pd.DataFrame:
    """The price table with rows of one's own in it: those of the same provider, instance_type and region are replaced."""
    table = load_prices()
    if not own:
        return table
    rows = pd.DataFrame(own)
    key = ["provider", "instance_type", "region"]
    kept = table[~table[key].apply(tuple, axis=1).isin(rows[key].apply(tuple, axis=1))]
    return pd.concat([rows, kept], ignore_index=True)


def own_rows(config: PricesConfig, folder: Path = Path()) -> list[dict[str, Any]]:
    """The rows of ``config.file``, a CSV relative to ``folder``, with catalog names of GPUs.

    Raises ServelabError for a missing file, missing columns, a price that is no number, and for another currency than
    USD: the unit column, where there is one, must say USD.
    """
    if config.file is None:
        return []
    path = folder / config.file
    needed = ["provider", "instance_type", "gpu", "gpu_count", "region", *COLUMN.values(), "as_of", "source"]
    try:
        own = pd.read_csv(path)
    except (OSError, ValueError) as problem:
        raise ServelabError(f"prices.file {str(path)!r} cannot be read: {problem}") from None
    if missing := [c for c in needed if c not in own.columns]:
        raise ServelabError(f"prices.file {str(path)!r} lacks the columns {', '.join(missing)}")
    for column in ("unit", "currency"):
        if column in own.columns:
            foreign = own[~own[column].astype(str).str.upper().str.startswith("USD")]
            if len(foreign):
                row = foreign.iloc[0]
                raise ServelabError(
                    f"prices.file {str(path)!r}, line {foreign.index[0] + 2}: {column} is {row[column]!r}; all prices are in USD, "
                    "convert them and note the rate and its date in source"
                )
    for column in (*COLUMN.values(), "gpu_count"):
        bad = own[pd.to_numeric(own[column], errors="coerce").isna() & own[column].notna()]
        if len(bad):
            raise ServelabError(
                f"prices.file {str(path)!r}, line {bad.index[0] + 2}: {column} is {bad.iloc[0][column]!r}, expected a number"
            )
    own["gpu"] = [find_gpu(str(g)).name for g in own["gpu"]]
    return json.loads(own[needed].to_json(orient="records"))
