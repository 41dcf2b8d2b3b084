"""Set up the process before the training stack is imported: GPU, telemetry, log noise, malloc."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
import warnings
from pathlib import Path

from modelforge.config import visible_gpu
from modelforge.config.plan.context import is_native_linux
from modelforge.paths import find_home, make_private
from modelforge.units import MIB

VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "disabled",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
    "TQDM_DISABLE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    # Unsloth downloads a file from the Hub to count its users, and installs missing packages.
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "UNSLOTH_AUTO_INSTALL": "0",
    # Checking for a GPU then neither creates a CUDA context nor fixes which GPUs are visible.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
# Set unless the user has: these say how the user's own hardware is to be used.
DEFAULTS = {visible_gpu.ORDER: visible_gpu.PCI_ORDER}
# The first is an older name of the second.
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
EXPANDABLE = "expandable_segments:True"

# M_MMAP_THRESHOLD of glibc's malloc.h: blocks of this size and larger are allocated with mmap.
_M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = MIB

LIBRARIES = (
    *("transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "torchao"),
    "torch",
)


def configure_process() -> None:
    """Turn off telemetry, progress bars and the log output of libraries, in this process only."""
    os.environ.update(VARIABLES)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if is_native_linux(platform.system(), platform.release()) and not any(
        name in os.environ for name in ALLOCATOR
    ):
        # Batches of varying lengths then leave no gaps between segments of fixed size.
        os.environ[ALLOCATOR[-1]] = EXPANDABLE
    make_private()
    # Otherwise Unsloth writes its generated code into the current folder.
    generated = find_home().root / "cache" / "unsloth_made"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(generated))
    warnings.simplefilter("ignore")
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")


def has_expandable_segments() -> bool:
    """Return whether the CUDA allocator of this process grows its segments."""
    return any(EXPANDABLE in os.environ.get(name, "") for name in ALLOCATOR)


def set_visible_gpu(device: str, gpu_index: int, count: int = 1) -> None:
    """Leave these GPUs visible, or none; only effective before CUDA is initialized."""
    index = gpu_index if device == "cuda" else None
    os.environ.update(visible_gpu.visible_gpu(index, count=count))


def go_offline_for_local_models(*models: str | None) -> None:
    """Forbid access to the Hub when every model is a folder, also if the Hub client is imported."""
    if not all(Path(model).is_dir() for model in models if model):
        return
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def return_freed_memory() -> bool:
    """Return freed tensors of 1 MiB and more to the system at once; return whether it works.

    glibc keeps freed memory, and the hole of a tensor is often too small for the next one. Measured
    on the CPU for the starter model with LoRA, 4 x 384 tokens and gradient checkpointing: 3.4 GiB
    resident of which 0.9 were live, and 0.9 GiB with this, at three quarters of the speed, since
    every page is zeroed again. Python has no API for this, and environment
    variables are read before the process starts, so `mallopt` is called through ctypes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES))


def trim_memory() -> None:
    """Return to the system once what glibc keeps of freed memory, between two models."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
