"""Causes in the computer: memory, GPUs and drivers, disks, and terminated processes."""

from __future__ import annotations

from functools import partial

from modelforge.diagnosis.cause import KnownCause

LESS_MEMORY = (
    "Choose a smaller model, a shorter maximum sequence length or batch size 1, or "
    "enable gradient checkpointing."
)
BUILD = "Run `python launch.py setup --torch auto`, which installs the build for this computer."
DOCTOR = "Run `python launch.py doctor`, which names what is wrong and how to repair it."
AGAIN = "Start it again; if it happens at the same place, send a support bundle."

_memory = partial(KnownCause, where="memory", fix="less-memory", inferred=False)
_disk = partial(KnownCause, where="disk", fix="again", inferred=False)
_worker = partial(KnownCause, where="worker", fix="again", inferred=False)
_setup = partial(KnownCause, fix="machine", inferred=False)

# Searched from top to bottom: specific causes come first.
ENTRIES = (
    _memory(
        "killed-for-memory",
        "The system ended the worker because the computer ran out of memory.",
        f"Close other programs, then try again. {LESS_MEMORY}",
        (r"out of memory: killed process", r"\boom-kill(er)?\b", r"\boom_reaper\b"),
        inferred=True,
    ),
    _memory(
        "out-of-memory",
        "The GPU ran out of memory.",
        LESS_MEMORY,
        (
            r"(cuda|hip|mps backend|xpu)\b.{0,20}\bout of memory",
            r"outofmemoryerror",
            # cuBLAS cannot create its handle, which needs memory of its own.
            r"cublas_status_(alloc_failed|not_initialized)",
            r"cudaerrormemoryallocation",
        ),
    ),
    _memory(
        "out-of-memory",
        "This computer ran out of memory.",
        LESS_MEMORY,
        (
            r"\bmemoryerror\b",
            r"defaultcpuallocator",
            r"can(no|')t allocate memory",
            r"not enough memory",
            r"\bout of memory\b",
            r"std::bad_alloc",
            r"paging file is too small",
        ),
    ),
    KnownCause(
        "shared-memory",
        "There is too little shared memory (/dev/shm).",
        "Give the container more, for instance with `docker run --shm-size=8g`.",
        (r"insufficient shared memory", r"\bshared memory object\b", r"/dev/shm", r"torch_shm"),
        where="memory",
        fix="again",
    ),
    _disk(
        "disk-full",
        "The disk of the home folder is full.",
        "Free some space, then start again.",
        (
            r"no space left on device",
            r"\bos error (28|122)\b",
            r"\[errno (28|122)\]",
            r"enforce fail at inline_container",
            r"disk quota exceeded",
            r"not enough space on the disk",
        ),
        fix="room",
    ),
    _disk(
        "too-many-files",
        "The worker reached its limit of open files.",
        "Raise the limit of open files, for instance with `ulimit -n 4096`, then start again.",
        (r"too many open files", r"\bos error 24\b", r"\[errno 24\]"),
    ),
    _disk(
        "disk-broken",
        "The disk could not be read or written.",
        "Check the disk and its cable or network; copy the home folder elsewhere.",
        (r"\binput/output error\b", r"\[errno 5\]", r"\bos error 5\b", r"stale file handle"),
    ),
    _disk(
        "no-permission",
        "A file of the run is not accessible.",
        "Check the permissions of the home folder.",
        (
            r"\bpermissionerror\b",
            r"permission denied",
            r"read-only file system",
            r"access is denied",
        ),
    ),
    _setup(
        "driver-too-old",
        "The NVIDIA driver is too old for the installed torch.",
        f"{BUILD} Or update the driver to 580 or newer.",
        (r"nvidia driver on your system is too old", r"cuda driver version is insufficient"),
        where="driver",
    ),
    _setup(
        "driver-missing",
        "The NVIDIA driver is missing or does not answer.",
        "Install the driver, restart the computer, then run `python launch.py doctor`.",
        (
            *(r"libcuda\.so", r"nvcuda\.dll", r"found no nvidia driver", r"nvidia-smi has failed"),
            # After a sleep of the computer, or an update of the driver while it was running.
            *(r"cuda driver initialization failed", r"\bcuda unknown error\b"),
            r"unexpected error from cudagetdevicecount",
            r"\bnvmlerror",
        ),
        where="driver",
    ),
    _setup(
        "torch-without-gpu",
        "The installed torch was built without CUDA, so it cannot use the GPU.",
        BUILD,
        (r"torch not compiled with cuda enabled", r"not linked with support for cuda devices"),
        where="torch",
    ),
    _setup(
        "card-unsupported",
        "The installed torch does not support this GPU.",
        f"{BUILD} A GPU older than compute capability 5.0 cannot be used.",
        (
            r"no kernel image is available",
            r"is not compatible with the current pytorch installation",
            r"cuda error: invalid device function",
            r"cublas_status_(not_supported|arch_mismatch)",
        ),
        where="card",
    ),
    _setup(
        "gpu-missing",
        "No GPU can be used by torch.",
        "Check it with `python launch.py doctor`, or choose the device cpu.",
        (
            r"no cuda gpus are available",
            r"no cuda-capable device",
            r"cuda error: invalid device ordinal",
        ),
        where="hardware.device",
    ),
    _disk(
        "gpu-busy",
        "Another program uses the GPU exclusively.",
        "Close it, or set the GPU's compute mode to default, then start again.",
        (r"cuda-capable device(\(s\)|s)? (is|are) busy or unavailable",),
        where="card",
    ),
    _disk(
        "gpu-fault",
        "The GPU reported a hardware or driver error.",
        f"{AGAIN} Heat, overclocking and a weak power supply are the usual reasons.",
        (
            r"cuda error: (unspecified launch|an illegal memory|misaligned|uncorrectable|unknown)",
            r"cuda error: (hardware stack|the launch timed out|an illegal instruction)",
            r"cublas_status_(execution_failed|internal_error)",
            r"cudnn_status_(execution_failed|internal_error|not_initialized)",
            r"gpu has fallen off the bus",
            r"nvrm: xid",
        ),
        where="card",
    ),
    _worker(
        "segfault",
        "A library crashed the worker (segmentation fault).",
        f"{AGAIN} The log's last lines name the library.",
        (r"\bsegmentation fault\b", r"\bsigsegv\b", r"access violation"),
        signals=(11,),
    ),
    _worker(
        "illegal-instruction",
        "A library uses instructions that this processor does not have.",
        DOCTOR,
        (r"\billegal instruction\b", r"\bsigill\b"),
        signals=(4,),
        fix="machine",
    ),
    _worker(
        "bus-error",
        "A file that the worker had open shrank or could not be read (bus error).",
        "Check the free space of the disk and /dev/shm, and that no model file was changed.",
        (r"\bbus error\b", r"\bsigbus\b"),
        signals=(7, 10),
        inferred=True,
    ),
    _worker(
        "aborted",
        "A library aborted the worker.",
        f"{AGAIN} The log's last lines name it.",
        (r"fatal python error: aborted", r"\bsigabrt\b", r"terminate called after throwing"),
        signals=(6,),
    ),
    _worker(
        "ended-by-person",
        "The worker was terminated from outside before it could save.",
        "Resume from its last checkpoint, or start it again.",
        (r"^terminated$", r"\bkeyboardinterrupt\b"),
        signals=(15, 2, 1, 3),
        inferred=True,
    ),
    KnownCause(
        "killed",
        "The worker was killed: by the system because memory ran out, or by a user.",
        f"Resume from its last checkpoint. If memory was short: {LESS_MEMORY.lower()}",
        (r"^killed$", r"\bsigkill\b"),
        where="worker",
        signals=(9,),
        fix="less-memory",
    ),
    _disk(
        "restarted",
        "The computer was switched off or restarted during the run.",
        "Resume from its last checkpoint, or start it again.",
        where="computer",
    ),
)
