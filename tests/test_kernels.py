"""Tables of kernels and piecewise step times: linear where they should be, padded, and true to recorded runs."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from calibration.fit.kernels import fit_kernels
from calibration.formats import llmservingsim
from calibration.profiles.build_profile import validated
from calibration.profiles.make_kernel_profiles import PROFILES, make
from simulator.catalog import find_gpu, find_model
from simulator.catalog.profile import find_profile, load_profiles
from simulator.engine.config import parse, resolve
from simulator.engine.step_time.base import KERNELS, PIECEWISE
from simulator.engine.step_time.config import gpu_seconds
from simulator.engine.step_time.interpolate import line
from simulator.engine.step_time.kernels import KernelStepTime, alpha, attention, kernel_params, kernel_seconds
from simulator.engine.step_time.piecewise import PiecewiseStepTime, piecewise_params
from simulator.errors import ServelabError

REPO = Path(__file__).resolve().parents[1]
KERNEL_DATA = REPO.parent / "shared/data/kernel_profiles"
RUNS = REPO.parent / "shared/data/vllm_runs"


def table(**changes):
    """A table that is linear in all axes: time = 1 + 2P + 3K + 5D + 7C, in microseconds."""
    axes = [(0, 16, 64), (0, 100), (0, 1, 8), (0, 50, 400)]
    p, k, d, c = np.meshgrid(*axes, indexing="ij")
    given = dict(
        dense_tokens=(1, 10, 100),
        dense_s=(1e-3, 1e-3, 1e-2),
        head_seqs=(1, 10),
        head_s=(1e-4, 1e-4),
        prefill_tokens=axes[0],
        history_tokens=axes[1],
        decode_seqs=axes[2],
        context_tokens=axes[3],
        attention_s=tuple(((1 + 2 * p + 3 * k + 5 * d + 7 * c) * 1e-6).ravel()),
    )
    return KernelStepTime(**(given | changes))


@pytest.mark.parametrize("at", [(5, 10, 3, 70), (64, 100, 8, 400), (0, 0, 0, 0), (40, 50, 7.5, 33)])
def test_attention_is_linear_in_all_four_axes(at):
    p = kernel_params(table(), ())
    exact = (1 + 2 * at[0] + 3 * at[1] + 5 * at[2] + 7 * at[3]) * 1e-6
    assert attention(p, *map(float, at)) == pytest.approx(exact, rel=1e-12)


def test_beyond_its_tables_attention_grows_with_the_work():
    p = kernel_params(table(), ())
    pair_s = (1 + 2 * 64 + 3 * 100) * 1e-6 / (64 * (100 + 65 / 2))  # of the far corner, query-key pairs
    kv_s = (1 + 5 * 8 + 7 * 400) * 1e-6 / (8 * 400)  # KV tokens read
    end = (1 + 2 * 64 + 3 * 100 + 5 * 8 + 7 * 400) * 1e-6
    pairs = 100 * (300 + 101 / 2) - 64 * (100 + 65 / 2)
    assert attention(p, 100.0, 300.0, 16.0, 800.0) == pytest.approx(end + pair_s * pairs + kv_s * (16 * 800 - 8 * 400))
    assert attention(p, 100.0, 100.0, 0.0, 0.0) > attention(p, 64.0, 100.0, 0.0, 0.0)


def test_beyond_its_tables_a_layer_grows_as_over_their_upper_half():
    p = kernel_params(table(dense_tokens=(1, 10, 100, 1000), dense_s=(1e-3, 2e-3, 1.1e-2, 1.0e-2)), ())
    seconds = [kernel_seconds(p, t, 0, 0, 0.0, 0, 0, 1, 0, 0) for t in (1000, 2000, 4000)]
    assert np.diff(seconds) == pytest.approx([8e-3 / 990 * 1000, 8e-3 / 990 * 2000])


def test_batches_are_padded_to_captured_sizes():
    p = kernel_params(table(), (1, 2, 4, 8, 40))

    def dense(tokens):
        return kernel_seconds(p, tokens, 0, 0, 0.0, tokens, 0, 1, 0, 0) - attention(p, 0.0, 0.0, float(tokens), 0.0)

    assert dense(9) == pytest.approx(dense(40)) != pytest.approx(dense(8))
    assert dense(41) > dense(40)
    assert dense(12) == pytest.approx(1e-3 + 30 / 90 * 9e-3 + 1e-4)


def test_a_skewed_batch_lies_between_its_mean_and_its_longest():
    shape = dict(
        skew_prefill=(0, 64), skew_seqs=(4, 8), skew_share=(0.5, 1e9), skew_longest=(1e9,), skew_history=(1e9,)
    )
    values = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    p = kernel_params(table(**shape, skew_alpha=values, skew=True), ())
    off = kernel_params(table(**shape, skew_alpha=values), ())
    assert alpha(p, 0, 0, 4, 20.0, 10, 50) == 0.1 and alpha(p, 0, 0, 5, 20.0, 10, 50) == 0.3
    assert alpha(p, 0, 0, 4, 40.0, 10, 50) == 0.2 and alpha(p, 1, 0, 4, 20.0, 10, 50) == 0.5
    assert alpha(p, 0, 0, 4, 20.0, 20, 20) == 0.0 == alpha(off, 0, 0, 4, 20.0, 10, 50)
    even, skewed = (kernel_seconds(q, 4, 0, 0, 0.0, 4, 80, 4, 10, 50) for q in (off, p))
    assert skewed - even == pytest.approx(0.1 * (attention(p, 0.0, 0.0, 4.0, 50.0) - attention(p, 0.0, 0.0, 4.0, 20.0)))


def test_several_chunks_cost_less_than_one_of_their_length():
    p = kernel_params(table(), ())
    one = kernel_seconds(p, 64, 64, 1, 64 * 65 / 2, 0, 0, 1, 0, 0)
    four = kernel_seconds(p, 64, 64, 4, 4 * 16 * 17 / 2, 0, 0, 4, 0, 0)
    assert four <= one
    later = kernel_seconds(p, 64, 64, 1, 64 * (100 + 65 / 2), 0, 0, 1, 0, 0)
    assert later - one == pytest.approx(300e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(dense_s=(1e-3,)), "dense_s has 1 values, its axes need 3"),
        (dict(dense_tokens=(1, 10, 10)), "does not rise"),
        (dict(head_s=(1e-4, -1e-4)), "below 0"),
        (dict(skew_seqs=(4,)), "axis"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said if said != "axis" else "skew_alpha"):
        table(**changes)


def test_piecewise():
    model = PiecewiseStepTime(
        tokens=(1, 8, 64),
        seconds=(1e-3, 2e-3, 9e-3),
        decode_kv_s=1e-6,
        prefill_pair_s=1e-8,
        prefill_seq_s=1e-4,
        decode_seq_s=1e-5,
    )
    p = piecewise_params(model, (1, 2, 4, 8, 16))
    assert gpu_seconds(PIECEWISE, p, 9, 0, 0, 0.0, 0, 9, 100, 9) == pytest.approx(2e-3 + 8 / 56 * 7e-3 + 1e-4 + 9e-5)
    assert gpu_seconds(PIECEWISE, p, 128, 128, 2, 500.0, 128, 0, 0, 2) == pytest.approx(
        9e-3 + 64 / 56 * 7e-3 + 5e-6 + 2e-4
    )
    with pytest.raises(ValidationError, match="must not fall"):
        PiecewiseStepTime(tokens=(1, 8), seconds=(2e-3, 1e-3), decode_kv_s=0)


needs_kernels = pytest.mark.skipif(not KERNEL_DATA.is_dir(), reason="the kernel times of ../shared/data are not here")
needs_runs = pytest.mark.skipif(not RUNS.is_dir(), reason="the recorded runs of ../shared/data are not here")


@needs_kernels
def test_shipped_profiles_are_what_their_script_makes():
    for shipped in PROFILES:
        made = make(shipped, KERNEL_DATA)
        there = load_profiles()[shipped.name]
        assert json.loads(made.to_json())["step_time"] == there.step_time and made.provenance == there.provenance


@needs_kernels
def test_measured_points_come_back_and_thinning_loses_little():
    """Decode attention at measured grid points exactly; a fifth of the points left out by thinning within 5 %
    (median)."""
    folder = KERNEL_DATA / "RTXPRO6000/Qwen/Qwen3-32B/bf16/tp1"
    model = find_model("qwen3-32b")
    thin = kernel_params(fit_kernels(folder, model, resample=True), ())
    with open(folder / "attention.csv") as file:
        rows = [{k: float(v) for k, v in r.items()} for r in csv.DictReader(file)]
    errors = {True: [], False: []}
    for r in rows:
        at = [r[k] for k in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")]
        found = attention(thin, *at) / model.layers * 1e6
        on_grid = all(np.log2(max(x, 1)) % 1 == 0 for x in at)
        errors[on_grid].append(found / r["time_us"] - 1)
    assert np.max(np.abs(errors[True])) < 1e-3
    assert np.median(np.abs(errors[False])) < 0.05


@needs_runs
@pytest.mark.parametrize(
    ("name", "folder", "limits"),
    [
        ("rtx4090-llama-3.1-8b", "rtx4090-llama-3.1-8b-tp1", (0.01, 0.01, 0.01)),
        ("rtxpro6000-qwen3-32b-tp2", "rtxpro6000-qwen3-32b-tp2", (0.013, 0.008, 0.010)),
    ],
)
def test_whole_runs_on_real_gpus(name, folder, limits):
    """Mean TTFT, TPOT and E2EL of a recorded vLLM 0.19 run; the second is in-sample for the all-reduce."""
    _, table, _ = validated(find_profile(name), name, [llmservingsim.read(RUNS / folder)])
    means = table[(table["phase"] == "all") & (table["statistic"] == "mean")].set_index("metric")["error"]
    for metric, limit in zip(("ttft_s", "tpot_s", "e2el_s"), limits, strict=True):
        assert abs(means[metric]) <= limit, (metric, means[metric])


@needs_runs
def test_single_decode_steps_of_the_4090_run():
    """Tokens/s of seconds in which nothing was prefilled, against running sequences: not only the sum agrees."""
    run = RUNS / "rtx4090-llama-3.1-8b-tp1"
    with open(run / "measured.csv") as file:
        rows = [{k: float(v) for k, v in r.items() if k != "request_id"} for r in csv.DictReader(file)]
    with open(run / "timeseries.csv") as file:
        seconds = [{k: float(v) for k, v in r.items()} for r in csv.DictReader(file)]
    flags = {"version": "0.19", "max_num_seqs": 256, "max_num_batched_tokens": 2048, "max_model_len": 32768}
    settings = resolve(parse(flags), find_model("llama-3.1-8b"), find_gpu("rtx_4090"))
    p = kernel_params(KernelStepTime(**find_profile("rtx4090-llama-3.1-8b").step_time), settings.capture_sizes)
    errors = []
    for second in seconds:
        at = second["t"] - 0.5
        live = [r for r in rows if r["first_token_s"] <= at < r["last_token_s"]]
        if second["prompt_throughput"] or len(live) < 16 or abs(len(live) - second["running"]) > 2:
            continue
        done = [(at - r["first_token_s"]) / (r["last_token_s"] - r["first_token_s"]) for r in live]
        kv = int(sum(r["input_tokens"] + r["output_tokens"] * d for r, d in zip(live, done, strict=True)))
        n = len(live)
        errors.append(gpu_seconds(KERNELS, p, n, 0, 0, 0.0, 0, n, kv, n) * second["gen_throughput"] / n - 1)
    assert len(errors) > 20
    assert abs(np.median(errors)) < 0.05 and np.median(np.abs(errors)) < 0.06


@pytest.mark.parametrize("shipped", PROFILES, ids=lambda s: s.name)
def test_every_folder_makes_a_full_table(shipped):
    folder = KERNEL_DATA / shipped.folder / "bf16" / f"tp{shipped.tp}"
    if not folder.is_dir():
        pytest.skip(f"{KERNEL_DATA} is not there")
    full = fit_kernels(folder, find_model(shipped.folder.split("/", 1)[1]))
    assert min(full.attention_s) >= 0 and len(full.attention_s) >= 12_960


def test_missing_kernel_files_are_named(tmp_path):
    with pytest.raises(ServelabError, match="dense.csv: no such file"):
        fit_kernels(tmp_path, find_model("llama-3.1-8b"))
    (tmp_path / "dense.csv").write_text("layer,tokens\na,1\n")
    with pytest.raises(ServelabError, match="no column 'time_us'"):
        fit_kernels(tmp_path, find_model("llama-3.1-8b"))


def test_interpreted_and_compiled_agree():
    code = (
        "from tests.test_kernels import table; from simulator.engine.step_time.kernels import *; "
        "p = kernel_params(table(), (1, 2, 4, 8));"
        "print([kernel_seconds(p, t, 0, 0, 0.0, t, 40 * t, t, 1, 90).hex() for t in (1, 3, 9, 70)])"
    )
    out = {
        flag: subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPO,
            env={"NUMBA_DISABLE_JIT": flag, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for flag in ("0", "1")
    }
    assert out["0"] == out["1"] != ""


def test_line_needs_no_second_point_below_the_first():
    p = np.array([1.0, 2.0, 10.0, 30.0])
    assert line(p, 0, 2, 1.5) == 20.0 and line(p, 0, 2, 3.0) == 50.0
