"""For Mooncake traces (kvcache-ai/Mooncake), which say what prompts share: JSON lines of timestamp [ms], input_length,
output_length, hash_ids.

There is a hash id for each block of 512 prompt tokens, the last one partial; an id stands for the block and
all before it, so equal ids are shared prefixes. Each block becomes a segment.
"""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from simulator.errors import ServelabError, nearest
from simulator.workload.files import open_trace, reading
from simulator.workload.rows import RowCheck, check_order, need_columns
from simulator.workload.table import RequestTable

BLOCK_TOKENS = 512
REQUIRED = ("timestamp", "input_length", "output_length", "hash_ids")
SCHEMA = pa.schema(
    [
        ("timestamp", pa.float64()),
        ("input_length", pa.float64()),
        ("output_length", pa.float64()),
        ("hash_ids", pa.list_(pa.int64())),
    ]
)


def read(path: Path, max_bad_share: float = 0.0) -> RequestTable:
    """The requests of a Mooncake trace; times are read as they stand.

    Raises ServelabError for lines that are no JSON object, missing fields, lengths below 1, a number of
    hash ids that does not fit the length, lines out of order.
    """
    table, broken = _columns(path)
    check = RowCheck(path, table.num_rows, max_bad_share)
    if broken:
        texts = [broken.get(i, "") for i in range(table.num_rows)]
        check.refuse("the line", texts, np.array([i in broken for i in range(len(texts))]), "a trace record")
    stamp = _numbers(table, "timestamp")
    check.refuse("timestamp", stamp, ~(np.isfinite(stamp) & (stamp >= 0)), "a number of milliseconds, at least 0")
    prompt = check.tokens("input_length", _numbers(table, "input_length"))
    output = check.tokens("output_length", _numbers(table, "output_length"))
    ids = table["hash_ids"].combine_chunks()
    count = np.asarray(ids.value_lengths().fill_null(0), np.int64)
    blocks = -(-prompt.astype(np.int64) // BLOCK_TOKENS)
    wrong = (count != blocks) & ~check.bad
    if wrong.any():
        row = int(np.argmax(wrong))
        check.refuse("the number of hash_ids", count, wrong, f"{blocks[row]} (one per {BLOCK_TOKENS} tokens)")
    stream = ids.flatten()
    if stream.null_count:
        raise ServelabError(f"{path}: hash_ids must be whole numbers, got null")
    stream = np.asarray(stream, np.int64)
    owner = np.repeat(np.arange(len(count)), count)
    negative = np.bincount(owner[stream < 0], minlength=len(count)) > 0
    check.refuse("hash_ids", table["hash_ids"].to_pylist() if negative.any() else [], negative, "at least 0")
    keep = check.finish()
    arrival_s = stamp[keep] / 1000
    check_order(path, arrival_s, "timestamp", stamp, keep)
    last = np.cumsum(count) - 1
    tokens = np.full(len(stream), BLOCK_TOKENS, np.int64)
    full = count > 0
    tokens[last[full]] = (prompt - BLOCK_TOKENS * (count - 1))[full]
    kept = ~check.bad[owner]
    return RequestTable.from_columns(
        arrival_s,
        prompt[keep],
        output[keep],
        segment_start=np.concatenate(([0], np.cumsum(count[keep]))),
        segment_stream=stream[kept],
        segment_tokens=tokens[kept],
    )


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False).astype(float)


def _columns(path: Path) -> tuple[pa.Table, dict[int, str]]:
    """The trace as columns, and the lines that are no record: at once, else line by line."""
    with reading(path), open_trace(path) as file:
        data = file.read()
    try:
        options = pa_json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
        block = pa_json.ReadOptions(block_size=1 << 26)
        table = pa_json.read_json(io.BytesIO(data), read_options=block, parse_options=options)
        if table.num_rows and not any(table[name].null_count for name in REQUIRED):
            return table, {}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    return _by_line(path, data)


def _by_line(path: Path, data: bytes) -> tuple[pa.Table, dict[int, str]]:
    columns: dict[str, list] = {name: [] for name in REQUIRED}
    broken: dict[int, str] = {}
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        raise ServelabError(f"{path}: the trace has no rows, expected at least 1")
    for row, line in enumerate(lines):
        try:
            record = json.loads(line)
            if row == 0 and isinstance(record, dict):
                names = list(record)
                need_columns(path, names, REQUIRED, lambda name, names=names: nearest(name, set(names) - set(REQUIRED)))
            values = [record[name] for name in REQUIRED]
            usable = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values[:3])
            if not usable or not all(type(v) is int for v in values[3]):
                raise ValueError
        except ServelabError:
            raise
        except (ValueError, KeyError, TypeError):
            broken[row] = line
            values = [0.0, 1.0, 1.0, []]
        for name, value in zip(REQUIRED, values, strict=True):
            columns[name].append(value)
    return pa.table(columns, schema=SCHEMA), broken
