"""Rules about quantization, the adapter and full fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelforge.config.methods import facts_of
from modelforge.config.plan.weights import effective_alpha
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.model import is_hub_kernel
from modelforge.config.validation_messages import shown
from modelforge.errors import Problem

UNSLOTH_SCHEMES = ("auto", "none", "bnb-4bit", "bnb-8bit")
# Initializations that change the base weights.
WEIGHT_CHANGING_INITS = ("loftq", "pissa", "olora")
_NAME = re.compile(r"[A-Za-z_][\w.]*\Z")


@rule("use_4bit", "use_8bit")
def _single_quantization(config: TrainingConfig) -> Iterator[Problem]:
    if config.use_8bit and config.use_4bit and "use_4bit" in config.model_fields_set:
        yield Problem(
            "use_4bit",
            "use_4bit and use_8bit are both true, but weights have one storage format.",
            "Set one of them to false.",
        )


@rule("quantization.scheme", "use_4bit", "use_8bit")
def _scheme_and_bits_agree(config: TrainingConfig) -> Iterator[Problem]:
    scheme, explicit = config.quantization.scheme, config.model_fields_set
    if scheme == "auto":
        return
    for name, equivalent in (("use_4bit", "bnb-4bit"), ("use_8bit", "bnb-8bit")):
        value = getattr(config, name)
        if name in explicit and value != (scheme == equivalent):
            yield Problem(
                "quantization.scheme",
                f"The scheme is {scheme}, but {name} is {str(value).lower()}.",
                f"Remove {name}, or choose the scheme auto.",
            )


@rule("provider", "quantization.scheme", "quantization.skip_first_layers", "adapter.init")
def _unsloth_limits(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider != "unsloth":
        return
    quantization, init = config.quantization, config.adapter.init
    if quantization.scheme not in UNSLOTH_SCHEMES:
        yield Problem(
            "quantization.scheme",
            f"Unsloth supports 4 and 8 bits only; the scheme is {quantization.scheme}.",
            "Choose none, bnb-4bit or bnb-8bit, or the provider huggingface.",
        )
    for name in ("skip_first_layers", "skip_last_layers"):
        if getattr(quantization, name):
            yield Problem(
                f"quantization.{name}",
                f"Unsloth cannot skip layers; {getattr(quantization, name)} are given.",
                "Set it to 0, or choose the provider huggingface.",
            )
    if init not in ("default", "gaussian"):
        yield Problem(
            "adapter.init",
            f"Unsloth supports default and gaussian only; the initialization is {init}.",
            "Choose default or gaussian, or the provider huggingface.",
        )


@rule("quantization.fp8_training", "quantization.scheme", "use_4bit", "use_8bit", "strategy")
def _fp8_products_of_plain_weights(config: TrainingConfig) -> Iterator[Problem]:
    requested = _requested_quantization(config)
    if config.strategy == "qlora" and not requested:
        requested = "qlora trains on quantized weights"
    if config.quantization.fp8_training and requested:
        yield Problem(
            "quantization.fp8_training",
            f"Training in FP8 multiplies weights that are not quantized, but {requested}.",
            "Set it to false, or switch quantization off.",
        )


@rule("quantization.fp8_training", "provider")
def _fp8_products_by_transformers(config: TrainingConfig) -> Iterator[Problem]:
    if config.quantization.fp8_training and config.provider == "unsloth":
        yield Problem(
            "quantization.fp8_training",
            "Unsloth has matrix products of its own, without FP8.",
            "Set it to false, or choose the provider huggingface.",
        )


@rule("quantization.four_over_six", "quantization.scheme")
def _four_over_six_is_nvfp4(config: TrainingConfig) -> Iterator[Problem]:
    scheme = config.quantization.scheme
    if config.quantization.four_over_six and scheme != "nvfp4":
        yield Problem(
            "quantization.four_over_six",
            f"Four over six is a way of scaling NVFP4 weights, but the scheme is {scheme}.",
            "Choose the scheme nvfp4, or set it to false.",
        )


@rule("adapter.start_from", "adapter.init", "strategy", "provider")
def _adapter_can_continue(config: TrainingConfig) -> Iterator[Problem]:
    if config.adapter.start_from is None:
        return
    if config.adapter.init != "default":
        yield Problem(
            "adapter.init",
            f"The adapter continues another one, but the initialization is {config.adapter.init}.",
            "Choose the initialization default, or leave start_from empty.",
        )
    for name, value in (("strategy", "rlhf"), ("provider", "unsloth")):
        if getattr(config, name) == value:
            yield Problem(
                "adapter.start_from",
                f"The {name} {value} cannot continue an adapter.",
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
            "qlora trains on quantized weights, but use_4bit and use_8bit are false.",
            "Choose 4-bit or 8-bit weights, or the strategy sft.",
        )


@rule("strategy", "adapter.enabled", "use_4bit", "use_8bit", "quantization.scheme")
def _full_fine_tuning_is_not_quantized(config: TrainingConfig) -> Iterator[Problem]:
    if config.adapter.enabled:
        return
    if config.strategy == "qlora":
        yield Problem(
            "adapter.enabled",
            "qlora trains an adapter on quantized weights, but the adapter is off.",
            "Set it to true, or choose the strategy sft, which can train all weights.",
        )
        return
    requested = _requested_quantization(config)
    if requested:
        yield Problem(
            "adapter.enabled",
            f"Without an adapter all weights are trained, but {requested}, and quantized weights "
            "cannot be trained.",
            "Set adapter.enabled to true, or switch quantization off.",
        )


@rule("adapter.init", "use_4bit", "use_8bit", "quantization.scheme")
def _init_supports_storage_format(config: TrainingConfig) -> Iterator[Problem]:
    init, scheme = config.adapter.init, config.quantization.scheme
    if init not in WEIGHT_CHANGING_INITS or not config.adapter.enabled:
        return
    if scheme == "auto" and config.use_8bit:
        scheme = "bnb-8bit"
    if scheme not in ("auto", "none", "bnb-4bit"):
        yield Problem(
            "adapter.init",
            f"{init} needs unquantized or 4-bit weights; these are {scheme}.",
            "Choose default, or the scheme bnb-4bit or none.",
        )


@rule("adapter.init", "adapter.use_dora", "strategy", "trainer.preference_loss")
def _init_keeps_reference(config: TrainingConfig) -> Iterator[Problem]:
    init = config.adapter.init
    if init not in WEIGHT_CHANGING_INITS or not config.adapter.enabled:
        return
    if config.adapter.use_dora:
        yield Problem(
            "adapter.use_dora",
            f"DoRA needs the original base weights, but the initialization {init} changes them.",
            "Set it to false, or choose the initialization default.",
        )
    if facts_of(config).needs_reference:
        yield Problem(
            "adapter.init",
            f"{config.strategy} uses the model without its adapter as reference, which the "
            f"initialization {init} changes.",
            "Choose default, gaussian or orthogonal.",
        )


@rule("adapter.init", "lora_r")
def _orthogonal_rank_is_even(config: TrainingConfig) -> Iterator[Problem]:
    if config.adapter.init == "orthogonal" and config.lora_r % 2:
        yield Problem(
            "lora_r",
            f"The initialization orthogonal needs an even rank; {config.lora_r} is odd.",
            f"Choose {config.lora_r + 1}, or the initialization default.",
        )


@rule("adapter.alpha_over_r", "lora_alpha", "lora_r")
def _single_alpha(config: TrainingConfig) -> Iterator[Problem]:
    ratio = config.adapter.alpha_over_r
    if ratio is None or "lora_alpha" not in config.model_fields_set:
        return
    alpha = effective_alpha(config)
    if alpha != config.lora_alpha:
        yield Problem(
            "adapter.alpha_over_r",
            f"{ratio:g} times the rank of {config.lora_r} is {alpha}, but lora_alpha is "
            f"{config.lora_alpha}.",
            "Enter one of the two.",
        )


@rule("adapter.target_modules", "adapter.modules_to_save")
def _modules_are_names(config: TrainingConfig) -> Iterator[Problem]:
    for where in ("target_modules", "modules_to_save"):
        text = getattr(config.adapter, where).strip()
        is_target = where == "target_modules"
        if text == ("all-linear" if is_target else ""):
            continue
        invalid = next((name for name in split_names(text) if not _NAME.match(name)), None)
        if invalid is not None:
            yield Problem(
                f"adapter.{where}",
                f"{shown(invalid)} is not a module name.",
                f"Enter names with commas: q_proj, v_proj{', or all-linear' if is_target else ''}.",
            )


@rule("model.dtype", "adapter.enabled", "fp16")
def _trained_weights_have_a_range(config: TrainingConfig) -> Iterator[Problem]:
    if not config.adapter.enabled and config.model.dtype == "float16":
        yield Problem(
            "model.dtype",
            "Without an adapter all weights are trained, and weights in float16 cannot be: their "
            "gradients underflow.",
            "Choose auto, float32 or bfloat16.",
        )


@rule("model.allow_hub_kernels", "model.attn_implementation")
def _hub_kernel_is_allowed(config: TrainingConfig) -> Iterator[Problem]:
    model = config.model
    if is_hub_kernel(model.attn_implementation) and not model.allow_hub_kernels:
        yield Problem(
            "model.allow_hub_kernels",
            f"{shown(model.attn_implementation)} is a kernel of the Hub: native code that would be "
            "downloaded and run on this computer.",
            "Set it to true if you trust its authors, or choose the attention sdpa.",
        )


@rule("model.rope_factor", "model.rope_type")
def _rope_factor_has_a_type(config: TrainingConfig) -> Iterator[Problem]:
    factor = config.model.rope_factor
    if config.model.rope_type == "none" and factor is not None and factor > 1:
        yield Problem(
            "model.rope_factor",
            f"The factor is {factor:g}, but the rope scaling is none.",
            "Choose linear, dynamic or yarn as model.rope_type, or leave the factor empty.",
        )


@rule("provider", "model.rope_type", "model.dtype")
def _unsloth_loads_in_its_own_way(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider != "unsloth":
        return
    for name, usual in (("rope_type", "none"), ("dtype", "auto")):
        value = getattr(config.model, name)
        if value != usual:
            yield Problem(
                f"model.{name}",
                f"Unsloth decides this itself; {value} is set.",
                f"Choose {usual}, or the provider huggingface.",
            )


def split_names(text: str) -> list[str]:
    """Return the module names in a text with commas."""
    return [name.strip() for name in text.split(",")]


def _requested_quantization(config: TrainingConfig) -> str:
    scheme = config.quantization.scheme
    if scheme not in ("auto", "none"):
        return f"the scheme is {scheme}"
    if config.use_8bit:
        return "use_8bit is true"
    if scheme == "auto" and config.use_4bit and "use_4bit" in config.model_fields_set:
        return "use_4bit is true"
    return ""
