"""Check attention kernels, NVML readings, and the selection of a GPU by UUID."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.gpu_steps.record import Record, run_step

# Batch, heads, heads of keys and values, tokens, width of a head.
BATCH, HEADS, KEY_HEADS, TOKENS, WIDTH = 1, 16, 8, 2048, 128
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
COUNT = "import torch; print(torch.cuda.device_count(), torch.zeros(1).cuda().device)"


def main(record: Record) -> None:
    """Record which kernel takes grouped heads and how much memory it needs, and the readings."""
    if not torch.cuda.is_available():
        record.keep(skipped="There is no CUDA GPU.")
        return
    record.keep(
        kernels=[
            {"kernel": name, "grouped heads": grouped} | attend(backend, grouped)
            for name, backend in BACKENDS.items()
            for grouped in (False, True)
        ]
    )
    for name in ("utilization", "temperature", "power_draw", "clock_rate"):
        record.measure(name, getattr(torch.cuda, name))
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    for mask in (uuid, "0"):
        record.measure(f"CUDA_VISIBLE_DEVICES={mask}", lambda mask=mask: visible(mask))
    record.measure("GPUs with a UUID mask, by ModelForge", lambda: probed(uuid))


def attend(backend: SDPBackend, grouped: bool) -> dict[str, Any]:
    """Return the peak memory of attention with one backend, or why it refuses."""
    keys = KEY_HEADS if grouped else HEADS
    options: dict[str, Any] = {"device": "cuda", "dtype": torch.float16, "requires_grad": True}
    query = torch.randn(BATCH, HEADS, TOKENS, WIDTH, **options)
    key, value = (torch.randn(BATCH, keys, TOKENS, WIDTH, **options) for _ in range(2))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        with sdpa_kernel(backend):
            functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=grouped
            ).sum().backward()
        torch.cuda.synchronize()
    except RuntimeError as error:
        return {"works": False, "why": str(error).splitlines()[0][:150]}
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return {"works": True, "peak_mib": round(peak)}


def visible(mask: str) -> str:
    """Return what PyTorch sees with this CUDA_VISIBLE_DEVICES."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": mask},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def probed(mask: str) -> list[str]:
    """Return the GPUs that ModelForge sees with this CUDA_VISIBLE_DEVICES."""
    from pathlib import Path

    from modelforge.hardware.machine import probe_machine

    machine = probe_machine(Path.cwd(), environ={"CUDA_VISIBLE_DEVICES": mask})
    return [f"{gpu.index}: {gpu.name}" for gpu in machine.gpus] or [machine.gpu_note]


if __name__ == "__main__":
    run_step(main)
