"""GPUs as Kubernetes knows them: resources of device plugins, labels of nodes."""

import re
from typing import Any

# what NVIDIA's GPU feature discovery writes into the label nvidia.com/gpu.product, by catalog name; a slice has that of
# its GPU
PRODUCTS = {
    "a100_pcie": "NVIDIA-A100-80GB-PCIe",
    "a100_sxm": "NVIDIA-A100-SXM4-80GB",
    "a100_sxm_40gb": "NVIDIA-A100-SXM4-40GB",
    "a30": "NVIDIA-A30",
    "a6000": "NVIDIA-RTX-A6000",
    "b200_sxm": "NVIDIA-B200",
    "h100_pcie": "NVIDIA-H100-PCIe",
    "h100_sxm": "NVIDIA-H100-80GB-HBM3",
    "h200_sxm": "NVIDIA-H200",
    "l4": "NVIDIA-L4",
    "l40s": "NVIDIA-L40S",
    "rtx_4090": "NVIDIA-GeForce-RTX-4090",
}


def is_amd(gpu: str) -> bool:
    """Whether a GPU of that name is AMD's: an Instinct.

    >>> is_amd("mi300x"), is_amd("AMD Instinct MI325X"), is_amd("h100_sxm"), is_amd("h100_sxm:3g.40gb")
    (True, True, False, False)
    """
    return re.search(r"(?i)\bamd\b|(?<![a-z])mi\d{3}", gpu) is not None


def resource_of(gpu: str) -> str:
    """The name by which a device plugin offers that GPU.

    >>> resource_of("h100_sxm"), resource_of("h100_sxm:3g.40gb"), resource_of("mi300x")
    ('nvidia.com/gpu', 'nvidia.com/mig-3g.40gb', 'amd.com/gpu')
    """
    _, _, profile = gpu.partition(":")
    return "amd.com/gpu" if is_amd(gpu) else f"nvidia.com/mig-{profile}" if profile else "nvidia.com/gpu"


def preferred_nodes(gpu: str) -> dict[str, Any]:
    """Prefers nodes of that GPU; not more than that, as a cluster may lack the label."""
    product = PRODUCTS.get(gpu.partition(":")[0])
    if product is None:
        return {}
    wanted = {"key": "nvidia.com/gpu.product", "operator": "In", "values": [product]}
    term = {"weight": 100, "preference": {"matchExpressions": [wanted]}}
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}}
