"""What preflight says of how the weights are stored: cards, packages, models and layers."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.optimizers import BITSANDBYTES_FORMATS, TORCHAO_FORMATS
from modelforge.errors import Finding
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import part_gib

QUANTIZED_FROM = (6, 0)
QUANTIZED_ADVISED = (7, 5)
FP8_FROM = (8, 9)
NVFP4_FROM = (10, 0)
MXFP4_MODEL = "gpt_oss"


def quantized_slow(case: RunContext) -> Iterator[Finding]:
    """Tell that quantized weights cost much time away from an NVIDIA card."""
    if case.plan.quantization == "none" or case.plan.device == "cuda":
        return
    where, off = _setting(case)
    suggested = None if case.config.strategy == "qlora" else off
    device = "CPU" if case.plan.device == "cpu" else "Apple GPU"
    yield Finding(
        "note",
        "quantized-slow",
        f"{case.plan.quantization} weights save memory, but on the {device} they are slow: "
        "about three times the time.",
        "" if suggested is None else "Switch them off if the memory allows.",
        where,
        suggested,
    )


def quantized_card(case: RunContext) -> Iterator[Finding]:
    """Refuse or doubt quantized weights on an old card."""
    capability = case.gpu.compute_capability if case.gpu else None
    by_bits = case.plan.quantization in BITSANDBYTES_FORMATS
    if not by_bits or not capability or capability >= QUANTIZED_ADVISED:
        return
    blocked = capability < QUANTIZED_FROM
    bound = "needs compute capability 6.0" if blocked else "is tested from compute capability 7.5"
    yield Finding(
        "blocker" if blocked else "caution",
        "quantized-card",
        f"bitsandbytes, which does {case.plan.quantization}, {bound}; "
        f"this card has {capability[0]}.{capability[1]}.",
        "Switch quantization off and choose a smaller model, or train on the CPU.",
        *_setting(case),
    )


def fp8_card(case: RunContext) -> Iterator[Finding]:
    """Refuse fp8 where Transformers would load 16 bits without a word."""
    if case.plan.quantization != "fp8":
        return
    capability = case.gpu.compute_capability if case.gpu else None
    if case.plan.device == "cuda" and (capability is None or capability >= FP8_FROM):
        return
    yield Finding(
        "blocker",
        "fp8-card",
        f"fp8 needs a card of compute capability 8.9; {_here(case)}.",
        "Choose fp8-weight-only, which saves the same memory on every machine.",
        "quantization.scheme",
        "fp8-weight-only",
    )


def nvfp4_card(case: RunContext) -> Iterator[Finding]:
    """Refuse or doubt nvfp4 where it can only be emulated."""
    if case.plan.quantization != "nvfp4":
        return
    capability = case.gpu.compute_capability if case.gpu else None
    if case.plan.device == "cuda" and (capability is None or capability >= NVFP4_FROM):
        return
    allowed = case.config.quantization.allow_slow
    yield Finding(
        "caution" if allowed else "blocker",
        "nvfp4-card",
        f"nvfp4 is fast from compute capability 10.0; {_here(case)}, so it would be emulated.",
        "Choose the scheme bnb-4bit, which has as few bits."
        if allowed
        else "Choose the scheme bnb-4bit, or allow slow schemes.",
        "quantization.scheme",
        "bnb-4bit",
    )


def mxfp4_model(case: RunContext) -> Iterator[Finding]:
    """Refuse mxfp4 for models that are not stored in it, and tell what it really costs."""
    facts = case.facts
    if case.plan.quantization != "mxfp4" or facts is None:
        return
    if facts.model_type != MXFP4_MODEL:
        yield Finding(
            "blocker",
            "mxfp4-model",
            f"mxfp4 is for models of the gpt-oss family, which are stored in it; {facts.name} is "
            f"a {facts.model_type or facts.architecture or 'model of another family'}.",
            "Choose the scheme bnb-4bit.",
            "quantization.scheme",
            "bnb-4bit",
        )
        return
    weights = part_gib(case.memory, "weights")
    about = f" of about {weights:.1f} GiB" if weights else ""
    yield Finding(
        "caution",
        "mxfp4-unpacked",
        f"To be trained, {facts.name} is unpacked to 16-bit weights{about}.",
        where="quantization.scheme",
    )


def package_missing(case: RunContext) -> Iterator[Finding]:
    """Refuse a scheme whose package is not installed."""
    if case.plan.quantization in TORCHAO_FORMATS and "torchao" not in case.machine.packages:
        yield Finding(
            "blocker",
            "package-missing",
            f"The scheme {case.plan.quantization} needs torchao, which is not installed.",
            "Run `python launch.py setup --with quantization`, or choose the scheme bnb-8bit.",
            "quantization.scheme",
            "bnb-8bit",
        )


def nothing_quantized(case: RunContext) -> Iterator[Finding]:
    """Refuse to leave out every layer, and tell where leaving out means nothing."""
    asked = case.config.quantization
    first, last = asked.skip_first_layers, asked.skip_last_layers
    layers = case.facts.layers if case.facts else None
    if not (first or last):
        return
    where = "quantization.skip_last_layers" if last else "quantization.skip_first_layers"
    if case.plan.quantization == "none":
        what = "No weights are quantized, so no layers are left out."
        yield Finding("note", "skip-unused", what, where=where)
    elif layers is not None and first + last >= layers:
        yield Finding(
            "blocker",
            "nothing-quantized",
            f"The first {first} and the last {last} layers are left out, and the model has "
            f"{layers}: nothing is left to quantize.",
            f"Leave out fewer than {layers} layers together.",
            where,
            0,
        )


def _setting(case: RunContext) -> tuple[str, object]:
    """Return the setting that chose how weights are stored, and its value for plain ones."""
    if case.config.quantization.scheme != "auto":
        return "quantization.scheme", "none"
    return ("use_8bit" if case.plan.quantization == "8-bit" else "use_4bit"), False


def _here(case: RunContext) -> str:
    capability = case.gpu.compute_capability if case.gpu else None
    if capability is None:
        return f"this run is on the {'GPU' if case.plan.device == 'cuda' else 'CPU'}"
    return f"this card has {capability[0]}.{capability[1]}"
