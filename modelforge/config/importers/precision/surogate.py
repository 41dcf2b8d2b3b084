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


def recipe(value: str, _: Values) -> Outcome:
    """Return what the numeric recipe of matrix products becomes."""
    if value == "bf16":
        return Outcome("converted", {"hardware.precision": "bf16"}, "16-bit training.")
    if value == "nvfp4":
        why = "PyTorch cannot train with FP4 matrix products. As a frozen base: qlora_fp4."
        return Outcome("refused", why=why)
    return Outcome("refused", why="Training in FP8 comes with a later version.")


def graphs(value: bool, values: Values) -> Outcome:
    """Return what CUDA graphs become: a mode of torch.compile."""
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    if any(values.get(name) for name in QLORA):
        return Outcome("no-effect", why="Off with quantized weights, there as well.")
    settings = {"trainer.torch_compile": True, "hardware.torch_compile_mode": "reduce-overhead"}
    return Outcome("converted", settings, "torch.compile records CUDA graphs in this mode.")
