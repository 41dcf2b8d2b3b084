"""What stands before the training stack is imported: one visible GPU, no telemetry, no noise."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from pathlib import Path

from modelforge.paths import find_home
from modelforge.units import MIB

QUIET = {
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
    # Unsloth downloads a file from the Hub to be counted, and would install what it misses.
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "UNSLOTH_AUTO_INSTALL": "0",
    # So that asking whether there is a card neither makes a context nor fixes which are visible.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # CUDA's own order is fastest first; NVML, which names the cards to people, goes by the bus.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
}

# Of glibc's malloc.h: from how many bytes on memory is asked of the system and given back to it.
_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = MIB

_CHATTY = ("transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "torchao")


def configure_process() -> None:
    """Switch off telemetry, progress bars and the libraries' chatter, in this process only."""
    os.environ.update(QUIET)
    # Unsloth writes the code it makes into the current folder otherwise.
    made = find_home().root / "cache" / "unsloth_made"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(made))
    warnings.simplefilter("ignore")
    for name in (*_CHATTY, "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")


def set_visible_gpu(device: str, gpu_index: int) -> None:
    """Leave one GPU visible, or none; a mask that is already set by a person is respected."""
    if device == "mps":
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = str(gpu_index) if device == "cuda" else ""
    if device == "cuda" and visible:
        listed = [part.strip() for part in visible.split(",")]
        wanted = wanted if wanted in listed else listed[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = wanted


def go_offline_for_local_models(*models: str | None) -> None:
    """Forbid the Hub when every model is a folder, also to a stack that is already imported."""
    if not all(Path(model).is_dir() for model in models if model):
        return
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def return_freed_memory(limit: int = MMAP_THRESHOLD_BYTES) -> bool:
    """Let tensors of `limit` bytes and more go back to the system at once; say whether they do.

    glibc otherwise keeps what it has given out, and a tensor's own hole is too small for the next
    of its size: the starter with LoRA at 4 x 384 tokens held 3.4 GiB with recomputation of which
    0.9 were alive, and 0.9 with this. It costs a quarter of the speed, as every page comes new.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, limit))
