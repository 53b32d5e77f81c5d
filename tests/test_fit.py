"""Fits recover what made the batches, say what cannot be known, and refuse what cannot be."""

import numpy as np
import pandas as pd
import pytest

from calibration.fit.affine import AFFINE, AFFINE_ALL, affine_design, fit_affine
from calibration.fit.batches import check_physics, choose, fit_all
from calibration.fit.design import Fit, clean
from calibration.fit.piecewise import fit_piecewise
from simulator.catalog import find_gpu, find_model
from simulator.engine.step_time.base import AFFINE as AFFINE_CODE
from simulator.engine.step_time.base import PIECEWISE
from simulator.engine.step_time.config import gpu_seconds
from simulator.engine.step_time.piecewise import piecewise_params
from simulator.errors import ServelabError

TRUE = np.array([5e-3, 2e-4, 3e-4, 8e-7, 1.5e-7, 6e-4])


def batches(runs=60, noise=0.05, outliers=0.0, seed=0):
    """Batches of many compositions, with what the affine model says they take, times lognormal noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for run in range(runs):
        n, context = int(rng.integers(0, 33)), int(rng.integers(16, 600))
        for _ in range(20):
            prompt = int(rng.choice([0, 0, 16, 64, 256, 500])) if n else int(rng.choice([16, 64, 256, 500]))
            seqs = int(rng.integers(1, 5)) if prompt else 0
            start = int(rng.integers(0, 300))
            pairs = prompt * (start + (prompt / max(seqs, 1) + 1) / 2)
            parts.append((f"n{n}-c{context}-{run}", prompt, seqs, pairs, start + prompt, n, n * context, n + seqs))
    names = [
        "run",
        "prefill_tokens",
        "prefill_seqs",
        "prefill_pairs",
        "prefill_kv",
        "decode_seqs",
        "decode_kv",
        "sampled",
    ]
    frame = pd.DataFrame(parts, columns=names)
    frame["host_s"], frame["idle"] = 1e-3, False
    exact = affine_design(AFFINE_ALL).columns(frame) @ TRUE + 1e-3
    frame["seconds"] = exact * rng.lognormal(-(noise**2) / 2, noise, len(frame))
    slow = rng.random(len(frame)) < outliers
    frame.loc[slow, "seconds"] *= 20
    return frame


def test_affine_comes_back_with_intervals_that_hold_it():
    fit = fit_affine(clean(batches()), 1e-3, AFFINE_ALL)
    assert fit.coefficients == pytest.approx(TRUE, rel=0.08)
    se = np.sqrt(np.diag(fit.covariance()))
    assert (np.abs(fit.coefficients - TRUE) < 4 * se).all() and (se < 0.1 * TRUE).all()
    assert fit.config.host_s == 1e-3 and fit.config.prefill_pair_s == fit.coefficients[4]


def test_a_few_very_slow_batches_do_not_carry_the_fit_away():
    fit = fit_affine(clean(batches(outliers=0.02)), 1e-3, AFFINE_ALL)
    assert fit.coefficients == pytest.approx(TRUE, rel=0.15)


def test_what_the_fit_predicts_is_what_the_engine_takes():
    frame = clean(batches(runs=20))
    for fit, code in ((fit_affine(frame), AFFINE_CODE), (fit_piecewise(frame, 0.0, (1, 2, 4, 8, 16, 32)), PIECEWISE)):
        predicted = fit.design.columns(frame) @ fit.coefficients
        c = fit.config
        if code == PIECEWISE:
            p = piecewise_params(c, (1, 2, 4, 8, 16, 32))
        else:
            p = np.array(
                [c.base_s, c.prefill_token_s, c.decode_seq_s, c.decode_kv_s, c.prefill_pair_s, c.prefill_seq_s]
            )
        for i in (0, 7, 100, 399):
            r = frame.iloc[i]
            tokens = int(r.prefill_tokens + r.decode_seqs)
            args = (
                tokens,
                int(r.prefill_tokens),
                int(r.prefill_seqs),
                float(r.prefill_pairs),
                int(r.prefill_kv),
                int(r.decode_seqs),
            )
            assert gpu_seconds(code, p, *args, int(r.decode_kv), int(r.sampled)) == pytest.approx(
                predicted[i], rel=1e-9
            )


def test_the_simplest_model_within_one_standard_error_is_chosen():
    frame = batches(noise=0.2)
    design = affine_design(AFFINE)
    frame["seconds"] = (design.columns(frame) @ TRUE[:4] + 1e-3) * np.random.default_rng(3).lognormal(
        0, 0.2, len(frame)
    )
    best, fits = fit_all(frame)
    assert best.design.name == "affine, 4 parameters" and len(fits) == 3
    bent = batches(noise=0.01)
    tokens = bent["prefill_tokens"] + bent["decode_seqs"]
    bent["seconds"] = np.interp(tokens, [1, 16, 64, 256, 600], [0.01, 0.01, 0.05, 0.055, 0.2])
    best, _ = fit_all(bent)
    assert best.design.name.startswith("piecewise")

    def made(score, se, parameters):
        return Fit(
            affine_design(AFFINE[:parameters]),
            None,
            np.ones(parameters),
            np.ones((2, parameters)),
            score,
            se,
            np.ones(1),
        )

    assert choose([made(0.10, 0.02, 4), made(0.11, 0.02, 2), made(0.13, 0.02, 1)]).score == 0.11


def test_what_cannot_be_known_is_named():
    alike = batches(runs=30)
    alike["decode_kv"] = 100
    with pytest.raises(ServelabError, match="decode_kv_s cannot be known: all .* have decode_kv = 100"):
        fit_affine(clean(alike))
    together = batches(runs=30)
    together["decode_kv"] = together["decode_seqs"] * 512
    with pytest.raises(ServelabError, match="decode_seq_s and decode_kv_s cannot be told apart"):
        fit_affine(clean(together))
    silent = batches(runs=30)
    silent["decode_kv"] = np.nan
    with pytest.raises(ServelabError, match="do not say decode_kv"):
        fit_affine(clean(silent))
    with pytest.raises(ServelabError, match="a fit needs 30"):
        clean(batches(runs=1))
    one = batches(runs=40)
    one["run"] = "only"
    with pytest.raises(ServelabError, match="none can be left out"):
        fit_affine(clean(one))


def test_a_parameter_beyond_physics_is_an_error_of_the_fit():
    model, gpu = find_model("llama-3.1-8b"), find_gpu("h100")
    config = affine_design(AFFINE).config(np.array([1e-3, 1e-6, 0, 1e-7]), 0.0)
    with pytest.raises(ServelabError, match="prefill_token_s = 1e-06 s means 1.5e.16 FLOP/s"):
        check_physics(config, model, gpu, 1.5e10, 131072)
    config = affine_design(AFFINE).config(np.array([1e-3, 1e-4, 0, 1e-9]), 0.0)
    with pytest.raises(ServelabError, match="decode_kv_s = 1e-09 s means 1.31e.14 B/s"):
        check_physics(config, model, gpu, 1.5e10, 131072)
    check_physics(affine_design(AFFINE).config(np.array([1e-3, 1e-4, 0, 1e-7]), 0.0), model, gpu, 1.5e10, 131072)
