"""Surogate: its options of precision, quantization and CUDA graphs."""

from __future__ import annotations

from modelforge.config.importers.options import Option, Values, by
from modelforge.config.importers.report import Outcome

QLORA = ("qlora_bnb", "qlora_fp8", "qlora_fp4")


def quantized(scheme: str, what: str) -> Option:
    """Return the option that stores the frozen weights by this scheme; `what` says how."""

    def read(value: bool, _: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why="This value asks for nothing.")
        settings = {"quantization.scheme": scheme, "strategy": "qlora"}
        return Outcome("converted", settings, f"{what}; the adapter is trained on it.")

    return by(read, False, kind="bool")


def recipe(value: str, values: Values) -> Outcome:
    """Return what the numeric recipe of matrix products becomes."""
    if value == "bf16":
        settings = {"hardware.precision": "bf16", "quantization.fp8_training": False}
        return Outcome("converted", settings, "16-bit training.")
    if value == "nvfp4":
        why = "PyTorch cannot train with FP4 matrix products. As a frozen base: qlora_fp4."
        return Outcome("refused", why=why)
    if quantized_by := next((name for name in QLORA if values.get(name)), None):
        why = f"The frozen weights are quantized by {quantized_by}; their products are in 16 bits."
        return Outcome("refused", why=why)
    settings = {"hardware.precision": "bf16", "quantization.fp8_training": True}
    why = "Each product is scaled by its own numbers, not by those of steps before."
    return Outcome("converted", settings | {"quantization.fp8_recipe": "tensorwise"}, why)


def block_size(value: int, values: Values) -> Outcome:
    """Return what the side of the blocks of FP8 weights becomes."""
    if not values.get("qlora_fp8"):
        off = {"quantization.fp8_block_size": "auto"}
        return Outcome("converted", off, "qlora_fp8 is off, so there are no blocks.")
    return Outcome("converted", {"quantization.fp8_block_size": str(value)}, "Its name here.")


def four_over_six(value: bool, values: Values) -> Outcome:
    """Return what the two scales of blocks of FP4 weights become."""
    if not values.get("qlora_fp4"):
        off = {"quantization.four_over_six": False}
        return Outcome("converted", off, "qlora_fp4 is off, so no weights are stored in FP4.")
    return Outcome("renamed", {"quantization.four_over_six": value})


def graphs(value: bool, values: Values) -> Outcome:
    """Return what CUDA graphs become: a mode of torch.compile."""
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    if any(values.get(name) for name in QLORA):
        return Outcome("no-effect", why="Off with quantized weights, there as well.")
    settings = {"trainer.torch_compile": True, "hardware.torch_compile_mode": "reduce-overhead"}
    return Outcome("converted", settings, "torch.compile records CUDA graphs in this mode.")
