"""Fit the embedded default workload to a trace: ``python -m simulator.workload.fit TRACE [CSV]``.

The fit sees every second minute of the trace only (minutes 0, 2, 4, ...: one half hour of the Azure
conversation trace); the minutes between are for judging it. Halves cut in the middle would not do: the trace
is not stationary, and its first and second thirty minutes differ from each other by 35 % in the p10 of the prompt
and by 43 % in its p90 (an application with prompts of 4,080 tokens stops after 34 minutes).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.errors import ServelabError
from simulator.workload.arrivals import RateProfile
from simulator.workload.conversation import NAME
from simulator.workload.table import RequestTable

BLOCK_S = 60.0
CLASSES = 12
# Fine at the ends: with 5 % steps and a straight line from p99 to the maximum, the mean prompt came out 0.4 % long.
LEVELS = (
    *(0.0, 0.002, 0.01, 0.02),
    *(round(0.04 * k, 2) for k in range(1, 25)),
    *(0.97, 0.98, 0.99, 0.995, 0.998, 1.0),
)
SMOOTH = (0.25, 0.5, 0.25)
COLUMNS = ("workload", "parameter", "class", "index", "value", "unit", "source", "date")


def alternate_blocks(
    table: RequestTable, parity: int, end_s: float | None = None, block_s: float = BLOCK_S
) -> np.ndarray:
    """Which rows arrived in blocks of this parity (0: the blocks 0, 2, 4, ...), up to the last whole pair of blocks.

    ``end_s`` is the time up to which the table was observed [s]; None: its last arrival.
    """
    block = np.floor(table.arrival_s / block_s).astype(np.int64)
    pairs = int((table.arrival_s[-1] if end_s is None else end_s) // (2 * block_s))
    return (block % 2 == parity) & (block < 2 * pairs)


def fit_conversation(table: RequestTable, source: str, date: str) -> pd.DataFrame:
    """Rows (columns `COLUMNS`) of the model `conversation.ConversationModel` for ``table``.

    Rate and mix get one knot per fitted minute, two minutes apart, so the minutes between are interpolated.
    Classes are groups of prompt length with equal counts; their shares are smoothed over neighbouring knots
    (1-2-1), for a class has only some 25 requests in a minute. ``source`` and ``date`` go into every row.
    Raises ServelabError for a trace of fewer than four minutes.
    """
    if table.arrival_s[-1] < 4 * BLOCK_S:
        raise ServelabError(f"a fit needs a trace of at least {4 * BLOCK_S:.0f} s, got {table.arrival_s[-1]:.1f} s")
    rows = alternate_blocks(table, 0)
    arrival_s, prompt, output = table.arrival_s[rows], table.prompt_tokens[rows], table.output_tokens[rows]
    knot = (arrival_s // (2 * BLOCK_S)).astype(np.int64)
    knots = int(knot[-1]) + 1
    rate = np.bincount(knot, minlength=knots) / BLOCK_S
    edges = np.unique(np.quantile(prompt, np.linspace(0, 1, CLASSES + 1)[1:-1]))
    kind = np.searchsorted(edges, prompt, side="left")
    classes = len(edges) + 1
    count = np.bincount(kind * knots + knot, minlength=classes * knots).reshape(classes, knots).astype(float)
    padded = np.pad(count, ((0, 0), (1, 1)), mode="edge")
    count = SMOOTH[0] * padded[:, :-2] + SMOOTH[1] * padded[:, 1:-1] + SMOOTH[2] * padded[:, 2:]

    out: list[tuple[str, int, int, float, str]] = [
        ("cell_s", 0, 0, 2 * BLOCK_S, "s"),
        ("interval_cv", 0, 0, round(_interval_cv(arrival_s, rate), 3), ""),
    ]
    out += [("level", 0, i, level, "") for i, level in enumerate(LEVELS)]
    out += [("rate", 0, i, round(float(r), 4), "request/s") for i, r in enumerate(rate)]
    for k in range(classes):
        p, o = prompt[kind == k], output[kind == k]
        share = count[k] / count.sum(axis=0)
        out += [("share", k, i, round(float(s), 4), "ratio") for i, s in enumerate(share)]
        out.append(("copula", k, 0, round(_copula(p, o), 3), ""))
        out += [("prompt_quantile", k, i, float(v), "token") for i, v in enumerate(_quantiles(p))]
        out += [("output_quantile", k, i, float(v), "token") for i, v in enumerate(_quantiles(o))]
    return pd.DataFrame([(NAME, *row, source, date) for row in out], columns=list(COLUMNS))


def _quantiles(tokens: np.ndarray) -> np.ndarray:
    return np.rint(np.quantile(tokens, LEVELS))


def _copula(prompt: np.ndarray, output: np.ndarray) -> float:
    """Correlation of the Gaussian copula with the rank correlation of these lengths."""
    ranks = pd.DataFrame({"p": prompt, "o": output}).rank()
    rho = ranks["p"].corr(ranks["o"])
    return 0.0 if np.isnan(rho) else float(2 * np.sin(np.pi * rho / 6))


def _interval_cv(arrival_s: np.ndarray, rate: np.ndarray) -> float:
    """Coefficient of variation of the intervals within a minute, in units of the rate's own mean interval."""
    profile = RateProfile(rate, 2 * BLOCK_S)
    same = np.floor(arrival_s[1:] / BLOCK_S) == np.floor(arrival_s[:-1] / BLOCK_S)
    middle = (arrival_s[1:] + arrival_s[:-1]) / 2
    unit = (np.diff(arrival_s) * profile.at(middle))[same]
    return float(unit.std() / unit.mean())


def main(arguments: list[str]) -> int:
    """Write the rows fitted to a trace as CSV to a file, else to standard output."""
    from simulator.workload.trace import read_trace

    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m simulator.workload.fit TRACE [CSV]\n")
        return 2
    source = "fit to minutes 0 2 4 ... of AzureLLMInferenceTrace_conv 2023 (CC-BY-4.0)"
    rows = fit_conversation(read_trace(Path(arguments[0])), source, date="2023-11-16")
    if len(arguments) == 2:
        rows.to_csv(arguments[1], index=False, lineterminator="\n")
    else:
        rows.to_csv(sys.stdout, index=False, lineterminator="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
