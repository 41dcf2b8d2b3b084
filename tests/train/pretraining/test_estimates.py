"""Estimates of trainings from nothing, against real steps, files and processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.pretraining.settings import shape_of
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.from_nothing import info_of_shape
from modelforge.preflight.disk import disk_needed_gib
from modelforge.preflight.memory.block import block_bytes
from modelforge.preflight.memory.estimate import estimate_memory, total_gib, trained_sizes

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

GIB = 2**30
SHORT, LONG, ROWS = 128, 256, 4
FEW, MANY = 2, 4
SHAPES = [("llama", 4), ("llama", 2), ("qwen3", 4), ("nanochat", 4)]


def planned(arch, length, *, layers=FEW, kv_heads=4, dropout=0.0, precision="fp32", **settings):
    """Return config, plan and facts of a small model from nothing."""
    group = {
        "enabled": True,
        "arch": arch,
        "d_model": 256,
        "n_heads": 4,
        "n_kv_heads": kv_heads,
        "n_layers": layers,
        "vocab_size": 300,
        "dropout": dropout,
    }
    values = {
        "dataset": "text.txt",
        "compute_specs": "low_end",
        "max_seq_length": length,
        "per_device_train_batch_size": ROWS,
        "eval_split": 0.0,
        "hardware": {"precision": precision},
        "pretraining": group | settings.pop("pretraining", {}),
    }
    config = TrainingConfig(**values | settings)
    shape = shape_of(config.pretraining, context=length)
    return config, make_plan(config, PlanContext("cpu", "d6")), info_of_shape(shape, "d6")


def peak_gib(folder):
    """Do a run in a worker process of its own; return its resident memory at the peak."""
    peak = 0
    command = [sys.executable, "-m", "modelforge.train", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as worker:
        while worker.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{worker.pid}/status").read_text("utf-8")
                peak = max(peak, int(status.split("VmHWM:")[1].split()[0]))
            time.sleep(0.02)
    return peak * 1024 / GIB


def folder_bytes(folder):
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def kept_bytes(config, plan):
    """Return the bytes that autograd keeps of a forward pass without the head, beside weights."""
    import torch

    from modelforge.modeling.pretraining.build import build_model

    planned = plan.pretraining
    model = build_model(planned.shape, dropout=config.pretraining.dropout).train()
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    sizes, kept = {}, []

    def pack(tensor):
        kept.append(tensor)  # so that no address is used twice
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.dtype != torch.bool:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(ROWS, planned.shape.context, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.model(input_ids=ids, use_cache=False)
    return sum(sizes.values())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("arch", "kv_heads"), SHAPES)
def test_a_layer_keeps_what_the_formula_says(arch, kv_heads, dropout):
    kept = {}
    for layers in (FEW, MANY):
        config, plan, info = planned(arch, LONG, layers=layers, kv_heads=kv_heads, dropout=dropout)
        kept[layers] = kept_bytes(config, plan)
    measured = (kept[MANY] - kept[FEW]) / (MANY - FEW) / (ROWS * LONG)
    assert block_bytes(config, plan, info, LONG) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(("arch", "kv_heads"), SHAPES)
def test_a_step_holds_what_the_formula_says(arch, kv_heads):
    """Weights, gradients, activations and logits of a step of two micro-batches, at its peak."""
    import torch

    from modelforge.modeling.pretraining.build import build_model
    from modelforge.train.memory_trace.tensors import TensorTracker

    group = {"vocab_size": 4_000}
    config, plan, info = planned(arch, LONG, layers=MANY, kv_heads=kv_heads, pretraining=group)
    model = build_model(plan.pretraining.shape).train()
    ids = torch.zeros(ROWS, LONG, dtype=torch.long)
    live = TensorTracker(4_000, lambda tensor: tensor)
    live.register(model.parameters(), "weights")
    live.register_gradients(model)
    with live.recording() as found:
        for _ in range(2):
            model(input_ids=ids, labels=ids, shift_labels=ids, use_cache=False).loss.backward()
    parts = {part.name: part.gib * GIB for part in estimate_memory(config, plan, info, LONG)}
    names = ("weights", "gradients", "activations", "logits")
    assert sum(parts[name] for name in names) == pytest.approx(sum(found.values()), rel=0.1)


def test_a_frozen_embedding_has_no_gradient_and_no_state():
    config, plan, info = planned("llama", SHORT, pretraining={"tokenizer": "starter"})
    frozen = config.with_changes({"pretraining.freeze_embeddings": True})
    table = 300 * 256
    before, after = (trained_sizes(each, plan, info).total for each in (config, frozen))
    assert before - after == table


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_worker_takes_the_memory_and_the_disk_that_are_estimated(from_nothing):
    group = {"d_model": 256, "n_heads": 4, "n_layers": 4, "total_batch_tokens": 8192}
    settings = {
        "pretraining": group,
        "max_seq_length": 256,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 16,
        "max_steps": 2,
        "eval_steps": 1,
    }
    run = from_nothing(**settings)
    peak = peak_gib(run.path)
    assert run.has_model
    from modelforge.train.job import Job

    job = Job.read(run)
    info = info_of_shape(job.plan.pretraining.shape, "d2")
    cuda = bool(torch_build())
    parts = estimate_memory(job.config, job.plan, info, 256, is_cuda_build=cuda)
    assert total_gib(parts) == pytest.approx(peak, rel=0.15)
    (checkpoint,) = run.path.glob("checkpoints/checkpoint-2")
    sizes = trained_sizes(job.config, job.plan, info)
    state = OPTIMIZERS[job.plan.optim].state_bytes(sizes, 4)
    assert folder_bytes(checkpoint) == pytest.approx(4 * info.parameters + state, rel=0.05)
    needed = disk_needed_gib(job.config, job.plan, info)
    assert folder_bytes(run.path) / GIB < needed < 4 * folder_bytes(run.path) / GIB


def torch_build():
    """Return the version of CUDA that PyTorch is built for; None for the CPU."""
    import torch

    return torch.version.cuda
