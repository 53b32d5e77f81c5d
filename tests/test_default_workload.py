"""The embedded default against the half of the Azure conversation trace that it was not fitted to.

Fitted to the minutes 0, 2, 4, ... and judged on 1, 3, 5, ... (29 each): the trace is not stationary, and its first
and second thirty minutes differ from each other by 35 % in the p10 of the prompt, 43 % in its p90 and by a factor
of four in the rank correlation of prompt and output, so no generator of one could be within 10 % of the other.
The correlations are small (rank 0.08, Pearson -0.11) and one hour's draw scatters by 6 to 13 % of them, the p90 of the
prompt (in the gap between 1,500 and 4,080 tokens) by 4 %; so the mean of twenty hours is compared.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from simulator.workload import AzureConversation, RequestTable, generate, read_trace
from simulator.workload.conversation import embedded_model, workloads_csv
from simulator.workload.fit import BLOCK_S, alternate_blocks, fit_conversation

TRACE = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces" / "azure_llm_2023_conv.csv"
END_S = 58 * BLOCK_S
LEVELS = (0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)

needs_trace = pytest.mark.skipif(not TRACE.is_file(), reason="../shared/data/traces is absent")


def hour(seed: int, rate_scale: float = 1.0) -> RequestTable:
    """The default as recorded: the trace's hour, played ``rate_scale`` times faster."""
    mean = float(embedded_model().rate.mean()) * rate_scale
    config = AzureConversation(rate_rps=mean, duration_s=END_S / rate_scale, profile_s=END_S / rate_scale)
    return generate(config, np.random.SeedSequence(seed))


def figures(table: RequestTable, parity: int = 1) -> dict[str, float]:
    """What is compared, over the minutes of this parity."""
    rows = alternate_blocks(table, parity, END_S)
    arrival_s = table.arrival_s[rows]
    arrival_s = arrival_s - np.floor(arrival_s / (2 * BLOCK_S)) * BLOCK_S
    interval = np.diff(arrival_s)
    prompt, output = table.prompt_tokens[rows], table.output_tokens[rows]
    out = {"rate": rows.sum() / (END_S / 2), "arrival cv": interval.std() / interval.mean()}
    out |= {f"prompt p{100 * q:.0f}": np.quantile(prompt, q) for q in LEVELS}
    out |= {f"output p{100 * q:.0f}": np.quantile(output, q) for q in LEVELS}
    out["rank correlation"] = stats.spearmanr(prompt, output)[0]
    out["correlation"] = np.corrcoef(prompt, output)[0, 1]
    return out


@needs_trace
def test_generator_is_within_a_tenth_of_the_held_out_half():
    held_out = figures(read_trace(TRACE))
    draws = pd.DataFrame([figures(hour(seed)) for seed in range(20)])
    error = {name: draws[name].mean() / value - 1 for name, value in held_out.items()}
    assert {name: round(e, 3) for name, e in error.items() if abs(e) > 0.10} == {}


@needs_trace
def test_minutes_differ_as_in_the_trace():
    """Requests and prompt tokens per held-out minute: their spread, and their course over the hour.

    Output tokens are left out: the trace's vary by 9 % from minute to minute, the generator's by 13 %. It draws
    classes independently; in the trace the applications with long answers yield to the others as if one capacity
    were shared.
    """
    trace, minutes = read_trace(TRACE), np.arange(59) * BLOCK_S

    def per_minute(table: RequestTable, tokens: bool) -> np.ndarray:
        return np.histogram(table.arrival_s, minutes, weights=table.prompt_tokens if tokens else None)[0][1::2]

    draws = [hour(seed) for seed in range(20)]
    for tokens in (False, True):
        real = per_minute(trace, tokens)
        drawn = [per_minute(draw, tokens) for draw in draws]
        assert np.mean([d.std() / d.mean() for d in drawn]) == pytest.approx(real.std() / real.mean(), rel=0.1)
        assert np.corrcoef(np.mean(drawn, axis=0), real)[0, 1] > 0.85


@needs_trace
def test_parameters_are_reproduced_by_the_fit():
    stored = pd.read_csv(workloads_csv())
    stored = stored[stored["workload"] == "azure_conversation"].reset_index(drop=True)
    again = fit_conversation(read_trace(TRACE), stored["source"][0], stored["date"][0])
    assert np.allclose(stored["value"], again["value"])
    pd.testing.assert_frame_equal(stored.fillna("").drop(columns="value"), again.drop(columns="value"))


def test_every_parameter_has_unit_source_and_date():
    stored = pd.read_csv(workloads_csv())
    assert stored["value"].notna().all() and stored["source"].notna().all()
    assert stored["date"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    assert set(stored["unit"].dropna()) <= {"s", "request/s", "ratio", "token"}


def test_flat_profile_is_stationary_with_the_mean_mix():
    config = AzureConversation(rate_rps=10.0, duration_s=6000.0, profile="flat")
    flat = generate(config, np.random.SeedSequence(0))
    counts = np.histogram(flat.arrival_s, np.arange(0, 6001, 60.0))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.06, abs=0.4)
    recorded = generate(AzureConversation(rate_rps=10.0, duration_s=END_S), np.random.SeedSequence(0))
    for column in ("prompt_tokens", "output_tokens"):
        assert getattr(flat, column).mean() == pytest.approx(getattr(recorded, column).mean(), rel=0.03)
