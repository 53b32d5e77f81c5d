"""A `RequestTable` as a DataFrame and back: what our own trace files hold.

One row a request. Shared prefixes are text in the column ``prefix_segments``, ``stream:tokens;stream:tokens``; the
own stream of request 7 is called ``r7``. Classes and tenants stand by name. Columns that say nothing (no
classes, no sessions) are left out.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import ServelabError, nearest
from simulator.workload.columns import COLUMNS, OWN_STREAM

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
PREFIX = "prefix_segments"
KNOWN = (*COLUMNS, PREFIX)
NAMED = {"traffic_class": "classes", "tenant": "tenants"}


def to_frame(table: Any) -> pd.DataFrame:
    """The frame of a `RequestTable`."""
    frame = pd.DataFrame()
    for name, (_, default) in COLUMNS.items():
        values = getattr(table, name)
        if name in NAMED:
            names = getattr(table, NAMED[name])
            if names != ("",):
                frame[name] = np.array(names, dtype=object)[values]
        elif default is None or not (values == default).all():
            frame[name] = values
    if len(table.segment_stream):
        one = [
            f"r{s - OWN_STREAM}:{t}" if s >= OWN_STREAM else f"{s}:{t}"
            for s, t in zip(table.segment_stream.tolist(), table.segment_tokens.tolist(), strict=True)
        ]
        frame[PREFIX] = [";".join(one[a:b]) for a, b in pairwise(table.segment_start.tolist())]
    return frame


def columns_of(frame: pd.DataFrame) -> dict[str, Any]:
    """What `RequestTable.from_columns` takes, of a frame that `to_frame` wrote.

    Raises ServelabError for a missing or unknown column.
    """
    for name in REQUIRED:
        if name not in frame.columns:
            raise ServelabError(f"no column {name!r}{nearest(name, map(str, frame.columns))}")
    for name in frame.columns:
        if name not in KNOWN:
            raise ServelabError(f"unknown column {name!r}{nearest(str(name), KNOWN)}")
    columns: dict[str, Any] = {name: frame[name].to_numpy() for name in COLUMNS if name in frame and name not in NAMED}
    for name, names in NAMED.items():
        if name in frame:
            place, found = pd.factorize(frame[name].fillna("").astype(str))
            columns |= {name: place, names: tuple(found)}
    if PREFIX in frame:
        columns |= _parse_segments(frame[PREFIX])
    return columns


def _parse_segments(column: pd.Series) -> dict[str, np.ndarray]:
    text = column.fillna("").astype(str).tolist()
    counts, streams, tokens = np.zeros(len(text), np.int64), [], []
    for row, cell in enumerate(text):
        parts = cell.split(";") if cell else []
        counts[row] = len(parts)
        for part in parts:
            stream, colon, size = part.partition(":")
            own = stream.startswith("r")
            number = stream.removeprefix("r")
            if not (colon and number.isdecimal() and size.isdecimal()):
                raise ServelabError(
                    f"request {row}: {PREFIX} must look like '3:512;r7:64' (stream:tokens), got {cell!r}"
                )
            streams.append(int(number) + (OWN_STREAM if own else 0))
            tokens.append(int(size))
    start = np.concatenate(([0], np.cumsum(counts)))
    return {
        "segment_start": start,
        "segment_stream": np.array(streams, np.int64),
        "segment_tokens": np.array(tokens, np.int64),
    }
