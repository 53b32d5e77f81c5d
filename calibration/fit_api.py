"""The time in front of the engine core and behind it: the API server as a queue, fitted to what clients saw.

``api_server`` of a scenario takes ``base_s + prompt_token_s * prompt`` for each request, in order of arrival. Where the engine
recorded when it took a request, that is seen directly (requests that met an idle engine); what passes between a batch's completion and
the client's token is added to it, for the simulator has no place of its own for it. Measured from outside, see `calibration.fit_http`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibration.measurements import Campaign, lines
from simulator.metrics import rows_of

LEAST = 10


def observed(campaign: Campaign, runs: Sequence[str]) -> pd.DataFrame:
    """Per request of these runs that met an idle engine: ``prompt_tokens``, ``front_s`` (sent until the engine core had it) and ``back_s``
    (its first batch done until the client had the token) [s]."""
    began = campaign.runs.set_index("run")["start"]
    rows = []
    for number, path in enumerate(
        sorted({p.name.removesuffix(".gz") for p in campaign.folder.glob("steps-*.jsonl*")})
    ):
        steps = campaign.steps[campaign.steps["engine"] == number]
        called, done, idle = (steps[c].to_numpy() for c in ("called", "done", "idle"))
        taken = {}
        for row in lines(campaign.folder / path):
            if "add" in row:
                run, _, rest = row["add"].rpartition("/")
                taken[run, int(rest.split("-")[0])] = row["at"]
        for run in campaign.loads:
            if run.name not in runs:
                continue
            for q in rows_of(run.requests):
                at = taken.get((run.name, q.row))
                if at is None or q.engine != number:
                    continue
                i = np.searchsorted(called, at)
                if i >= len(called) or not idle[i]:
                    continue
                seen = began[run.name] + q.arrival_s + q.ttft_s
                j = np.searchsorted(done, seen) - 1
                rows.append(
                    (
                        q.prompt_tokens,
                        at - began[run.name] - q.arrival_s,
                        seen - done[j] if j >= i else np.nan,
                    )
                )
    return pd.DataFrame(rows, columns=["prompt_tokens", "front_s", "back_s"])


def fit_api_server(campaign: Campaign, runs: Sequence[str]) -> dict[str, float]:
    """``base_s`` and ``prompt_token_s`` of the API server [s] from requests of ``runs`` that met an idle engine; empty where too few did."""
    seen = observed(campaign, runs).dropna()
    if len(seen) < LEAST:
        return {}
    front = seen["front_s"].clip(lower=0.0)
    slope = 0.0
    prompts = seen["prompt_tokens"].to_numpy(float)
    if np.ptp(prompts) > 0:
        from scipy.stats import theilslopes

        found = theilslopes(front, prompts)
        slope = max(float(found.slope), 0.0) if found.low_slope > 0 else 0.0
    base = float(np.median(front - slope * prompts)) + float(seen["back_s"].median())
    return {"base_s": max(base, 0.0), "prompt_token_s": slope}
