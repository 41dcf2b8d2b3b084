"""Checks of quantization: GPUs, packages, models and skipped layers."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.optimizers import BITSANDBYTES_FORMATS, TORCHAO_FORMATS
from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import part_gib

QUANTIZED_FROM = (6, 0)
QUANTIZED_ADVISED = (7, 5)
FP8_FROM = (8, 9)
NVFP4_FROM = (10, 0)
_INSTALL = {
    "torchao": "python launch.py setup --with quantization",
    "fouroversix": "pip install fouroversix --no-build-isolation",
}
MXFP4_MODEL = "gpt_oss"


def quantized_slow(context: RunContext) -> Iterator[Finding]:
    """Note that quantized weights are slow without an NVIDIA GPU."""
    if context.plan.quantization == "none" or context.plan.device == "cuda":
        return
    where, off = _setting(context)
    suggested = None if context.config.strategy == "qlora" else off
    device = "CPU" if context.plan.device == "cpu" else "Apple GPU"
    yield note(
        "quantized-slow",
        f"{context.plan.quantization} weights save memory, but make training on the {device} about "
        "three times slower.",
        "" if suggested is None else "Switch them off if there is enough memory.",
        where,
        suggested,
    )


def quantized_unsupported(context: RunContext) -> Iterator[Finding]:
    """Refuse quantized weights on old GPUs, and warn of untested ones."""
    capability = context.compute_capability
    uses_bitsandbytes = context.plan.quantization in BITSANDBYTES_FORMATS
    if not uses_bitsandbytes or not capability or capability >= QUANTIZED_ADVISED:
        return
    blocked = capability < QUANTIZED_FROM
    bound = "needs compute capability 6.0" if blocked else "is tested from compute capability 7.5"
    yield Finding(
        "blocker" if blocked else "caution",
        "quantized-card",
        f"bitsandbytes ({context.plan.quantization}) {bound}; "
        f"this GPU has {capability[0]}.{capability[1]}.",
        "Switch quantization off and choose a smaller model, or train on the CPU.",
        *_setting(context),
    )


def fp8_unsupported(context: RunContext) -> Iterator[Finding]:
    """Refuse fp8 where Transformers would load 16-bit weights silently."""
    if not _lacks_kernels(context, "fp8", FP8_FROM):
        return
    yield blocker(
        "fp8-card",
        f"fp8 needs a GPU of compute capability 8.9; {_describe_device(context)}.",
        "Choose fp8-weight-only, which saves the same memory on every machine.",
        "quantization.scheme",
        "fp8-weight-only",
    )


def fp8_training_unsupported(context: RunContext) -> Iterator[Finding]:
    """Refuse training in FP8 where it can only be emulated, unless that is allowed."""
    plan, capability = context.plan, context.compute_capability
    if plan.fp8_recipe is None:
        return
    if plan.device == "cuda" and (capability or FP8_FROM) >= FP8_FROM:
        return
    allowed = context.config.quantization.allow_slow
    yield Finding(
        "caution" if allowed else "blocker",
        "fp8-training-card",
        f"Training in FP8 needs a GPU of compute capability 8.9; {_describe_device(context)} and "
        "would emulate it, which is slower than the training precision.",
        "Switch it off.",
        "quantization.fp8_training",
        False,
    )


def fp8_training_slow(context: RunContext) -> Iterator[Finding]:
    """Warn of training in FP8 without a compiled model."""
    plan = context.plan
    if plan.fp8_recipe is not None and plan.device == "cuda" and not plan.torch_compile:
        yield caution(
            "fp8-training-slow",
            "Without torch.compile, training in FP8 is slower than in 16 bits: numbers are scaled "
            "and converted by kernels of their own.",
            "Compile the model, or switch training in FP8 off.",
            "trainer.torch_compile",
            True,
        )


def nvfp4_unsupported(context: RunContext) -> Iterator[Finding]:
    """Refuse nvfp4 where it can only be emulated, unless slow schemes are allowed."""
    if not _lacks_kernels(context, "nvfp4", NVFP4_FROM):
        return
    allowed = context.config.quantization.allow_slow
    yield Finding(
        "caution" if allowed else "blocker",
        "nvfp4-card",
        f"nvfp4 needs compute capability 10.0; {_describe_device(context)} and would emulate it.",
        "Choose the scheme bnb-4bit, which uses as few bits."
        if allowed
        else "Choose the scheme bnb-4bit, or allow slow schemes.",
        "quantization.scheme",
        "bnb-4bit",
    )


def mxfp4_model(context: RunContext) -> Iterator[Finding]:
    """Refuse mxfp4 for models that are not stored in it, and report its memory."""
    model = context.model
    if context.plan.quantization != "mxfp4" or model is None:
        return
    if model.model_type != MXFP4_MODEL:
        yield blocker(
            "mxfp4-model",
            f"mxfp4 is for models of the gpt-oss family, which are stored in it; {model.name} is "
            f"a {model.model_type or model.architecture or 'model of another family'}.",
            "Choose the scheme bnb-4bit.",
            "quantization.scheme",
            "bnb-4bit",
        )
        return
    weights = part_gib(context.memory, "weights")
    about = f" of about {weights:.1f} GiB" if weights else ""
    yield caution(
        "mxfp4-unpacked",
        f"{model.name} is dequantized to 16-bit weights{about} for training.",
        where="quantization.scheme",
    )


def package_missing(context: RunContext) -> Iterator[Finding]:
    """Refuse a scheme whose package is not installed."""
    needs_torchao = context.plan.quantization in TORCHAO_FORMATS and not _is_four_over_six(context)
    if needs_torchao and "torchao" not in context.machine.packages:
        yield blocker(
            "package-missing",
            f"The scheme {context.plan.quantization} needs torchao, which is not installed.",
            "Run `python launch.py setup --with quantization`, or choose the scheme bnb-8bit.",
            "quantization.scheme",
            "bnb-8bit",
        )
    missing = {
        "quantization.fp8_training": (context.plan.fp8_recipe is not None, "torchao"),
        "quantization.four_over_six": (_is_four_over_six(context), "fouroversix"),
    }
    for where, (is_used, package) in missing.items():
        if is_used and package not in context.machine.packages:
            yield blocker(
                "package-missing",
                f"It needs the package {package}, which is not installed.",
                f"Run `{_INSTALL[package]}`, or switch it off.",
                where,
                False,
            )


def nothing_quantized(context: RunContext) -> Iterator[Finding]:
    """Refuse to skip every layer, and note skipped layers without quantization."""
    settings = context.config.quantization
    first, last = settings.skip_first_layers, settings.skip_last_layers
    layers = context.model.layers if context.model else None
    if not (first or last):
        return
    where = "quantization.skip_last_layers" if last else "quantization.skip_first_layers"
    if context.plan.quantization == "none" and context.plan.fp8_recipe is None:
        what = "No weights are quantized, so no layers are skipped."
        yield note("skip-unused", what, where=where)
    elif layers is not None and first + last >= layers:
        yield blocker(
            "nothing-quantized",
            f"The first {first} and last {last} layers are skipped; the model has {layers}, so "
            "no layer is quantized.",
            f"Skip fewer than {layers} layers together.",
            where,
            0,
        )


def _is_four_over_six(context: RunContext) -> bool:
    return context.plan.quantization == "nvfp4" and context.config.quantization.four_over_six


def _lacks_kernels(context: RunContext, stored: str, lowest: tuple[int, int]) -> bool:
    """Return whether the run stores weights in a format that its device has no kernels for."""
    has_kernels = context.plan.device == "cuda" and (context.compute_capability or lowest) >= lowest
    return context.plan.quantization == stored and not has_kernels


def _setting(context: RunContext) -> tuple[str, object]:
    """Return the setting that selected the quantization, and the value that switches it off."""
    if context.config.quantization.scheme != "auto":
        return "quantization.scheme", "none"
    return ("use_8bit" if context.plan.quantization == "8-bit" else "use_4bit"), False


def _describe_device(context: RunContext) -> str:
    capability = context.compute_capability
    if capability is None:
        return f"this run is on the {'GPU' if context.plan.device == 'cuda' else 'CPU'}"
    return f"this GPU has {capability[0]}.{capability[1]}"
