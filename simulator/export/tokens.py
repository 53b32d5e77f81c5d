"""When each token came, from a run with all its batches logged.

A request gets a token at the end of every batch of its replica from its first token to its last, but for its
interruptions: none strictly between ``from_s`` and ``to_s``.
"""

import numpy as np

from simulator.errors import ServelabError
from simulator.records.metrics import column, completed
from simulator.results.result import Result


def need_all_steps(result: Result) -> None:
    """Raise ServelabError, naming the flag, unless every batch was logged."""
    logged = result.meta.get("steps", "off")
    if logged != "full":
        raise ServelabError(
            f"token times need every batch, this run logged {logged}; run it with --steps full (steps='full' in code)"
        )


def token_times(result: Result) -> list[np.ndarray]:
    """Times [s] at which each request got its tokens, in order of ``result.requests``; empty unless completed.

    Raises ServelabError when batches were not logged, or do not fit the requests.
    """
    need_all_steps(result)
    for d in result.meta.get("scenario", {}).get("deployments", []):
        kind = d.get("serving", {}).get("kind", "continuous")
        if kind not in ("continuous", "orca"):
            raise ServelabError(
                f"deployment {d.get('name')!r} has serving.kind={kind}: its answers come whole, tokens have no "
                "times of their own"
            )
    q, steps = result.requests, result.steps
    whose = [column(f, "deployment").astype(np.int64) << 32 | column(f, "replica") for f in (q, steps)]
    order = np.lexsort((column(steps, "end_s"), whose[1]))
    ends = column(steps, "end_s")[order]
    names, begin = np.unique(whose[1][order], return_index=True)
    bounds = [*begin.tolist(), len(ends)]
    out: list[np.ndarray] = [np.zeros(0)] * len(q)
    done = completed(q) & (column(q, "replica") >= 0)  # the others came from a cache
    first_s, end_s = column(q, "llm_first_token_s"), column(q, "llm_end_s")
    gaps = result.interruptions.sort_values(["request_id", "from_s"])
    gap_of, gap_from, gap_to = (column(gaps, c) for c in ("request_id", "from_s", "to_s"))
    ids, wanted = column(q, "request_id"), column(q, "generated_tokens")
    gap_low, gap_high = np.searchsorted(gap_of, ids), np.searchsorted(gap_of, ids, "right")
    for k, name in enumerate(names):
        mine = ends[bounds[k] : bounds[k + 1]]
        rows = np.flatnonzero(done & (whose[0] == name))
        low = np.searchsorted(mine, first_s[rows], "left").tolist()
        high = np.searchsorted(mine, end_s[rows], "right").tolist()
        for row, a, b in zip(rows.tolist(), low, high, strict=True):
            times = mine[a:b]
            for g in range(gap_low[row], gap_high[row]):
                times = times[(times <= gap_from[g]) | (times >= gap_to[g])]
            out[row] = times
    wrong = np.flatnonzero(done & (np.fromiter(map(len, out), np.int64, len(out)) != wanted))
    if len(wrong):
        row = int(wrong[0])
        raise ServelabError(
            f"request {ids[row]} has generated_tokens={wanted[row]}, the logged batches give it {len(out[row])}; "
            "the tables of this result do not belong together"
        )
    return out
