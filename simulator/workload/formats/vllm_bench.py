"""When you have a load test of ``vllm bench serve --save-result --save-detailed``: the requests that it sent.

Read are the arrays input_lens, output_lens, start_times [s] and, where there, errors. Requests are sorted by the time
they were sent; the first is at 0 s. A failed request (an error, or no output) is a row that cannot be used.
"""

import json
from pathlib import Path

import numpy as np

from simulator.errors import ServelabError
from simulator.workload.files import open_trace, reading
from simulator.workload.rows import RowCheck
from simulator.workload.table import RequestTable

ARRAYS = ("input_lens", "output_lens", "start_times")


def read(path: Path, max_bad_share: float = 0.0) -> RequestTable:
    """The requests of a result file.

    Raises ServelabError for a file that is not one JSON object, arrays that are missing (with the flag that writes
    them) or differ in length, and for failed requests beyond ``max_bad_share``.
    """
    with reading(path), open_trace(path) as file:
        try:
            result = json.load(file)
        except json.JSONDecodeError as error:
            many = "; --append-result writes several results, keep one" if error.msg == "Extra data" else ""
            raise ServelabError(f"{path}: is not one JSON object: {error}{many}") from None
    if not isinstance(result, dict):
        raise ServelabError(f"{path}: must be a JSON object, got {type(result).__name__}")
    missing = [name for name in ARRAYS if not isinstance(result.get(name), list)]
    if missing:
        raise ServelabError(
            f"{path}: no array {', '.join(map(repr, missing))}; vllm bench serve writes "
            f"{', '.join(ARRAYS)} with --save-result --save-detailed"
        )
    rows = len(result["input_lens"])
    for name in (*ARRAYS, *(["errors"] if isinstance(result.get("errors"), list) else [])):
        if len(result[name]) != rows:
            raise ServelabError(f"{path}: {name} has {len(result[name])} entries, input_lens has {rows}")
    if not rows:
        raise ServelabError(f"{path}: the trace has no rows, expected at least 1")
    check = RowCheck(path, rows, max_bad_share)
    if isinstance(result.get("errors"), list):
        check.refuse("errors", result["errors"], np.array([bool(e) for e in result["errors"]]), "empty")
    number = [v if isinstance(v, int | float) and not isinstance(v, bool) else np.nan for v in result["start_times"]]
    start = np.array(number, float)
    check.refuse("start_times", result["start_times"], ~np.isfinite(start), "a number of seconds")
    prompt = check.tokens("input_lens", result["input_lens"])
    output = check.tokens("output_lens", result["output_lens"])
    keep = check.finish()
    keep = keep[np.argsort(start[keep], kind="stable")]
    return RequestTable.from_columns(start[keep] - start[keep[0]], prompt[keep], output[keep])
