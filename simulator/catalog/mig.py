"""MIG: slices of one GPU, as smaller GPUs.

Fractions are those of NVIDIA's MIG user guide: arithmetic in sevenths, memory and its bandwidth in eighths.
The guide's sevenths are round figures: a 1g slice of an H100 has 16 of 132 SMs, 15 % less than a seventh, and
an A100 gives 98 of its 108 SMs to MIG.
"""

import csv
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog.files import data_folder
from simulator.catalog.gpu import GpuSpec
from simulator.errors import ServelabError, nearest


class MigProfile(BaseModel):
    """One row of data/mig.csv."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str = Field(min_length=1, description="a name of data/gpus.csv")
    profile: str = Field(min_length=1, description="NVIDIA's name, e.g. 1g.10gb")
    compute_slices: int = Field(ge=1, le=7, description="sevenths of the GPU's arithmetic")
    memory_slices: int = Field(ge=1, le=8, description="eighths of the GPU's memory and bandwidth")
    most_per_gpu: int = Field(ge=1, le=7, description="slices of this profile that one GPU holds")
    source: str = ""
    date: str = ""


@lru_cache
def load_mig() -> tuple[MigProfile, ...]:
    """All profiles, in the order of data/mig.csv."""
    with open(data_folder() / "mig.csv", newline="", encoding="utf-8") as file:
        return tuple(MigProfile.model_validate(row) for row in csv.DictReader(file))


@lru_cache(maxsize=256)
def mig_slice(gpu: GpuSpec, profile: str) -> GpuSpec:
    """One slice of ``gpu`` as a GPU of its own.

    Its node is a node of whole GPUs, all cut into this profile: ``gpus_per_node`` counts slices. Slices have no
    NVLink; PCIe and the network are those of the whole GPU, though slices share them. Power is the share of
    compute slices (assumption). Raises ServelabError for a GPU without MIG and an unknown profile.
    """
    known = {row.profile: row for row in load_mig() if row.gpu == gpu.name}
    if not known:
        sliced = ", ".join(dict.fromkeys(row.gpu for row in load_mig()))
        raise ServelabError(f"gpu: {gpu.name}:{profile} has no MIG profiles in data/mig.csv; {sliced} have")
    row = known.get(profile.strip().casefold())
    if row is None:
        raise ServelabError(
            f"gpu: {profile!r} is not a MIG profile of {gpu.name}{nearest(profile, known)}; it has {', '.join(known)}"
        )
    compute, memory = row.compute_slices / 7, row.memory_slices / 8
    usable = gpu.usable_memory_bytes
    return gpu.model_copy(
        update={
            "name": f"{gpu.name}:{row.profile}",
            "memory_bytes": int(gpu.memory_bytes * memory),
            "usable_memory_bytes": None if usable is None else int(usable * memory),
            "memory_bandwidth_bytes_per_s": gpu.memory_bandwidth_bytes_per_s * memory,
            "bf16_flops": gpu.bf16_flops * compute,
            "fp8_flops": None if gpu.fp8_flops is None else gpu.fp8_flops * compute,
            "int8_flops": None if gpu.int8_flops is None else gpu.int8_flops * compute,
            "tdp_w": None if gpu.tdp_w is None else gpu.tdp_w * compute,
            "gpus_per_node": gpu.gpus_per_node * row.most_per_gpu,
            "intra_node_bytes_per_s": None,
            "usable_memory_source": f"{row.memory_slices}/8 of {gpu.name}",
            "source": f"{row.source}: {row.compute_slices}/7 compute, {row.memory_slices}/8 memory of {gpu.name}",
            "date": row.date,
        }
    )
