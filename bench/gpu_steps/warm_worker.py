"""Check that a warm worker holds no GPU: open device files, memory, CUDA initialised."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.gpu_steps.record import Record, run_step
from bench.gpu_steps.runs import used_gib

# CUDA opens this one; NVML opens only the others.
CUDA_FILE = "/dev/nvidia-uvm"
IMPORT_BITSANDBYTES = """
import modelforge.train.environment as environment
environment.configure_process()
import bitsandbytes, torch
print(torch.cuda.is_initialized())
"""


def main(record: Record) -> None:
    """Start a warm worker, and look at what it holds after its imports."""
    before = used_gib()
    # Started now, so that its imports take no time of their own; it waits for nothing.
    imports = subprocess.Popen(
        [sys.executable, "-c", IMPORT_BITSANDBYTES], stdout=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "modelforge.train", "--warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    line = process.stdout.readline()
    record.keep(ready=line.strip(), seconds=round(time.monotonic() - began, 1))
    files = open_devices(process.pid)
    record.keep(device_files=files, cuda_initialised=CUDA_FILE in files)
    after = used_gib()
    if before is not None and after is not None:
        record.keep(gpu_memory_gib=round(after - before, 3))
    process.stdin.close()
    process.wait(10)
    output = imports.communicate()[0].split()
    record.keep(**{"CUDA initialised by importing bitsandbytes": output[-1] if output else "?"})


def open_devices(pid: int) -> list[str]:
    """Return the NVIDIA device files that a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(link)  # noqa: PTH115
        except OSError:
            continue
        if target.startswith("/dev/nvidia"):
            found.add(target)
    return sorted(found)


if __name__ == "__main__":
    run_step(main)
