"""Muon on the card: the fused AdamW beside it, both number formats, and the memory of an update."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu

UPDATE = """
import json, sys, torch
from modelforge.config.optimizers import MUON_BYTES
from modelforge.train.optimizer.grouped import GroupedOptimizer
found = {}
for normalizes in (False, True):
    matrix = torch.nn.Parameter(torch.randn(2048, 2048, device="cuda"))
    scalar = torch.nn.Parameter(torch.randn(2048, device="cuda"))
    groups = [
        {"params": [weight], "lr": 0.1, "weight_decay": 0.1, "is_matrix": weight.ndim == 2}
        for weight in (matrix, scalar)
    ]
    options = {"momentum": 0.9, "adjust_lr_fn": "original", "normalizes": normalizes,
               "beta2": 0.9, "cautious": True}
    optimizer = GroupedOptimizer(groups, 0.1, matrices=options, others={"fused": True})
    for step in range(2):
        for weight in (matrix, scalar):
            weight.grad = torch.randn_like(weight)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        optimizer.step()
    used = torch.cuda.max_memory_allocated() - before
    is_finite = all(bool(weight.isfinite().all()) for weight in (matrix, scalar))
    found[str(normalizes)] = [used / matrix.numel(), MUON_BYTES, is_finite]
print(json.dumps(found))
"""


def test_an_update_with_muon_needs_the_temporary_memory_that_is_estimated():
    done = subprocess.run(
        [sys.executable, "-c", UPDATE], capture_output=True, text=True, check=True
    )
    for used, estimated, is_finite in json.loads(done.stdout.splitlines()[-1]).values():
        assert is_finite
        assert used <= 1.1 * estimated


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_step_with_normuon_trains_all_weights(runs, precision):
    done = runs.one_step(
        optim="normuon", use_4bit=False, adapter={"enabled": False},
        hardware={"precision": precision},
    )  # fmt: skip
    assert not done.failure, done.failure
    assert done.events["step"][-1]["loss"] > 0
