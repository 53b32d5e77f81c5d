"""Nodes, placement, eviction and fragmentation against cases worked by hand; MIG slices."""

import pytest

from simulator.catalog import find_gpu, load_gpus, mig_slice
from simulator.catalog.mig import load_mig
from simulator.errors import ServelabError

# ---- MIG


def test_a_slice_is_sevenths_of_arithmetic_and_eighths_of_memory():
    whole, part = find_gpu("h100"), find_gpu("H100:1g.10gb")
    assert part.name == "h100_sxm:1g.10gb"
    assert part.memory_bytes == 10 * 2**30
    assert part.usable_memory_bytes == whole.usable_memory_bytes // 8
    assert part.memory_bandwidth_bytes_per_s == pytest.approx(3.35e12 / 8)
    assert part.bf16_flops == pytest.approx(989e12 / 7)
    assert part.fp8_flops == pytest.approx(1978e12 / 7)
    assert part.intra_node_bytes_per_s is None and part.link_bytes_per_s == whole.pcie_bytes_per_s
    assert part.gpus_per_node == 7 * 8
    assert mig_slice(whole, "1g.10gb") == part and find_gpu(part.name) == part


@pytest.mark.parametrize(
    ("name", "gib", "sevenths", "per_node"),
    [
        ("h100:1g.20gb", 20, 1, 32),
        ("h100:2g.20gb", 20, 2, 24),
        ("h100:3g.40gb", 40, 3, 16),
        ("h100:4g.40gb", 40, 4, 8),
        ("h100:7g.80gb", 80, 7, 8),
        ("a100_40gb:1g.5gb", 5, 1, 56),
        ("a100_40gb:3g.20gb", 20, 3, 16),
        ("h200:3g.71gb", 70.5, 3, 16),
    ],
)
def test_profiles(name, gib, sevenths, per_node):
    part, whole = find_gpu(name), find_gpu(name.split(":")[0])
    assert part.memory_bytes == pytest.approx(gib * 2**30)
    assert part.bf16_flops == pytest.approx(whole.bf16_flops * sevenths / 7)
    assert part.gpus_per_node == per_node


def test_every_profile_is_of_a_gpu_of_the_catalog_and_fits_it():
    for row in load_mig():
        assert row.gpu in load_gpus() and row.source and row.date
        assert row.most_per_gpu * row.compute_slices <= 7 and row.most_per_gpu * row.memory_slices <= 8
        named = int(row.profile.split(".")[1].removesuffix("gb"))
        assert find_gpu(f"{row.gpu}:{row.profile}").memory_bytes / 2**30 == pytest.approx(named, abs=0.7)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("h100:1g.10g", r"'1g.10g' is not a MIG profile of h100_sxm \(did you mean '1g.10gb'\?\)"),
        ("h100:5g.5gb", r"it has 1g.10gb, 1g.20gb"),
        ("l40s:1g.10gb", r"l40s:1g.10gb has no MIG profiles"),
        ("h100_sxn:1g.10gb", r"'h100_sxn' is not in the catalog \(did you mean 'h100_sxm'\?\)"),
    ],
)
def test_no_such_slice(name, said):
    with pytest.raises(ServelabError, match=said):
        find_gpu(name)
