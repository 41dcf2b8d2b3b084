"""The card itself: what the driver says of it, what the doctor tries on it, what a run holds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modelforge.hardware.doctor import check_stack
from modelforge.hardware.machine import probe_machine

pytestmark = pytest.mark.gpu

ASK_TORCH = """
import json, torch
about = torch.cuda.get_device_properties(0)
print(json.dumps([about.name, about.total_memory / 2**30, [about.major, about.minor]]))
"""


def test_nvml_and_torch_agree_on_the_gpu(card):
    done = subprocess.run(
        [sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, check=True
    )
    name, total_gib, capability = json.loads(done.stdout.splitlines()[-1])
    assert card.name == name
    assert card.total_gib == pytest.approx(total_gib, rel=0.1)
    assert list(card.compute_capability) == capability
    assert 0 < card.free_gib <= card.total_gib


def test_the_doctor_multiplies_four_bit_weights_right(tmp_path):
    rows = check_stack(probe_machine(tmp_path))
    assert all(row.state == "good" for row in rows), rows
    assert any("with 4-bit weights" in row.what for row in rows), rows


def test_a_run_reports_its_peak_memory(runs, card):
    small = runs.one_step(per_device_train_batch_size=1)
    assert not small.failure, small.failure
    assert 0 < small.peak_gib < card.total_gib
    step = small.events["step"][-1]
    assert step["gpu_percent"] is None or 0 <= step["gpu_percent"] <= 100
