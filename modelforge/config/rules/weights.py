"""Rules about the weights: how they are stored, and what is trained beside or instead of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelforge.config.plan.weights import effective_alpha
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.validation_messages import shown
from modelforge.errors import Problem

UNSLOTH_SCHEMES = ("auto", "none", "bnb-4bit", "bnb-8bit")
# These begin by changing the weights beside them.
WEIGHT_CHANGING_INITS = ("loftq", "pissa", "olora")
_NAME = re.compile(r"[A-Za-z_][\w.]*\Z")


@rule("use_4bit", "use_8bit")
def _one_quantization(config: TrainingConfig) -> Iterator[Problem]:
    if config.use_8bit and config.use_4bit and "use_4bit" in config.model_fields_set:
        yield Problem(
            "use_4bit",
            "use_4bit and use_8bit are both true, but weights have one format.",
            "Set one of them to false.",
        )


@rule("quantization.scheme", "use_4bit", "use_8bit")
def _scheme_and_bits_agree(config: TrainingConfig) -> Iterator[Problem]:
    scheme, said = config.quantization.scheme, config.model_fields_set
    if scheme == "auto":
        return
    for name, its_own in (("use_4bit", "bnb-4bit"), ("use_8bit", "bnb-8bit")):
        value = getattr(config, name)
        if name in said and value != (scheme == its_own):
            yield Problem(
                "quantization.scheme",
                f"The scheme is {scheme}, but {name} is {str(value).lower()}.",
                f"Leave {name} out, or choose the scheme auto.",
            )


@rule("provider", "quantization.scheme", "quantization.skip_first_layers", "adapter.init")
def _unsloth_has_two_schemes(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider != "unsloth":
        return
    quantization, start = config.quantization, config.adapter.init
    if quantization.scheme not in UNSLOTH_SCHEMES:
        yield Problem(
            "quantization.scheme",
            f"Unsloth stores weights plain or in 4 or 8 bits; the scheme is {quantization.scheme}.",
            "Choose none, bnb-4bit or bnb-8bit, or the provider huggingface.",
        )
    for name in ("skip_first_layers", "skip_last_layers"):
        if getattr(quantization, name):
            yield Problem(
                f"quantization.{name}",
                f"Unsloth leaves out no layers; {getattr(quantization, name)} are given.",
                "Set it to 0, or choose the provider huggingface.",
            )
    if start not in ("default", "gaussian"):
        yield Problem(
            "adapter.init",
            f"Unsloth begins with a new adapter; the start is {start}.",
            "Choose default or gaussian, or the provider huggingface.",
        )


@rule("adapter.start_from", "adapter.init", "strategy", "provider")
def _an_adapter_can_be_trained_on(config: TrainingConfig) -> Iterator[Problem]:
    if config.adapter.start_from is None:
        return
    if config.adapter.init != "default":
        yield Problem(
            "adapter.init",
            f"The adapter starts from another one; the start {config.adapter.init} is given too.",
            "Choose the start default, or leave start_from empty.",
        )
    for name, value in (("strategy", "rlhf"), ("provider", "unsloth")):
        if getattr(config, name) == value:
            yield Problem(
                "adapter.start_from",
                f"With the {name} {value} an adapter cannot be trained on here.",
                f"Leave it empty, or choose another {name}.",
            )


@rule("strategy", "use_4bit", "use_8bit", "quantization.scheme")
def _qlora_is_quantized(config: TrainingConfig) -> Iterator[Problem]:
    if config.strategy != "qlora":
        return
    if config.quantization.scheme == "none":
        yield Problem(
            "quantization.scheme",
            "qlora trains on quantized weights, but the scheme is none.",
            "Choose auto or bnb-4bit, or the strategy sft.",
        )
    elif config.quantization.scheme == "auto" and not config.use_4bit and not config.use_8bit:
        yield Problem(
            "use_4bit",
            "qlora trains on quantized weights, but use_4bit is false and use_8bit is not true.",
            "Set one of them to true, or choose the strategy sft.",
        )


@rule("strategy", "adapter.enabled", "use_4bit", "use_8bit", "quantization.scheme")
def _all_weights_are_plain(config: TrainingConfig) -> Iterator[Problem]:
    if config.adapter.enabled:
        return
    if config.strategy == "qlora":
        yield Problem(
            "adapter.enabled",
            "qlora trains an adapter on quantized weights, but the adapter is off.",
            "Set it to true, or choose the strategy sft, which can train every weight.",
        )
        return
    asked = _quantization_asked_for(config)
    if asked:
        yield Problem(
            "adapter.enabled",
            f"Without an adapter every weight is trained, but {asked}, and quantized weights "
            "cannot be trained.",
            "Set adapter.enabled to true, or leave quantization out.",
        )


@rule("adapter.init", "use_4bit", "use_8bit", "quantization.scheme")
def _near_starts_suit_the_weights(config: TrainingConfig) -> Iterator[Problem]:
    start, scheme = config.adapter.init, config.quantization.scheme
    if start not in WEIGHT_CHANGING_INITS or not config.adapter.enabled:
        return
    if scheme == "auto" and config.use_8bit:
        scheme = "bnb-8bit"
    if scheme not in ("auto", "none", "bnb-4bit"):
        yield Problem(
            "adapter.init",
            f"{start} begins from plain or 4-bit weights; these are {scheme}.",
            "Choose default, or the scheme bnb-4bit or none.",
        )


@rule("adapter.init", "adapter.use_dora", "strategy", "trainer.preference_loss")
def _near_starts_change_the_model(config: TrainingConfig) -> Iterator[Problem]:
    start = config.adapter.init
    if start not in WEIGHT_CHANGING_INITS or not config.adapter.enabled:
        return
    if config.adapter.use_dora:
        yield Problem(
            "adapter.use_dora",
            f"DoRA learns from the weights as they are, but the start {start} changes them.",
            "Set it to false, or choose the start default.",
        )
    compares = config.strategy == "dpo" and config.trainer.preference_loss != "orpo"
    if compares or config.strategy == "rlhf":
        yield Problem(
            "adapter.init",
            f"{config.strategy} compares with the model without its adapter, which the start "
            f"{start} changes.",
            "Choose default, gaussian or orthogonal.",
        )


@rule("adapter.init", "lora_r")
def _orthogonal_ranks_are_even(config: TrainingConfig) -> Iterator[Problem]:
    if config.adapter.init == "orthogonal" and config.lora_r % 2:
        yield Problem(
            "lora_r",
            f"The start orthogonal needs an even rank; {config.lora_r} is odd.",
            f"Choose {config.lora_r + 1}, or the start default.",
        )


@rule("adapter.alpha_over_r", "lora_alpha", "lora_r")
def _alpha_is_one_number(config: TrainingConfig) -> Iterator[Problem]:
    ratio = config.adapter.alpha_over_r
    if ratio is None or "lora_alpha" not in config.model_fields_set:
        return
    alpha = effective_alpha(config)
    if alpha != config.lora_alpha:
        yield Problem(
            "adapter.alpha_over_r",
            f"{ratio:g} times the rank of {config.lora_r} is {alpha}, but lora_alpha is "
            f"{config.lora_alpha}.",
            "Give one of the two.",
        )


@rule("adapter.target_modules", "adapter.modules_to_save")
def _layers_are_names(config: TrainingConfig) -> Iterator[Problem]:
    for where in ("target_modules", "modules_to_save"):
        said = getattr(config.adapter, where).strip()
        every = where == "target_modules"
        if said == ("all-linear" if every else ""):
            continue
        wrong = next((name for name in split_names(said) if not _NAME.match(name)), None)
        if wrong is not None:
            yield Problem(
                f"adapter.{where}",
                f"{shown(wrong)} is no name of a layer.",
                f"Give names with commas, q_proj, v_proj{', or all-linear' if every else ''}.",
            )


def split_names(layers: str) -> list[str]:
    """Return the names of layers that a text with commas holds."""
    return [name.strip() for name in layers.split(",")]


def _quantization_asked_for(config: TrainingConfig) -> str:
    scheme = config.quantization.scheme
    if scheme not in ("auto", "none"):
        return f"the scheme is {scheme}"
    if config.use_8bit:
        return "use_8bit is true"
    if scheme == "auto" and config.use_4bit and "use_4bit" in config.model_fields_set:
        return "use_4bit is true"
    return ""
