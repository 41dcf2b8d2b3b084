"""What a process sees of the GPU: its mask, its load, its clock; played in tests/train."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from modelforge.config.visible_gpu import VISIBLE, visible_gpu

pytestmark = pytest.mark.gpu

SEEN = """
import json, torch
uuids = [str(torch.cuda.get_device_properties(n).uuid) for n in range(torch.cuda.device_count())]
print(json.dumps(uuids))
"""
TIMED = """
import json, time, torch
from modelforge.train.callbacks.system_stats import SystemStats, synchronized_time
square = torch.randn(8192, 8192, device="cuda")
torch.cuda.synchronize()
began, launch = synchronized_time("cuda"), time.perf_counter()
for _ in range(20):
    square @ square
launched = time.perf_counter() - launch
print(json.dumps([launched, synchronized_time("cuda") - began, SystemStats("cuda").read()]))
"""


def ask(code: str, **variables: str):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_process_sees_the_gpu_of_its_index_alone(card):
    for before in ({}, {VISIBLE: card.uuid}):
        environ = {name: value for name, value in os.environ.items() if name != VISIBLE} | before
        masked = visible_gpu(0, environ)
        (uuid,) = ask(SEEN, **masked)
        assert uuid in card.uuid
    assert ask(SEEN, **visible_gpu(None)) == []


def test_the_clock_waits_for_the_gpu_and_the_load_is_read():
    launched, took, load = ask(TIMED)
    assert launched < took
    assert load["gpu_percent"] is None or 0 <= load["gpu_percent"] <= 100
    assert load["vram_gib"] > 0
