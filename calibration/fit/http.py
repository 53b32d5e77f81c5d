"""What can be known of an engine from outside: an affine step time and the API server's time, from clients' clocks
only.

A sequence that decodes beside n others has their step time as its inter-token latency; the first token of a lone prompt
comes after the API server and one batch. So decoding gives ``base_s``, ``decode_seq_s`` and ``decode_kv_s``, lone
prompts give ``prefill_token_s``, and what their intercept has on top of ``base_s`` is the API server. Host time between
batches is inside ``base_s``; prompts longer than one batch are left out.
"""

import numpy as np
import pandas as pd

from calibration.fit.affine import AFFINE, affine_design
from calibration.fit.design import Design, Fit, fit_design, identify
from calibration.measure.measurements import Campaign, lines
from calibration.oracle.client import UNIT_S
from simulator.errors import ServelabError

PARAMETERS = (*AFFINE, "api_s")


def seen_from_outside(campaign: Campaign, longest_chunk: int = 2048) -> pd.DataFrame:
    """One row for each probe of a batch run: the counts of the batch it stands for, ``seconds``, ``api`` (1 for a lone
    prompt).

    ``longest_chunk``: prompts up to so many tokens fit into one batch.
    """
    planned = {
        r["name"]: r for r in campaign.plan["runs"] if r["kind"] == "batch" and not r["name"].startswith("warm-up")
    }
    rows = []
    for row in lines(campaign.folder / "requests.jsonl"):
        run = planned.get(row["run"])
        if run is None or "error" in row or "ttft" not in row:
            continue
        n = run["decode"]
        if n and row["row"] == n and len(row["itl"]) >= 4:
            steps = len(row["itl"]) + 1
            rows.append(
                (
                    row["run"],
                    0,
                    0,
                    0.0,
                    n + 1,
                    n * (run["context"] + steps / 2) + steps / 2,
                    float(np.median(row["itl"])) * UNIT_S,
                    0,
                )
            )
        elif n == 0 and row["prompt"] <= longest_chunk:
            p = row["prompt"]
            rows.append((row["run"], p, 1, p * (p + 1) / 2, 0, 0.0, row["ttft"], 1))
    if not rows:
        raise ServelabError(f"{str(campaign.folder)!r} holds no probe of a batch: nothing can be fitted from outside")
    names = ["run", "prefill_tokens", "prefill_seqs", "prefill_pairs", "decode_seqs", "decode_kv", "seconds", "api"]
    frame = pd.DataFrame(rows, columns=names).assign(host_s=0.0, idle=False)
    frame["run"] = frame["run"] + "/" + (frame.index // 4).astype(str)  # lone prompts share few runs
    return frame


def fit_from_outside(frame: pd.DataFrame) -> tuple[Fit, dict[str, float]]:
    """The affine fit, and the API server's time [s]. Raises ServelabError as `calibration.fit.design.identify`."""
    identify(frame, AFFINE)
    inner = affine_design(AFFINE)

    def columns(rows: pd.DataFrame) -> np.ndarray:
        return np.column_stack([inner.columns(rows), rows["api"].to_numpy(float)])

    design = Design(
        "affine and API server, from outside", PARAMETERS, columns, lambda c, host_s: inner.config(c[:4], host_s)
    )
    fit = fit_design(frame, design, 0.0)
    return fit, {"base_s": float(fit.coefficients[4]), "prompt_token_s": 0.0}
