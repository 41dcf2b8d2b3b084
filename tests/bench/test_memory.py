"""The memory benchmark on a GPU: what is compared, and what a refused run becomes."""

from __future__ import annotations

import sys

import pytest

from bench.like_with_like import tensors_gib
from modelforge.errors import BlockedError, blocker
from modelforge.paths import Home
from modelforge.preflight.memory.estimate import OVERHEAD_GIB
from modelforge.preflight.report import Report
from tests.conftest import ROOT


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    before = set(sys.modules)
    import memory

    yield memory
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(ROOT / "bench") in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_the_estimate_leaves_the_cuda_context_out_as_the_peak_does(memory):
    report = Report(memory_total_gib=10.0)
    assert memory._estimate(report, "cuda") == tensors_gib(report) == 10.0 - OVERHEAD_GIB
    assert memory._estimate(report, "cpu") == 10.0
    assert tensors_gib(None) is None


def test_a_refused_run_is_a_row_and_the_next_cell_follows(memory, monkeypatch, tmp_path):
    def refuse(_service, _layer):
        raise BlockedError([blocker("memory-base", "It needs 40 GiB.", where="model_name")])

    monkeypatch.setattr("modelforge.services.runs.RunService.start", refuse)
    row = memory.measure_run(Home(tmp_path), {})
    assert "40 GiB" in row["error"]


def test_a_gpu_is_measured_without_the_starter(memory):
    shapes = {cell.shape for cell in memory.cells("cuda")}
    assert "starter" not in shapes
    assert {"135M", "8B"} <= shapes
