"""What a GPU can do, from its datasheet."""

from pydantic import BaseModel, ConfigDict, Field


class GpuSpec(BaseModel):
    """One GPU. Arithmetic rates are dense, without sparsity.

    A scenario may define its own with the same fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    memory_bytes: int = Field(gt=0, description="memory on the datasheet [B]")
    usable_memory_bytes: int | None = Field(default=None, gt=0, description="memory that CUDA reports [B]")
    memory_bandwidth_bytes_per_s: float = Field(gt=0, description="[B/s]")
    bf16_flops: float = Field(gt=0, description="[FLOP/s]")
    fp8_flops: float | None = Field(default=None, gt=0, description="[FLOP/s]; None: computes fp8 as bf16")
    int8_flops: float | None = Field(default=None, gt=0, description="[OP/s]")
    tdp_w: float | None = Field(default=None, gt=0, description="[W]")
    gpus_per_node: int = Field(default=8, gt=0)
    intra_node_bytes_per_s: float | None = Field(default=None, gt=0, description="link per direction [B/s]")
    inter_node_bytes_per_s: float | None = Field(default=None, gt=0, description="network [B/s]")
    pcie_bytes_per_s: float = Field(default=32e9, gt=0, description="[B/s]")
    compute_capability: str | None = Field(default=None, description="NVIDIA's, e.g. 9.0")
    usable_memory_source: str = ""
    source: str = "defined by the user"
    date: str = ""

    @property
    def device_memory_bytes(self) -> int:
        """Memory that vLLM sees on the device [B]."""
        return self.usable_memory_bytes or self.memory_bytes

    @property
    def link_bytes_per_s(self) -> float:
        """Link between GPUs of a node, per direction [B/s]; PCIe where there is no other."""
        return self.intra_node_bytes_per_s or self.pcie_bytes_per_s

    def flops(self, bits: int) -> float:
        """Dense rate of matrix products whose operands both have ``bits`` bits [FLOP/s]."""
        return self.fp8_flops if bits == 8 and self.fp8_flops else self.bf16_flops
