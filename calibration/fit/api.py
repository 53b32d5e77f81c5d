"""The time in front of the engine core and behind it: the API server as a queue, fitted to what clients saw.

``api_server`` of a scenario takes ``base_s + prompt_token_s * prompt`` for each request, in order of arrival. Where the
engine recorded when it took a request, that is seen directly (requests that met an idle engine); what passes between a
batch's completion and the client's token is added to it, for the simulator has no place of its own for it. Measured
from outside, see `calibration.fit.http`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibration.measure.measurements import Campaign, lines

LEAST = 10


def observed(campaign: Campaign, runs: Sequence[str]) -> pd.DataFrame:
    """Per request of these runs that met an idle engine: ``prompt_tokens``, ``front_s`` (sent until the engine core
    had it) and ``back_s`` (its first batch done until the client had the token) [s]."""
    began = campaign.runs.set_index("run")["start"]
    rows = []
    for number, path in enumerate(sorted({p.name.removesuffix(".gz") for p in campaign.folder.glob("steps-*.jsonl*")})):
        steps = campaign.steps[campaign.steps["engine"] == number]
        engine = int(path.removesuffix(".jsonl").rsplit("-", 1)[1])  # of those that ran side by side
        called, done = steps["called"].to_numpy(), steps["done"].to_numpy()
        alone = (steps["decode_seqs"].to_numpy() == 0) & (steps["prefill_seqs"].to_numpy() == 1)
        taken = {}
        for row in lines(campaign.folder / path):
            if "add" in row:
                run, _, rest = row["add"].rpartition("/")
                taken[run, int(rest.split("-")[0])] = row["at"]
        for q in lines(campaign.folder / "requests.jsonl"):
            at = taken.get((q["run"], q["row"]))
            if q["run"] not in runs or at is None or "ttft" not in q or "error" in q or q["engine"] != engine:
                continue
            i = np.searchsorted(called, at)
            sent = began[q["run"]] + q["sent"]
            if i >= len(called) or at < sent or not alone[i] or (i > 0 and sent <= done[i - 1]):
                continue
            seen = sent + q["ttft"]
            j = np.searchsorted(done, seen) - 1
            rows.append((q["prompt"], at - sent, seen - done[j] if j >= i else np.nan))
    return pd.DataFrame(rows, columns=["prompt_tokens", "front_s", "back_s"])


def fit_api_server(campaign: Campaign, runs: Sequence[str]) -> dict[str, float]:
    """``base_s`` and ``prompt_token_s`` of the API server [s] from requests of ``runs`` that met an idle engine;
    empty where too few did."""
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
