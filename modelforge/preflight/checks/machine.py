"""Checks of the machine: device, number formats, GPU memory in use, profile."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.context import is_native_linux
from modelforge.config.plan.weights import overflows_in_fp16
from modelforge.config.profiles import profile_problems
from modelforge.errors import Finding, blocker, caution, note
from modelforge.hardware.machine import choose_profile, gpu_problem
from modelforge.preflight.context import RunContext

BF16_FROM = (8, 0)
MIN_REPORTED_GIB = 0.5


def device_missing(context: RunContext) -> Iterator[Finding]:
    """Refuse a configured device that this machine does not have."""
    device, machine = context.config.hardware.device, context.machine
    devices = {
        "cuda": ("NVIDIA GPU", bool(machine.gpus)),
        "mps": ("Apple GPU", machine.apple_gpu),
    }
    name, is_present = devices.get(device, ("", True))
    if not is_present:
        yield blocker(
            "device-missing",
            f"The device is {device}, but this computer has no usable {name}.",
            "Set the device to auto; `python launch.py doctor` shows why a GPU is not found.",
            "hardware.device",
            "auto",
        )


def gpu_missing(context: RunContext) -> Iterator[Finding]:
    """Refuse a GPU index that does not exist."""
    indexes = [gpu.index for gpu in context.machine.gpus]
    if context.plan.device == "cuda" and indexes and context.gpu is None:
        available = ", ".join(str(index) for index in indexes)
        yield blocker(
            "gpu-missing",
            f"GPU {context.config.hardware.gpu_index} does not exist; available: {available}.",
            f"Choose GPU {indexes[0]}.",
            "hardware.gpu_index",
            indexes[0],
        )


def torch_unsuited(context: RunContext) -> Iterator[Finding]:
    """Refuse a GPU that the installed torch or the driver cannot use."""
    problem = gpu_problem(context.machine, context.gpu) if context.gpu else None
    if problem:
        yield blocker("torch-unsuited", *problem, "hardware.device", "cpu")


def bf16_unsupported(context: RunContext) -> Iterator[Finding]:
    """Refuse bf16 on a GPU that only emulates it."""
    capability = context.compute_capability
    if context.plan.precision != "bf16" or capability is None or capability >= BF16_FROM:
        return
    where, value = _precision_setting(context)
    yield blocker(
        "bf16-card",
        f"bf16 needs compute capability 8.0; this GPU has {capability[0]}.{capability[1]}.",
        "Use fp16.",
        where if where == "hardware.precision" else "bf16",
        value,
    )


def fp16_overflows(context: RunContext) -> Iterator[Finding]:
    """Warn of a model whose activations or gradients are too large for fp16."""
    model = context.model
    if (
        model is not None
        and context.plan.precision == "fp16"
        and overflows_in_fp16(model.model_type)
    ):
        yield caution(
            "fp16-overflow",
            f"Models of the type {model.model_type} are known to overflow in fp16, which this GPU "
            "trains in: steps are skipped, or the run fails.",
            "Use fp32, which needs more memory and time, or another model.",
            "hardware.precision",
            "fp32",
        )


def paging_unsupported(context: RunContext) -> Iterator[Finding]:
    """Warn of a paged optimizer where GPU memory cannot be paged."""
    plan = context.plan
    unpaged = OPTIMIZERS[plan.optim].unpaged
    if plan.device == "cuda" and unpaged and not is_native_linux(context.machine.system):
        yield caution(
            "paging-unsupported",
            f"{plan.optim} moves its state to the computer's memory when the GPU is full; the "
            "driver of Windows does not support that, and the run may end without a message.",
            f"Use {unpaged}.",
            "optim",
            unpaged,
        )


def fp16_on_cpu(context: RunContext) -> Iterator[Finding]:
    """Refuse fp16 on the CPU, which has no gradient scaler."""
    if context.plan.device == "cpu" and context.plan.precision == "fp16":
        yield blocker(
            "fp16-on-cpu",
            "fp16 training needs a GPU; this run uses the CPU.",
            "Switch fp16 off; the CPU then trains in fp32.",
            *_precision_setting(context),
        )


def bf16_on_cpu(context: RunContext) -> Iterator[Finding]:
    """Say that bf16 is slow, or very slow, on a CPU without instructions for it."""
    machine, plan = context.machine, context.plan
    if plan.device != "cpu" or plan.precision != "bf16" or machine.fast_bf16:
        return
    level, speed = (caution, "about 20 times slower") if machine.has_no_bf16 else (note, "slower")
    yield level(
        "bf16-on-cpu",
        f"bf16 halves the memory, but is {speed} than fp32 on this CPU, which has no instructions "
        "for it.",
        "Switch bf16 off, unless the run would not fit.",
        *_precision_setting(context),
    )


def gpu_memory_in_use(context: RunContext) -> Iterator[Finding]:
    """Note the GPU memory that other programs use."""
    used = context.gpu.other_gib if context.gpu else None
    if used is not None and used >= MIN_REPORTED_GIB:
        yield note(
            "vram-held",
            f"Other programs use {used:.1f} GiB of the GPU.",
            "Close browsers, games or chats that use the GPU to free it.",
        )


def profile_differs(context: RunContext) -> Iterator[Finding]:
    """Note a profile that differs from the detected one."""
    index, own = context.config.hardware.gpu_index, context.home.profiles
    detected, reason = choose_profile(context.machine, index, own)
    profile = context.config.compute_specs
    if detected != profile:
        yield note(
            "profile-differs",
            f"The profile is {profile}, but this machine is {detected}: {reason}",
            "Keep it if the memory estimate fits.",
            "compute_specs",
            detected,
        )


def profile_files(context: RunContext) -> Iterator[Finding]:
    """Note each problem of the user's own profiles."""
    for problem in profile_problems(context.home.profiles):
        what = f"{problem} The profile is not offered."
        yield note("profile-file", what, f"The folder is {context.home.profiles}.")


def _precision_setting(context: RunContext) -> tuple[str, object]:
    """Return the setting that selected the precision, and the value that resets it."""
    for where in ("bf16", "fp16"):
        if getattr(context.config, where):
            return where, False
    return "hardware.precision", "auto"
