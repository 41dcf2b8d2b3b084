"""One GPU visible to a process, counted as the machine probe counts."""

from __future__ import annotations

import pytest

from modelforge.config.visible_gpu import NO_GPU, ORDER, VISIBLE, visible_gpu
from modelforge.hardware.nvidia import NvmlClient
from tests.hardware.test_machine import Card, Driver

UUIDS = [f"GPU-{number}{number}{number}" for number in range(4)]


@pytest.mark.parametrize(
    "mask", [None, "0", "1,0", "2,3", "1, 2", f"{UUIDS[3]},{UUIDS[1]}", "GPU-22,0", "3,9,1", ""]
)
def test_the_visible_gpu_is_the_one_that_the_probe_shows(mask):
    """Also when the process has already been given another one, as a warm worker."""
    nvml = NvmlClient(Driver(*(Card(uuid=uuid) for uuid in UUIDS)))
    environ = {} if mask is None else {VISIBLE: mask}
    shown = nvml.gpus(2.0, mask)[0]
    for gpu in shown:
        for before in (
            environ,
            environ | visible_gpu(0, environ),
            environ | visible_gpu(1, environ),
        ):
            left = visible_gpu(gpu.index, before)[VISIBLE]
            assert [one.uuid for one in nvml.gpus(2.0, left)[0]] == [gpu.uuid]
    hidden = [visible_gpu(None, environ)[VISIBLE], visible_gpu(4, environ)[VISIBLE]]
    assert all(nvml.gpus(2.0, mask)[0] == [] for mask in hidden)


def test_hiding_does_not_unset_the_variable_on_windows():
    assert visible_gpu(None, {})[VISIBLE] == NO_GPU != ""


def test_the_users_order_holds_for_the_users_numbers_only():
    fastest = {ORDER: "FASTEST_FIRST"}
    assert visible_gpu(0, fastest)[ORDER] == "PCI_BUS_ID"
    masked = visible_gpu(1, fastest | {VISIBLE: "1,0"})
    assert (masked[VISIBLE], masked[ORDER]) == ("0", "FASTEST_FIRST")
    assert visible_gpu(1, fastest | masked) == masked
