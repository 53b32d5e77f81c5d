"""A run of LLMServingSim's ``bench``: a folder with workload.jsonl, measured.csv and meta.json.

Latency starts at ``arrival_s`` of measured.csv, when the request was sent; prompts share the blocks of 16 tokens whose
ids agree.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.measure.measured import MeasuredRun
from simulator.errors import ServelabError

BLOCK_TOKENS = 16
NEEDED = ("request_id", "input_tokens", "output_tokens", "arrival_s", "first_token_s", "last_token_s")

# flags of a recorded engine -> what the replay calls them; one that says vLLM's default says nothing
CARRIED = {
    name: name
    for name in (
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_model_len",
        "dtype",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "quantization",
        "kv_cache_dtype",
        "gpu_memory_utilization",
        "block_size",
        "enable_prefix_caching",
        "enable_chunked_prefill",
        "async_scheduling",
        "enforce_eager",
        "long_prefill_token_threshold",
    )
} | {"enable_expert_parallel": "expert_parallel"}
DEFAULTS = {
    "data_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "enable_expert_parallel": False,
    "kv_cache_dtype": "auto",
    "enforce_eager": False,
}
HARMLESS = ("model", "seed", "load_format", "trust_remote_code", "disable_log_stats")


def knows(folder: Path) -> bool:
    """Whether ``folder`` is such a run."""
    return all((folder / name).is_file() for name in ("workload.jsonl", "measured.csv", "meta.json"))


def read(folder: Path) -> MeasuredRun:
    """The load test. Raises ServelabError for a missing column, or requests that the workload does not name."""
    meta = json.loads((folder / "meta.json").read_text())
    frame = pd.read_csv(folder / "measured.csv")
    for name in NEEDED:
        if name not in frame:
            raise ServelabError(f"{folder.name}/measured.csv: no column {name!r}")
    blocks = {}
    for line in (folder / "workload.jsonl").read_text().splitlines():
        row = json.loads(line)
        blocks[row["request_id"]] = row.get("prefix_block_ids", [])
    unknown = [r for r in frame["request_id"] if r not in blocks]
    if unknown:
        raise ServelabError(f"{folder.name}: workload.jsonl has no request {unknown[0]!r}")
    frame = frame.sort_values("arrival_s", kind="stable").reset_index(drop=True)
    done = frame["last_token_s"].notna()
    kept = frame[done]
    table = pd.DataFrame(
        {
            "arrival_s": kept["arrival_s"],
            "prompt_tokens": kept["input_tokens"],
            "output_tokens": kept["output_tokens"],
            "ttft_s": kept["first_token_s"] - kept["arrival_s"],
            "e2el_s": kept["last_token_s"] - kept["arrival_s"],
            "prefix": [
                [(int(b), BLOCK_TOKENS) for b in blocks[r][: n // BLOCK_TOKENS]]
                for r, n in zip(kept["request_id"], kept["input_tokens"], strict=True)
            ],
        }
    ).reset_index(drop=True)
    flags = {k: v for k, v in meta["engine_kwargs"].items() if v is not None and DEFAULTS.get(k, ...) != v}
    for name, value in flags.items():
        if name not in (*CARRIED, *HARMLESS):
            raise ServelabError(
                f"{folder.name}/meta.json: engine_kwargs.{name}={value!r} changes what was measured and is not "
                f"simulated from a recording; known are {', '.join(CARRIED)}"
            )
    engine = {CARRIED[k]: v for k, v in flags.items() if k in CARRIED}
    engine |= {"model": flags["model"], "version": ".".join(meta["vllm_version"].split(".")[:2])}
    pool = meta.get("kv_cache", {})
    engine |= {k: pool[k] for k in ("num_gpu_blocks", "block_size", "enable_prefix_caching") if pool.get(k) is not None}
    notes = () if "num_gpu_blocks" in engine else ("the run did not record its KV blocks: the derived number is used",)
    gaps: tuple[np.ndarray, ...] = ()
    return MeasuredRun(
        name=folder.name,
        requests=table,
        itl_s=gaps,
        failed=int((~done).sum()),
        engine=engine,
        source=f"vLLM {meta['vllm_version']}, {meta['started_at'][:10]}, LLMServingSim bench (MIT)",
        notes=notes,
    )
