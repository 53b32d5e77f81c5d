"""What can be done to a table of requests: take rows, thin, rescale, resample in blocks (seeded)."""

from dataclasses import replace

import numpy as np

from simulator.errors import ServelabError
from simulator.workload.columns import COLUMNS
from simulator.workload.table import RequestTable

MAX_REQUESTS = 100_000_000  # what a block bootstrap may make: 2.4 GB of columns


def take(table: RequestTable, rows: np.ndarray) -> RequestTable:
    """These rows, in this order; a row may come more than once. Arrival times must then be set to rise.

    Raises ServelabError where rows depend on each other.
    """
    table.refuse_parts()
    count = np.diff(table.segment_start)[rows]
    start = np.concatenate(([0], np.cumsum(count)))
    place = np.arange(start[-1]) + np.repeat(table.segment_start[:-1][rows] - start[:-1], count)
    return RequestTable(
        **{name: getattr(table, name)[rows] for name in COLUMNS},
        segment_start=start,
        segment_stream=table.segment_stream[place],
        segment_tokens=table.segment_tokens[place],
        classes=table.classes,
        tenants=table.tenants,
    )


def thin(table: RequestTable, share: float, rng: np.random.Generator) -> RequestTable:
    """Each request kept with probability ``share``, independently; of a smaller share's rows, all are in a larger's."""
    return take(table, np.flatnonzero(rng.random(len(table)) < share))


def rescale(table: RequestTable, observed_s: float, rate_rps: float) -> RequestTable:
    """The same requests on a clock that gives this mean rate over the observed time [s]: bursts keep their form.

    Raises ServelabError when all arrive at 0 s.
    """
    table.refuse_parts()
    if observed_s <= 0:
        raise ServelabError(f"rate_rps {rate_rps}: all {len(table)} requests arrive at once, their rate has no scale")
    return replace(table, arrival_s=table.arrival_s * (len(table) / observed_s / rate_rps))


def bootstrap(
    table: RequestTable, observed_s: float, block_s: float, duration_s: float | None, rng: np.random.Generator
) -> RequestTable:
    """Whole blocks of ``block_s`` [s] of the observed time, drawn with replacement and laid end to end.

    The result lasts ``duration_s`` [s]; None: as long as the whole blocks of the trace. A rest shorter than a block is
    not drawn from. Prefixes met in one block only (a conversation) are new in each copy of it, so that a copy
    finds nothing of another in a cache; those met in several (a system prompt) stay the same.

    Raises ServelabError for a block longer than half of the trace, and for more than `MAX_REQUESTS` requests.
    """
    blocks = int(observed_s / block_s + 1e-9)
    if blocks < 2:
        raise ServelabError(
            f"bootstrap.block_s must be at most half of the {observed_s:.3f} s that the trace lasts, got {block_s}"
        )
    edges = np.searchsorted(table.arrival_s, np.arange(blocks + 1) * block_s)
    copies = blocks if duration_s is None else int(np.ceil(duration_s / block_s - 1e-9))
    expected = copies * (edges[-1] / blocks)
    if expected > MAX_REQUESTS:
        raise ServelabError(f"bootstrap: {expected:.3g} requests would result, at most {MAX_REQUESTS:.3g} can be held")
    drawn = rng.integers(0, blocks, copies)
    count = (edges[1:] - edges[:-1])[drawn]
    first = np.cumsum(count) - count
    copy = np.repeat(np.arange(copies), count)
    rows = np.arange(count.sum()) + np.repeat(edges[:-1][drawn] - first, count)
    out = take(table, rows)
    arrival_s = out.arrival_s + ((copy - drawn[copy]) * block_s)
    arrival_s = np.maximum.accumulate(np.maximum(arrival_s, 0.0))  # rounding at the seam of two blocks
    out = _own_prefixes(table, replace(out, arrival_s=arrival_s), edges, copy)
    if duration_s is not None:
        out = out.slice(0, int(np.searchsorted(arrival_s, duration_s)))
    return out


def _own_prefixes(table: RequestTable, out: RequestTable, edges: np.ndarray, copy: np.ndarray) -> RequestTable:
    """``out`` with new stream ids for the streams that only one block of ``table`` has, in each copy but its first."""
    if not len(out.segment_stream):
        return out
    block = np.searchsorted(edges, np.arange(len(table)), "right") - 1
    owner = np.repeat(block, np.diff(table.segment_start))
    names, index = np.unique(table.segment_stream, return_inverse=True)
    low, high = np.full(len(names), len(edges)), np.full(len(names), -1)
    np.minimum.at(low, index, owner)
    np.maximum.at(high, index, owner)
    place = np.searchsorted(names, out.segment_stream)
    copy_of = np.repeat(copy, np.diff(out.segment_start))
    local = (low == high)[place]
    earliest = np.full(len(names), len(copy) + 1)
    np.minimum.at(earliest, place, copy_of)
    again = np.flatnonzero(local & (copy_of > earliest[place]))
    _, new = np.unique(copy_of[again] * np.int64(len(names)) + place[again], return_inverse=True)
    stream = out.segment_stream.copy()
    stream[again] = names[-1] + 1 + new
    return replace(out, segment_stream=stream)
