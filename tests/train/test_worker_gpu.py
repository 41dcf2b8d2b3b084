"""The worker's GPU: which one it sees, and how it runs out of memory; torch.cuda is played."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.visible_gpu import visible_gpu
from modelforge.train import __main__ as entry
from modelforge.train import worker

pytestmark = pytest.mark.torch


@pytest.fixture
def cuda_run(bench):
    """A run on GPU 1 of the visible ones."""
    run = bench.prepare(hardware={"gpu_index": 1})
    record = json.loads(run.config.read_text())
    record["plan"]["device"] = "cuda"
    run.config.write_text(json.dumps(record))
    return run


@pytest.mark.parametrize(
    ("warm_on", "is_fresh"), [(0, True), (1, False), (None, True)], ids=["0", "1", "none"]
)
@pytest.mark.parametrize("mask", [None, "3,1", "GPU-aa,GPU-bb"])
def test_a_warm_worker_takes_a_run_on_its_own_gpu_only(cuda_run, mask, warm_on, is_fresh):
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if mask:
        os.environ["CUDA_VISIBLE_DEVICES"] = mask
    os.environ.update(visible_gpu(warm_on))
    assert worker.needs_fresh_process(cuda_run.path) is is_fresh
    os.environ.update(visible_gpu(1))
    assert not worker.needs_fresh_process(cuda_run.path)


def test_a_run_on_the_cpu_needs_no_gpu(bench):
    os.environ.update(visible_gpu(None))
    assert not worker.needs_fresh_process(bench.prepare().path)


def test_on_windows_the_supervised_process_stays_while_another_does_the_run(monkeypatch, tmp_path):
    """There execv ends the supervised process, and the run would train on unobserved."""
    called = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("execv on Windows"))
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 3)
    folder = tmp_path / "a b" / "run"
    with pytest.raises(SystemExit) as ended:
        entry._restart(folder)
    assert ended.value.code == 3
    assert called == [[sys.executable, "-m", "modelforge.train", str(folder)]]


@pytest.fixture
def cuda(monkeypatch):
    """A GPU of 8 GiB with 6 GiB free; `cuda.share` is what a process may use of it."""
    import torch

    played = SimpleNamespace(share=None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * 2**30, 8 * 2**30))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share: setattr(played, "share", share)
    )
    return played


def planned(**more):
    """Return the part of a plan that says what a run may use of the GPU."""
    return SimpleNamespace(
        device="cuda", **{"compiles_kernels": True, "max_vram_fraction": 1, **more}
    )


@pytest.mark.parametrize(
    ("system", "fraction", "share"),
    [("Linux", 0.5, 0.5), ("Windows", 0.5, 0.5), ("Windows", 0.9, 0.75), ("Linux", 1.0, None)],
)
def test_a_run_uses_no_more_of_the_gpu_than_its_share(cuda, monkeypatch, system, fraction, share):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "release", lambda: "6.8.0")
    config = TrainingConfig.from_record(
        {
            "task": "text-generation",
            "model_name": "tiny",
            "dataset": "rows.jsonl",
            "compute_specs": "low_end",
            "memory": {"max_vram_fraction": fraction},
        }
    )
    worker._require_gpu(make_plan(config, PlanContext("cuda", "tiny")))
    assert cuda.share == share


@pytest.mark.parametrize(
    ("system", "release", "share"),
    [
        ("Windows", "11", 0.75),
        ("Linux", "6.6.87.2-microsoft-standard-WSL2", 0.75),
        ("Linux", "6.8.0-45-generic", None),
    ],
)
def test_where_the_driver_would_use_ram_running_out_is_an_error(
    cuda, monkeypatch, system, release, share
):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "release", lambda: release)
    worker._require_gpu(SimpleNamespace(device="cpu"))
    assert cuda.share is None
    worker._require_gpu(planned())
    assert cuda.share == share


@pytest.mark.parametrize(
    ("message", "fixed"),
    [("CUDA driver error: operation not supported", True), ("CUDA error: out of memory", False)],
)
def test_a_virtual_gpu_gets_segments_of_fixed_size(cuda, monkeypatch, message, fixed):
    import torch

    from modelforge.train.trainer import private

    def refuse(*_, **__):
        raise RuntimeError(message)

    settings = []
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "release", lambda: "6.8.0")
    monkeypatch.setattr(torch, "empty", refuse)
    monkeypatch.setattr(private.torch.cuda.memory, "_set_allocator_settings", settings.append)
    if fixed:
        worker._require_gpu(planned())
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            worker._require_gpu(planned())
    assert settings == (["expandable_segments:False"] if fixed else [])


@pytest.mark.parametrize("compiles", [True, False])
def test_without_a_compiler_trl_computes_log_probs_with_torch(cuda, monkeypatch, compiles):
    """Its Triton kernel would fail in the first step of dpo and rlhf."""
    from trl.trainer import utils

    monkeypatch.setattr(utils, "_fused_logprob_entropy", print)
    worker._require_gpu(planned(compiles_kernels=compiles))
    assert (utils._fused_logprob_entropy is print) is compiles
