"""Power of a GPU fitted to watts that others measured on vLLM: ``python -m calibration.fit_power ML_ENERGY.csv
data/power.csv``.

Each row of the closed-loop runs gives watts and tokens a second; arithmetic and bytes of its steps come from the
model's figures, as the simulator counts them. The fit minimises relative error with coefficients that are not negative;
held out is one model at a time.
"""

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from calibration.measure.steady_rows import CONTEXT_SHARE, PROMPT_TOKENS, SteadyRow, read_rows, screen
from simulator.cost.energy import COMPUTE_POWER, Power, busy_w
from simulator.engine.work import weight_bytes, work

GPUS = ("H100", "B200")
SOURCE = (
    "fitted by calibration.fit_power to measured watts of vLLM (ML.ENERGY v3, lm-arena-chat), screened as the "
    "step times are"
)


@dataclass(frozen=True)
class PowerFit:
    """Coefficients and, by row, watts of one GPU measured and held-out, whether the model has experts."""

    power: Power
    rows: pd.DataFrame

    def error(self, experts: bool | None = None) -> float:
        """Median absolute relative error, held out; of watts and, tokens a second being measured, of J/token too."""
        rows = self.rows if experts is None else self.rows[self.rows["experts"] == experts]
        return float((rows["held_out_w"] / rows["measured_w"] - 1).abs().median())


def _figures(row: SteadyRow) -> tuple[float, float]:
    """MBU and MFU of a run."""
    w, gpus = work(row.model, row.settings), row.settings.tensor_parallel_size
    step = row.batch / row.throughput
    joining = row.batch / row.output_tokens * PROMPT_TOKENS
    context = PROMPT_TOKENS + CONTEXT_SHARE * row.output_tokens
    flops = (
        w.flops_per_token * (row.batch + joining)
        + w.flops_per_pair * row.batch * context
        + w.flops_per_sample * row.batch
    )
    moved = weight_bytes(w, row.batch + joining) + w.kv_bytes_per_token * row.batch * context
    rate = row.gpu.flops(8 if row.settings.quantization == "fp8" else 16)
    return moved / step / (gpus * row.gpu.memory_bandwidth_bytes_per_s), flops / step / (gpus * rate)


def fit_power(path: Path, gpu: str) -> PowerFit:
    """Fit ``gpu`` ("H100"). Raises ServelabError where the file is missing or has no row of it."""
    kept, _ = screen(read_rows(path, gpu)[0])
    watts = _watts(path, gpu)
    rows = pd.DataFrame(
        [(r.group, r.model.moe_layers > 0, *_figures(r), watts[_key(r)]) for r in kept],
        columns=["model", "experts", "mbu", "mfu", "measured_w"],
    )
    tdp = kept[0].gpu.tdp_w or float("inf")
    held_out = np.empty(len(rows))
    for name in rows["model"].unique():
        out = rows["model"] == name
        p = _fit(rows[~out], tdp)
        held_out[out] = busy_w(p, rows.loc[out, "mbu"].to_numpy(), rows.loc[out, "mfu"].to_numpy())
    return PowerFit(_fit(rows, tdp), rows.assign(held_out_w=held_out))


def _fit(rows: pd.DataFrame, tdp_w: float) -> Power:
    x = np.column_stack([np.ones(len(rows)), rows["mbu"].clip(0, 1), rows["mfu"] ** COMPUTE_POWER])
    found, _ = nnls(x / rows["measured_w"].to_numpy()[:, None], np.ones(len(rows)))
    base, memory, compute = (float(v) for v in found)
    return Power(base, memory, compute, tdp_w, float("nan"), SOURCE)


def _key(row: SteadyRow) -> tuple[str, int, float]:
    return row.series, row.max_num_seqs, round(row.batch, 4)


def _watts(path: Path, gpu: str) -> dict[tuple[str, int, float], float]:
    """Measured watts of one GPU of each run: the column is of all GPUs together, or it would be beyond their TDP."""
    out = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["gpu_model"] == gpu:
                series = f"{line['model_id']} {line['weight_precision']} x{line['num_gpus']}"
                key = (series, int(line["max_num_seqs"]), round(float(line["avg_batch_size"]), 4))
                out[key] = float(line["avg_power_watts"]) / int(line["num_gpus"])
    return out


def lines(path: Path) -> list[dict[str, object]]:
    """Rows of data/power.csv."""
    out: list[dict[str, object]] = []
    for gpu in GPUS:
        fit = fit_power(path, gpu)
        out.append(
            {
                "gpu": {"H100": "h100_sxm", "B200": "b200_sxm"}[gpu],
                "base_w": round(fit.power.base_w, 1),
                "memory_w": round(fit.power.memory_w, 1),
                "compute_w": round(fit.power.compute_w, 1),
                "unit": "W",
                "median_error": round(fit.error(), 4),
                "median_error_dense": round(fit.error(False), 4),
                "median_error_experts": round(fit.error(True), 4),
                "rows": len(fit.rows),
                "source": SOURCE,
                "date": "2026-11-24",
            }
        )
    return out


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="calibration.fit_power", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("measured", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    args = parser.parse_args(arguments)
    rows = lines(args.measured)
    for row in rows:
        sys.stdout.write(
            f"{row['gpu']}: {row['base_w']} + {row['memory_w']} MBU + {row['compute_w']} MFU^(1/3) W; held-out median "
            f"error of watts and J/token {row['median_error']:.1%} (dense {row['median_error_dense']:.1%}, experts "
            f"{row['median_error_experts']:.1%}), {row['rows']} rows\n"
        )
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0
