"""The peak of a GPU by the name that its driver gives it."""

from __future__ import annotations

import pytest

from modelforge.config.pretraining.peak_flops import peak_flops, share_of_peak


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 836),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla T4", 65),
        ("NVIDIA GeForce RTX 4070", 58.3),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 88.2),
        ("NVIDIA GeForce RTX 4070 Ti", 80.2),
        ("NVIDIA GeForce RTX 5090", 209.5),
    ],
)
def test_the_longest_known_part_of_a_name_decides(name, tflops):
    assert peak_flops(name) == pytest.approx(tflops * 1e12)


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A10G", "AMD Radeon", "", "NVIDIA A1000"]
)
def test_other_gpus_have_no_peak(name):
    assert peak_flops(name) is None


def test_the_share_is_work_over_what_the_gpu_could_do():
    assert share_of_peak(30e12, 2.0, 60e12) == pytest.approx(0.25)
    assert share_of_peak(30e12, 2.0, None) is None
    assert share_of_peak(30e12, 0.0, 60e12) is None
