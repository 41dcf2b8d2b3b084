"""NeMo Safe Synthesizer: the `training` section of its YAML files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.options import (
    HUB_KERNEL,
    Option,
    Values,
    by,
    no_effect,
    number,
    refused,
    renamed,
    rope_factor,
    taken,
    words,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.system import System
from modelforge.errors import Problem

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BITS = {4: "bnb-4bit", 8: "bnb-8bit"}
SCHEMES = ("bnb-4bit", "bnb-8bit", "fp8", "nvfp4", "mxfp4")
# Schedules of Transformers that this program has under the same name.
SCHEDULES = (
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_restarts",
)
OFF = "quantize_model is off."


def _records(value: Any, _: Values) -> Outcome:
    if value == "auto":
        return Outcome("renamed", {"data.records_to_sample": "auto"})
    records = math.ceil(float(value))
    if not records:
        return Outcome("refused", why="0 records would train nothing. Enter 1 or more, or auto.")
    return Outcome("renamed", {"data.records_to_sample": records})


def _rate(value: Any, _: Values) -> Outcome:
    if value != "auto":
        return Outcome("taken", {"learning_rate": number(value)})
    why = "The plan names the rate: 1e-4 for Mistral models and 5e-4 for others."
    return Outcome("converted", {"schedule.auto_learning_rate": True}, why)


def _alpha(value: float, values: Values) -> Outcome:
    alpha = int(value * values["lora_r"])
    why = f"{value:g} times the rank of {values['lora_r']} is {alpha}."
    return Outcome("converted", {"lora_alpha": alpha}, why)


def _targets(value: list[str], _: Values) -> Outcome:
    return Outcome("converted", {"adapter.target_modules": ", ".join(value)}, "Names with commas.")


def _bits(value: Any, values: Values) -> Outcome:
    if scheme := values.get("quantization_scheme"):
        differs = "" if BITS[value] == scheme else f"; it is not {BITS[value]}"
        return Outcome("no-effect", why=f"quantization_scheme, {scheme}, decides{differs}.")
    return _scheme(BITS[value], values)


def _scheme(value: str | None, values: Values) -> Outcome:
    if not values.get("quantize_model"):
        return Outcome("no-effect", why=OFF)
    if value is None:
        return Outcome("no-effect", why="quantization_bits decides.")
    return Outcome("converted", {"quantization.scheme": value}, "How the frozen weights are kept.")


def _quantize(value: bool, _: Values) -> Outcome:
    if value:
        return Outcome("converted", {"strategy": "qlora"}, "An adapter on quantized weights.")
    settings = {"quantization.scheme": "none", "strategy": "sft"}
    return Outcome("converted", settings, "An adapter on weights that are not quantized.")


def _peft(value: str, values: Values) -> Outcome:
    if value.lower() == "loftq":
        return Outcome("renamed", {"adapter.init": "loftq"})
    if value.lower() == "qlora" and not values.get("quantize_model"):
        return Outcome("no-effect", why=f"{OFF} It is a LoRA adapter then, there as well.")
    return Outcome("converted", {"adapter.enabled": True}, "Adapters are LoRA here.")


def _attention(value: str, _: Values) -> Outcome:
    if "/" in value:
        return Outcome("refused", why=HUB_KERNEL)
    return Outcome("renamed", {"model.attn_implementation": value})


def _private(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    return Outcome("renamed", {"privacy.enabled": True})


def _of_privacy(setting: str) -> Option:
    """Return an option of differential privacy; without it the option asks for nothing."""

    def read(value: float | str, values: Values) -> Outcome:
        if not values.get("privacy.dp_enabled"):
            return Outcome("no-effect", why="dp_enabled is off.")
        if value == "auto":
            return Outcome("no-effect", why="It is decided here in the same way if it is empty.")
        return Outcome("renamed", {setting: number(value)})

    return by(read, kind="number or text")


def _check(values: Values) -> Iterator[Problem]:
    for name in ("num_input_records_to_sample", "learning_rate", "rope_scaling_factor"):
        value = values.get(name)
        if isinstance(value, str) and value != "auto" and isinstance(number(value), str):
            yield Problem(name, f"It is {value!r}.", "Enter a number or auto.")
    scheme = values.get("quantization_scheme")
    is_loftq = str(values["peft_implementation"]).lower() == "loftq"
    if is_loftq and scheme and not str(scheme).startswith("bnb-"):
        what = f"loftq does not work with {scheme}."
        yield Problem("peft_implementation", what, "Choose bnb-4bit, or another implementation.")
    unknown = [name for name in values.get("lora_target_modules") or [] if name not in PROJECTIONS]
    if unknown:
        what = f"{unknown[0]!r} is not one of its modules."
        yield Problem("lora_target_modules", what, f"They are {', '.join(PROJECTIONS)}.")


def _finish(values: Values, settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"task": "text-generation", "provider": "huggingface"}
    found["group_by_length"] = False
    if values["quantize_model"] and "quantization.scheme" not in settings:
        found["quantization.scheme"] = BITS[8]
    return found


_OPTIONS: dict[str, Option] = {
    "num_input_records_to_sample": by(_records, "auto", kind="number or text", least=0),
    "batch_size": renamed("per_device_train_batch_size", 1, kind="int", least=1),
    "gradient_accumulation_steps": taken("gradient_accumulation_steps", 8, kind="int", least=1),
    "weight_decay": taken("weight_decay", 0.01, kind="number", least=0, most=1),
    "warmup_ratio": taken("warmup_ratio", 0.05, kind="number", least=0),
    "lr_scheduler": words("lr_scheduler_type", {name: name for name in SCHEDULES}, "cosine"),
    "learning_rate": by(_rate, "auto", kind="number or text", least=0, most=1),
    "lora_r": taken("lora_r", 32, kind="int", least=1),
    "lora_alpha_over_r": by(_alpha, 1.0, kind="number", least=0.5, most=3),
    "lora_target_modules": by(_targets, list(PROJECTIONS[:4]), kind="list"),
    "rope_scaling_factor": by(rope_factor, "auto", kind="number or text", least=1),
    "validation_ratio": renamed("eval_split", 0.0, kind="number", least=0, most=1),
    "validation_steps": renamed("eval_steps", 15, kind="int", least=1),
    "pretrained_model": renamed("model_name", "HuggingFaceTB/SmolLM3-3B", kind="text"),
    "quantize_model": by(_quantize, False, kind="bool"),
    "quantization_bits": by(_bits, choices=(4, 8)),
    "quantization_scheme": by(_scheme, choices=(*SCHEMES, None)),
    "peft_implementation": by(_peft, "QLORA", kind="text"),
    "max_vram_fraction": renamed("memory.max_vram_fraction", 0.8, kind="number", least=0, most=1),
    "attn_implementation": by(_attention, "sdpa", kind="text"),
}
# The rest of its file is about tables that are made up, not about training.
_TABLES = refused("It concerns the made-up table, not the training of the model.")
OPTIONS = {
    **_OPTIONS,
    **dict.fromkeys(("data", "generation", "evaluation", "time_series"), _TABLES),
    "privacy.dp_enabled": by(_private, kind="bool"),
    "privacy.epsilon": _of_privacy("privacy.epsilon"),
    "privacy.delta": _of_privacy("privacy.delta"),
    "privacy.per_sample_max_grad_norm": _of_privacy("privacy.max_grad_norm"),
    "data_source": renamed("dataset"),
    "effective_batch_size": no_effect("It follows from batch_size and accumulation."),
}


SYSTEM = System(
    name="safe-synthesizer",
    title="NeMo Safe Synthesizer",
    options=OPTIONS,
    check=_check,
    finish=_finish,
    groups=frozenset(("privacy",)),
    section="training",
)
