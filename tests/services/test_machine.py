"""The machine as the warm worker and the chat get it, with played GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.visible_gpu import NO_GPU, VISIBLE
from modelforge.hardware.nvidia import Gpu
from modelforge.paths import Home
from modelforge.services.chat import _chat_gpu
from modelforge.services.machine import MachineService
from tests.preflight.contexts import CARD, LAPTOP


@pytest.mark.parametrize(
    ("driver", "visible"), [("590.1", "0"), ("470.1", NO_GPU)], ids=["new", "too old"]
)
def test_the_warm_worker_sees_the_default_gpu_if_torch_can_use_it(tmp_path, driver, visible):
    """With a driver that is too old, importing torchao asks the GPU and raises."""
    gpus = [replace(CARD, driver=driver), replace(CARD, index=1, driver=driver)]
    machine = replace(LAPTOP, gpus=gpus, torch_cuda="13.0")
    service = MachineService(Home(tmp_path), lambda _root: machine)
    assert service.warm_environment()[VISIBLE] == visible


def test_without_a_gpu_the_warm_worker_gets_no_variables(tmp_path):
    assert MachineService(Home(tmp_path), lambda _root: LAPTOP).warm_environment() == {}


def test_a_chat_uses_the_gpu_of_its_run_else_the_emptiest():
    machine = replace(LAPTOP, gpus=[Gpu(0, free_gib=2.0), Gpu(1, free_gib=9.0), Gpu(2)])
    assert _chat_gpu(machine) == 1
    assert [_chat_gpu(machine, index) for index in (0, 2, 7)] == [0, 2, 1]
    assert _chat_gpu(LAPTOP, 1) == 0
