"""Closed-loop vLLM runs at a fixed number of concurrent requests, and what a step-time model predicts for them.

Every finished request is replaced by a new one, so each step carries the decoding batch and the prompts of
Poisson(batch / output length) joining requests. Prompt lengths are not published: gamma around
`PROMPT_TOKENS` is assumed (as are contexts of prompt + `CONTEXT_SHARE` of the output length). The median
inter-token latency is the step with the median number of prompt tokens, the throughput the batch over the mean step.
Mean and shape of the prompts were chosen after their hold-out errors were seen, so those are not blind to these two
numbers.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc
from scipy.stats import poisson

from simulator.catalog import GpuSpec, ModelSpec, find_gpu, find_model
from simulator.engine.config import EngineSettings, parse, resolve
from simulator.engine.step_time.config import gpu_seconds
from simulator.errors import ServelabError

PROMPT_TOKENS = 350.0  # mean prompt [token], one of 250, 300, 350, 400; H100 dense rows
PROMPT_SHAPE = 0.35  # of the gamma distribution of prompts, coefficient of variation 1.7, assumption
CONTEXT_SHARE = 0.85  # of the output length that a decoding sequence holds on average, assumption
QUANTILES = (np.arange(8) + 0.5) / 8
STALLED = 1.7  # mean over median inter-token latency
SHORT = 0.97  # of max_num_seqs
DIP = 0.97  # of the latency at a smaller batch


@dataclass(frozen=True)
class SteadyRow:
    """One run: what was served, and what was measured."""

    series: str  # model, precision, GPUs
    model: ModelSpec
    gpu: GpuSpec
    settings: EngineSettings
    max_num_seqs: int
    batch: float  # mean running requests
    output_tokens: float  # mean per request
    itl_s: float  # median
    throughput: float  # output tokens [token/s]

    @property
    def name(self) -> str:
        return f"{self.gpu.name} {self.series} max_num_seqs={self.max_num_seqs}"

    @property
    def group(self) -> str:
        """Architecture: what leave-one-model-out leaves out."""
        return self.model.name


def joining_tokens(rate: float) -> np.ndarray:
    """Median, then mid-quantiles, of the prompt tokens that join one step, in mean prompt lengths.

    The sum of Poisson(rate) gamma variables. The quantiles are scaled to the mean, ``rate``.
    """
    counts = np.arange(1, int(rate + 10 * rate**0.5 + 10))
    weights = poisson.pmf(counts, rate)

    def quantile(level: float) -> float:
        gap = lambda x: np.exp(-rate) + float(weights @ gammainc(PROMPT_SHAPE * counts, PROMPT_SHAPE * x)) - level
        return 0.0 if gap(0.0) >= 0 else float(brentq(gap, 0.0, counts[-1] * 50.0))

    found = np.array([quantile(level) for level in QUANTILES])
    scale = rate / found.mean() if found.mean() > 0 else 0.0
    spread = found * scale if scale else np.where(QUANTILES == QUANTILES[-1], rate * len(QUANTILES), 0.0)
    return np.concatenate([[quantile(0.5)], spread])


def predict(row: SteadyRow, code: int, params: np.ndarray, host_s: float, joining: np.ndarray) -> np.ndarray:
    """Median inter-token latency [s] and mean of the steps [s] of ``row``; ``joining`` from `joining_tokens`."""
    n = round(row.batch)
    kv = int(row.batch * (PROMPT_TOKENS + CONTEXT_SHARE * row.output_tokens))
    times = np.empty(len(joining))
    for i, share in enumerate(joining):
        tokens = round(share * PROMPT_TOKENS)
        prompts = max(1, round(share)) if tokens else 0
        length = tokens / prompts if prompts else 0.0
        pairs = tokens * (length + 1) / 2
        times[i] = gpu_seconds(code, params, n + tokens, tokens, prompts, pairs, tokens, n, kv, n + prompts)
    return np.array([times[0] + host_s, times[1:].mean() + host_s])


def read_rows(path: Path, gpu: str) -> tuple[list[SteadyRow], list[str]]:
    """Rows of ``gpu`` ("H100"), and the models without a row in data/models.csv.

    Expert parallelism is taken as vLLM runs it in one replica: attention tensor parallel over the same GPUs.
    Raises ServelabError where the file is missing or holds no row of the GPU.
    """
    if not path.is_file():
        raise ServelabError(f"steady-state runs {str(path)!r}: no such file")
    spec, rows, outside = find_gpu(gpu), [], []
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["gpu_model"] != gpu:
                continue
            try:
                model = find_model(line["model_id"])
            except ServelabError:
                outside.append(line["model_id"])
                continue
            seqs, gpus = int(line["max_num_seqs"]), int(line["num_gpus"])
            flags = {
                "version": "0.19",
                "async_scheduling": True,
                "tensor_parallel_size": gpus,
                "quantization": "fp8" if line["weight_precision"] == "fp8" else "none",
                "max_num_seqs": seqs,
                "max_num_batched_tokens": max(8192, seqs),
                "num_gpu_blocks_override": 10**7,
            }
            rows.append(
                SteadyRow(
                    series=f"{line['model_id']} {line['weight_precision']} x{gpus}",
                    model=model,
                    gpu=spec,
                    settings=resolve(parse(flags), model, spec),
                    max_num_seqs=seqs,
                    batch=float(line["avg_batch_size"]),
                    output_tokens=float(line["avg_output_len"]),
                    itl_s=float(line["median_itl_ms"]) / 1e3,
                    throughput=float(line["output_throughput_tokens_per_sec"]),
                )
            )
    if not rows:
        raise ServelabError(f"steady-state runs {str(path)!r}: no row of gpu_model={gpu!r} with a known model")
    return rows, sorted(set(outside))


def screen(rows: list[SteadyRow]) -> tuple[list[SteadyRow], list[str]]:
    """Rows kept, and name and reason of each other one. Three rules, none looks at a prediction:

    the batch is below 0.97 of max_num_seqs (the KV pool was full: requests are preempted and computed twice);
    the mean step is above 1.7 times the median latency (tokens reached the client in bursts);
    median or mean step is below 0.97 times that of a smaller batch of the series (the smaller one was
    disturbed: more work cannot take less time), in which case the smaller one goes.
    """
    kept, screened = [], []
    for row in rows:
        peers = [r for r in rows if r.series == row.series and r.batch > 1.05 * row.batch]
        step = row.batch / row.throughput
        later = [r for r in peers if r.batch >= SHORT * r.max_num_seqs and _even(r)]
        larger = min((min(r.itl_s / row.itl_s, r.batch / r.throughput / step) for r in later), default=9.0)
        if row.batch < SHORT * row.max_num_seqs:
            screened.append(f"{row.name}: KV pool full, {row.batch:.0f} running")
        elif not _even(row):
            screened.append(f"{row.name}: mean step {step / row.itl_s:.2f} times the median latency")
        elif larger < DIP:
            screened.append(f"{row.name}: a larger batch took {larger:.2f} of its time")
        else:
            kept.append(row)
    return kept, screened


def _even(row: SteadyRow) -> bool:
    return row.batch / row.throughput < STALLED * row.itl_s
