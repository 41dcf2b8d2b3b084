"""Load and clock of the GPU, with its driver library and its queue played."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch


@pytest.fixture
def cuda(monkeypatch):
    """The functions of torch.cuda that are read, for a GPU with 3 GiB reserved."""
    import torch

    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 * 2**30)
    return torch.cuda


def test_an_nvml_error_leaves_the_load_unknown(cuda, monkeypatch):
    """MIG, vGPU and some laptop drivers do not support the query; others fail for a moment."""
    import pynvml

    from modelforge.train.callbacks.system_stats import SystemStats

    for code in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_TIMEOUT):
        error = pynvml.NVMLError(code)

        def fail(error=error):
            raise error

        monkeypatch.setattr(cuda, "utilization", fail)
        load = SystemStats("cuda").read()
        assert load["gpu_percent"] is None
        assert load["vram_gib"] == 3.0


def test_the_load_of_the_gpu_is_read(cuda, monkeypatch):
    from modelforge.train.callbacks.system_stats import SystemStats

    monkeypatch.setattr(cuda, "utilization", lambda: 42)
    assert SystemStats("cuda").read()["gpu_percent"] == 42.0


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_clock_is_read_when_the_device_is_done(device, monkeypatch):
    import torch

    from modelforge.train.callbacks.system_stats import synchronized_time

    waited = []
    monkeypatch.setattr(getattr(torch, device), "synchronize", lambda: waited.append(device))
    synchronized_time(device)
    synchronized_time("cpu")
    assert waited == [device]
