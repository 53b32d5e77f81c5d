"""Writes the profiles that ship from measured kernel times: ``python -m calibration.make_kernel_profiles KERNELS
[RUNS]``.

KERNELS is a folder of LLMServingSim's profiler (GPU/MODEL/bf16/tpN), RUNS one of its bench, which the profiles are
validated on.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from calibration.fit.kernels import fit_kernels
from calibration.formats import llmservingsim
from calibration.profiles.build_profile import validated
from simulator.catalog import data_folder, find_model
from simulator.catalog.profile import SCHEMA, Profile, read_profile

ALL_REDUCE_S = 27e-6
"""Latency of one all-reduce between two RTX PRO 6000 over PCIe [s]; with ALL_REDUCE_BYTES_PER_S taken from one run,
Qwen3-32B TP2."""
ALL_REDUCE_BYTES_PER_S = 14.5e9
"""Its bandwidth [B/s], from the same run."""


class Shipped(NamedTuple):
    """One profile: its name, where its kernels are, and the catalog's names."""

    name: str
    folder: str
    gpu: str
    tp: int
    run: str = ""


PROFILES = (
    Shipped("rtx4090-llama-3.1-8b", "RTX4090/meta-llama/Llama-3.1-8B", "rtx_4090", 1, "rtx4090-llama-3.1-8b-tp1"),
    Shipped("rtxpro6000-llama-3.1-8b", "RTXPRO6000/meta-llama/Llama-3.1-8B", "rtx_pro_6000", 1),
    Shipped("rtxpro6000-qwen3-32b", "RTXPRO6000/Qwen/Qwen3-32B", "rtx_pro_6000", 1),
    Shipped("rtxpro6000-qwen3-32b-tp2", "RTXPRO6000/Qwen/Qwen3-32B", "rtx_pro_6000", 2, "rtxpro6000-qwen3-32b-tp2"),
    Shipped("rtxpro6000-qwen3-30b-a3b", "RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507", "rtx_pro_6000", 1),
    Shipped("rtxpro6000-qwen3-30b-a3b-tp2", "RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507", "rtx_pro_6000", 2),
)


def make(shipped: Shipped, kernels: Path) -> Profile:
    """The profile of one folder of kernels, not validated. Raises ServelabError as `fit_kernels`."""
    folder = kernels / shipped.folder / "bf16"
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    model = find_model(shipped.folder.split("/", 1)[1])
    step = fit_kernels(folder / f"tp{shipped.tp}", model, resample=True)
    notes = [
        "GPU kernels only: no host time, which asynchronous scheduling hides behind the GPU",
        "kernels were measured one by one without CUDA graphs",
    ]
    if shipped.tp > 1:
        reduces = 2 * model.layers + 1
        per_token = 2 * model.hidden_size * 2 * (shipped.tp - 1) / shipped.tp / ALL_REDUCE_BYTES_PER_S
        step = step.model_copy(
            update={"collectives_s": reduces * ALL_REDUCE_S, "collectives_token_s": reduces * per_token}
        )
        notes.append(
            f"all-reduces over PCIe: {ALL_REDUCE_S * 1e6:.0f} us and {ALL_REDUCE_BYTES_PER_S / 1e9:.1f} GB/s each, "
            "both taken from the run of Qwen3-32B on two GPUs, which is therefore in-sample"
        )
    if model.moe_layers and not (folder / f"tp{shipped.tp}" / "moe.csv").is_file():
        notes.append(
            f"experts were measured on one GPU; a rank of {shipped.tp} is assumed to cost as much as 1/{shipped.tp} "
            "of them"
        )
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "name": shipped.name,
        "models": [model.name],
        "gpu": shipped.gpu,
        "dtype": "bfloat16",
        "tensor_parallel_size": [shipped.tp],
        "engine_version": ".".join(str(meta["vllm_version"]).split(".")[:2]),
        "step_time": step.model_dump(exclude_defaults=True) | {"kind": "kernels"},
        "trust": "measured",
        "units": {"*_tokens": "token", "*_seqs": "sequence", "*_s": "s"},
        "domain": {"decode_seqs": [0, 256], "prefill_tokens": [0, 2048], "context": [1, 16384]},
        "provenance": {
            "source": "vLLM kernel profile, LLMServingSim profiler (casys-kaist, MIT), resampled to powers of two",
            "date": str(meta["profiled_at"])[:10],
            "vllm": meta["vllm_version"],
            "hardware": meta["gpu"],
            "cuda": str(meta["cuda_version"]),
            "notes": notes,
        },
    }
    return Profile.model_validate(data)


def main(arguments: list[str] | None = None) -> int:
    """The command line; writes to data/profiles."""
    parser = argparse.ArgumentParser(
        prog="calibration.make_kernel_profiles", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("kernels", type=Path)
    parser.add_argument("runs", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=data_folder() / "profiles")
    args = parser.parse_args(arguments)
    for shipped in PROFILES:
        file = args.out / f"{shipped.name}.json"
        file.write_text(make(shipped, args.kernels).to_json())
        if args.runs and shipped.run:
            run = llmservingsim.read(args.runs / shipped.run)
            seen = [run.name] if shipped.tp > 1 else []
            profile, _, _ = validated(read_profile(file), str(file.resolve()), [run], in_sample=seen)
            derived = replace(
                run,
                name=f"{run.name}, derived KV blocks",
                engine={k: v for k, v in run.engine.items() if k != "num_gpu_blocks"},
            )
            if "num_gpu_blocks" in run.engine:
                profile, _, _ = validated(profile, str(file.resolve()), [derived])
            file.write_text(profile.to_json())
    return 0
