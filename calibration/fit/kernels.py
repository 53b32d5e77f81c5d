"""Tables of `simulator.engine.step_time.kernels` from a folder of kernel times (LLMServingSim's profiler: one layer,
microseconds).

The tables hold what was measured, all layers added up; nothing is fitted. Points of the attention grid that were not
measured (they did not fit into memory) follow the nearest measured point by what decoding alone adds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.catalog import ModelSpec
from simulator.engine.step_time.kernels import KernelStepTime
from simulator.errors import ServelabError

PER_MODEL = ("embedding", "final_layernorm")  # once a batch
TWICE = ("layernorm",)  # twice a layer, all others once
AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


def fit_kernels(folder: Path, model: ModelSpec, resample: bool = False) -> KernelStepTime:
    """The tables of ``folder`` for all layers of ``model``.

    With ``resample`` the axes of attention keep powers of two only, which makes the table a tenth as large. Raises
    ServelabError for a file that is missing or lacks a column.
    """
    layers = model.layers
    dense = _read(folder / "dense.csv", ("layer", "tokens", "time_us"))
    times = {name: part.set_index("tokens")["time_us"] for name, part in dense.groupby("layer")}
    tokens = np.sort(dense["tokens"].unique())
    total = sum(
        times[name].reindex(tokens).to_numpy() * (1 if name in PER_MODEL else layers * (2 if name in TWICE else 1))
        for name in times
    )
    head = _read(folder / "per_sequence.csv", ("layer", "sequences", "time_us"))
    by_seqs = head.groupby("sequences")["time_us"].sum()
    given: dict[str, Any] = {
        "dense_tokens": tokens,
        "dense_s": total * 1e-6,
        "head_seqs": by_seqs.index,
        "head_s": by_seqs.to_numpy() * 1e-6,
    }
    if model.moe_layers:
        experts = _experts(_moe_file(folder), model, folder.name)
        given |= {"expert_tokens": experts.index, "expert_s": experts.to_numpy() * 1e-6 * model.moe_layers}
    axes, grid = attention_grid(_read(folder / "attention.csv", (*AXES, "time_us")), resample)
    names = ("prefill_tokens", "history_tokens", "decode_seqs", "context_tokens")
    given |= dict(zip(names, axes, strict=True)) | {"attention_s": grid.ravel() * 1e-6 * layers}
    given |= _skew(folder / "skew_fit.csv")
    return KernelStepTime.model_validate({k: tuple(float(f"{x:.6g}") for x in v) for k, v in given.items()})


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise ServelabError(f"{path.name}: no such file in {str(path.parent)!r}")
    frame = pd.read_csv(path)
    for name in columns:
        if name not in frame:
            raise ServelabError(f"{path.name}: no column {name!r}")
    if frame.empty:
        raise ServelabError(f"{path.name}: no rows")
    return frame


def _moe_file(folder: Path) -> Path:
    """moe.csv of the folder, else of one GPU."""
    own = folder / "moe.csv"
    return own if own.is_file() else folder.with_name("tp1") / "moe.csv"


def _experts(path: Path, model: ModelSpec, parallelism: str) -> pd.Series:
    """Time by tokens [us]: between the measured numbers of experts, at what uniform routing is expected to load.

    Where only one GPU was measured, a rank of n is taken to cost as much as an nth of the experts: it reads an nth of
    each.
    """
    ranks = int(parallelism.removeprefix("tp")) if path.parent.name != parallelism else 1
    frame = _read(path, ("tokens", "activated_experts", "time_us"))
    out = {}
    for tokens in sorted(frame["tokens"].unique().tolist()):
        part = frame[frame["tokens"] == tokens].sort_values("activated_experts")
        loaded = model.experts / ranks * (1 - (1 - model.experts_per_token / model.experts) ** tokens)
        out[tokens] = float(np.interp(loaded, part["activated_experts"], part["time_us"]))
    return pd.Series(out).sort_index()


def attention_grid(frame: pd.DataFrame, resample: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """The four axes and the full grid over them [us]."""
    if resample:
        power = np.logical_and.reduce([(np.log2(frame[a].clip(lower=1)) % 1 == 0) for a in AXES])
        frame = frame[power]
    axes = [np.sort(frame[a].unique()).astype(float) for a in AXES]
    grid = np.full([len(a) for a in axes], np.nan)
    at = tuple(np.searchsorted(axis, frame[name]) for axis, name in zip(axes, AXES, strict=True))
    grid[at] = frame["time_us"]
    if np.isnan(grid[0, 0, 0, 0]):
        grid[0, 0, 0, 0] = 0.0
    grid[0, 1:] = grid[0, :1]  # without a chunk its history does not matter
    grid[:, :, 0, 1:] = grid[:, :, 0, :1]  # without decoding sequences their context does not
    grid[1:, :, 1:, 0] = np.where(np.isnan(grid[1:, :, 1:, 0]), grid[1:, :, :1, 0], grid[1:, :, 1:, 0])
    grid[0, :, 1:, 0] = np.where(np.isnan(grid[0, :, 1:, 0]), grid[0, :, 1:, 1], grid[0, :, 1:, 0])
    _straight_on(grid[0, 0], axes[3])
    grid[0] = grid[0, :1]
    for c in range(1, grid.shape[3]):
        missing = np.isnan(grid[:, :, :, c])
        step = np.maximum(grid[0, :, :, c] - grid[0, :, :, c - 1], 0.0)[None]
        grid[:, :, :, c] = np.where(missing, grid[:, :, :, c - 1] + step, grid[:, :, :, c])
    if np.isnan(grid).any():
        for k in range(1, grid.shape[1]):
            missing = np.isnan(grid[:, k])
            step = np.maximum(grid[:, k - 1, :1, :1] - grid[:, max(k - 2, 0), :1, :1], 0.0)
            grid[:, k] = np.where(missing, grid[:, k - 1] + 2 * step, grid[:, k])
    if np.isnan(grid).any():
        raise ServelabError(
            f"attention.csv: {int(np.isnan(grid).sum())} points of the grid follow from no measured one"
        )
    return axes, grid


def _straight_on(plane: np.ndarray, axis: np.ndarray) -> None:
    """Fill the missing end of each row by the line through its last two points."""
    for row in plane:
        for c in np.flatnonzero(np.isnan(row)):
            slope = max((row[c - 1] - row[c - 2]) / (axis[c - 1] - axis[c - 2]), 0.0)  # noise must not lead below
            row[c] = row[c - 1] + slope * (axis[c] - axis[c - 1])


def _skew(path: Path) -> dict[str, np.ndarray]:
    """Alpha by bucket; a bucket without samples has the mean of its prefill tokens and sequences, or of all."""
    names = ["pc", "n_label", "skew_rate_label", "kv_big_label", "kp_label"]
    frame = _read(path, (*names, "alpha", "n_samples"))
    axes = []
    for name in names:
        value = frame[name].astype(float) if name == "pc" else _edges(frame[name])
        axes.append(np.sort(value.unique()))
        frame = frame.assign(**{name: value})
    frame = frame.assign(weighted=frame["alpha"] * frame["n_samples"])

    def pooled(by: list[str]) -> pd.Series:
        sums = frame.groupby(by)[["weighted", "n_samples"]].sum()
        return sums["weighted"] / sums["n_samples"]

    full = pd.MultiIndex.from_product(axes, names=names)
    table = pooled(names).reindex(full)
    coarse = pooled(names[:2]).reindex(full.droplevel([2, 3, 4]))
    table = table.fillna(pd.Series(coarse.to_numpy(), index=full))
    table = table.fillna(frame["weighted"].sum() / frame["n_samples"].sum())
    keys = ("skew_prefill", "skew_seqs", "skew_share", "skew_longest", "skew_history")
    return dict(zip(keys, axes, strict=True)) | {"skew_alpha": table.to_numpy()}


def _edges(labels: pd.Series) -> pd.Series:
    """Upper edges that labels like ``n<=16``, ``sr<=5%`` and ``kvB<=4k`` name; those without one are open."""
    parts = labels.str.extract(r"(<=|=|>)(\d+)(k|%)?")
    value = parts[1].astype(float) * parts[2].map({"k": 1024.0, "%": 0.01}).fillna(1.0)
    return value.where(parts[0] != ">", 1e9)
