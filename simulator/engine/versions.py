"""Rules and defaults of the vLLM versions that are modelled: one table, data/engine_versions.csv."""

import csv
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from simulator.catalog import GpuSpec, data_folder
from simulator.errors import ServelabError

GIB = 1 << 30
KEYS = ("parameter", "unit", "meaning", "source", "date")

Rules = Mapping[str, float]


@lru_cache
def load_versions() -> Mapping[str, Rules]:
    """Version -> rule -> value."""
    with open(data_folder() / "engine_versions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [column for column in rows[0] if column not in KEYS]
    return MappingProxyType(
        {name: MappingProxyType({row["parameter"]: float(row[name]) for row in rows}) for name in names}
    )


def rules(version: str) -> Rules:
    """The rules of ``version``; a patch version ("0.19.0") has those of its minor.

    >>> rules("0.32")["gpu_memory_utilization"]
    0.92
    >>> rules("0.19.0")["gpu_memory_utilization"]
    0.9
    """
    known = load_versions()
    minor = ".".join(version.strip().removeprefix("v").split(".")[:2])
    if minor not in known:
        raise ServelabError(f"engine.version={version!r} is not modelled; supported: {', '.join(known)}")
    return known[minor]


def batch_defaults(table: Rules, gpu: GpuSpec) -> tuple[int, int]:
    """vLLM's defaults for its OpenAI API server on ``gpu``: max_num_batched_tokens [token], max_num_seqs."""
    for tier in "12":
        fits = gpu.device_memory_bytes >= table[f"batch_memory_{tier}"] * GIB
        if fits and not (table[f"batch_excludes_a100_{tier}"] and "a100" in gpu.name.casefold()):
            return int(table[f"batch_tokens_{tier}"]), int(table[f"batch_seqs_{tier}"])
    return int(table["batch_tokens_3"]), int(table["batch_seqs_3"])


def capture_sizes(
    table: Rules, gpu: GpuSpec, max_num_seqs: int, max_num_batched_tokens: int, limit: int | None
) -> tuple[int, ...]:
    """Batch sizes [token] that vLLM captures as CUDA graphs, ascending; ``limit`` is max_cudagraph_capture_size."""
    blackwell = (gpu.compute_capability or "").startswith("10.")
    largest = limit
    extra = []
    if largest is None:
        ceiling = int(table["graph_size_limit_blackwell" if blackwell else "graph_size_limit"])
        largest = min(2 * max_num_seqs, ceiling)
        if max_num_seqs <= largest:
            extra.append(max_num_seqs)
    largest = min(largest, max_num_batched_tokens)
    sizes = {n for n in (1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)) if n <= largest}
    if table["graph_off_stride_sizes"]:
        if max_num_batched_tokens <= largest:
            extra.append(max_num_batched_tokens)
        sizes.update(n for n in extra if n <= max_num_batched_tokens)
    return tuple(sorted(sizes))
