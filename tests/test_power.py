from pathlib import Path

import numpy as np
import pytest

from calibration.fit.power import GPUS, fit_power, lines
from simulator.catalog import load_power
from simulator.cost.energy import Grid, PowerConfig, carbon_kg, energy, find_grid, power_of
from simulator.errors import ServelabError
from simulator.scenario import Scenario
from simulator.simulation import simulate

MEASURED = Path(__file__).parents[1] / "../shared/data/vllm_steady_state/ml_energy_v3_lm-arena-chat.csv"
needs_rows = pytest.mark.skipif(not MEASURED.is_file(), reason=f"{MEASURED} is not there")


@needs_rows
@pytest.mark.parametrize("gpu", GPUS)
def test_held_out_watts(gpu):
    """Measured 2026-11-24: 9.3 % on H100, 9.4 % on B200; J/token is watts over measured tokens a second, so the
    same."""
    fit = fit_power(MEASURED, gpu)
    assert fit.error() < 0.10
    assert fit.error(experts=False) < 0.09
    assert len(fit.rows) > 100 and fit.rows["model"].nunique() > 4
    # it says something: better than the mean of the other models' watts
    mean = [fit.rows.loc[fit.rows["model"] != m, "measured_w"].mean() for m in fit.rows["model"]]
    assert fit.error() < 0.8 * float((np.array(mean) / fit.rows["measured_w"] - 1).abs().median())


@needs_rows
def test_shipped_coefficients_are_those_of_the_fit():
    for row in lines(MEASURED):
        shipped = load_power()[row["gpu"]]
        assert [float(shipped[k]) for k in ("base_w", "memory_w", "compute_w")] == pytest.approx(
            [row["base_w"], row["memory_w"], row["compute_w"]], abs=0.2
        )


def run(gpu="h100", rate=4.0):
    return simulate(
        Scenario.of(
            {
                "workload": {"source": "azure_conversation", "rate_rps": rate, "duration_s": 120},
                "deployments": [{"model": "llama-3.1-8b", "gpu": gpu, "engine": {"max_model_len": 32768}}],
            }
        )
    )


def test_energy_of_a_run():
    quiet, busy = run(rate=0.05), run(rate=8.0)
    a, b = (energy(r, PowerConfig(idle_w=70)).iloc[0] for r in (quiet, busy))
    assert 280 < a["busy_w"] < b["busy_w"] <= 700
    assert a["kwh_idle"] > b["kwh_idle"] and a["j_per_token"] > 2 * b["j_per_token"]
    span = float(busy.instances["end_s"].iloc[0])
    assert 70 * span < b["kwh"] * 3.6e6 < 700 * span
    more = energy(quiet, PowerConfig(idle_w=140)).iloc[0]
    assert more["kwh_idle"] == pytest.approx(2 * a["kwh_idle"]) and more["kwh_busy"] == a["kwh_busy"]


def test_power_that_nobody_measured():
    with pytest.raises(ServelabError, match=r"no measured power of GPU 'l4'.*h100_sxm.*base_w"):
        power_of("l4", PowerConfig(idle_w=16))
    own = power_of("l4", PowerConfig(idle_w=16, base_w=30, memory_w=20, compute_w=40))
    assert (own.base_w, own.tdp_w) == (30, 72)


def test_carbon_both_ways():
    grid = find_grid("gcp", "us-east1")
    assert carbon_kg(10, grid) == pytest.approx((10 * 1.1 * 0.412, 10 * 1.1 * 0.412 * 0.36))
    assert carbon_kg(10, Grid(1.0, 500, 1.0, "", "")) == (5.0, 0.0)
    with pytest.raises(ServelabError, match=r"no grid figures for aws us-west-9.*aws us-east-1"):
        find_grid("aws", "us-west-9")
