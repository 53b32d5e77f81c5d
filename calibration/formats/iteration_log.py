"""vLLM's log with ``--enable-logging-iteration-details``: a line for each batch.

Iteration(N): 1 context requests, 128 context tokens, 4 generation requests, 4 generation tokens, iteration elapsed
time: 6.21 ms
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.errors import ServelabError

LINE = re.compile(
    r"Iteration\((\d+)\): (\d+) context requests, (\d+) context tokens, (\d+) generation requests, "
    r"(\d+) generation tokens, iteration elapsed time: ([\d.]+) ms"
)
UNKNOWN = ("prefill_pairs", "prefill_kv", "decode_kv")
RUN = 50  # batches in a row that are held out together


def cannot_identify() -> str:
    """What these lines cannot tell."""
    return (
        "iteration details say no context lengths: prefill_pair_s and decode_kv_s cannot be known, their part is in "
        "the others; the time between iterations is not in them either, so host_s is 0"
    )


def read(path: Path) -> pd.DataFrame:
    """Batches: counts and ``seconds``, unknown ones NaN, as `calibration.fit.batches.clean` takes them.

    Raises ServelabError where no line is one.
    """
    rows = [
        [float(x) for x in found.groups()]
        for line in path.read_text(errors="replace").splitlines()
        if (found := LINE.search(line))
    ]
    if not rows:
        raise ServelabError(f"{path.name}: no line of iteration details; serve with --enable-logging-iteration-details")
    data = np.array(rows)
    frame = pd.DataFrame(
        {
            "prefill_seqs": data[:, 1],
            "prefill_tokens": data[:, 2],
            "decode_seqs": data[:, 3],
            "seconds": data[:, 5] / 1e3,
            "sampled": data[:, 1] + data[:, 3],
            "host_s": np.nan,
            "idle": False,
        }
    )
    frame["run"] = [f"part-{i // RUN}" for i in range(len(frame))]
    return frame.assign(**{name: np.nan for name in UNKNOWN})
