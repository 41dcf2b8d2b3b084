"""Which settings apply to the answers given: one table of conditions, for form, flags and docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from modelforge.config.fields import field_specs, specs_by_name

Told = Callable[[str], str]


@dataclass(frozen=True)
class Condition:
    """A condition: in words, and as a test of the answers by their names."""

    text: str
    holds: Callable[[Told], bool]


def _is(name: str, *values: str, words: str = "") -> Condition:
    label = words or f"with {name} {' or '.join(values)}"
    return Condition(label, lambda told: told(name) in values)


_ON_CUDA = _is("hardware.device", "auto", "cuda", words="on an NVIDIA GPU")
_ADAPTER = _is("adapter.enabled", "true", words="with an adapter")
_ANSWERS = _is("strategy", "sft", "qlora")
_TEXT = _is("task", "text-generation")
_SCORED = _is("task", "summarization", "extractive-question-answering")
_DPO = _is("strategy", "dpo")
_RLHF = _is("strategy", "rlhf")
_PACKED = _is("packing", "true", words="with packing")
_LOOSE = _is("packing", "false", words="without packing")
_BY_MODEL = _is("trainer.reward", "model", words="when a model judges")
_NO_JUDGE = _is("trainer.reward_model", "", words="when the reward model is trained here")
_BITS_BY_FLAGS = _is("quantization.scheme", "auto")
_ONE_FORMAT = _is("use_8bit", "false", words="without 8-bit weights")
_DECAYS = _is("lr_scheduler_type", "warmup_stable_decay")
_BY_CARD = _is("quantization.scheme", "fp8", "nvfp4", "mxfp4")
_OWN_ALPHA = _is("adapter.alpha_over_r", "", words="without alpha by rank")
_WARMUP_SHARE = _is("schedule.warmup_steps", "", words="without warm-up updates")
_NOT_QLORA = _is("strategy", "sft", "dpo", "rlhf")
_WITH_REFERENCE = Condition(
    "for a loss with a reference model", lambda told: told("trainer.preference_loss") != "orpo"
)
_DROPS = _is("strategy", "sft", "qlora", "rlhf", words="with any strategy but dpo")
_ANY_ORDER = Condition(
    "for a loss that takes rows in any order",
    lambda told: told("strategy") != "dpo" or told("trainer.preference_loss") != "kto",
)
_FALLS = Condition(
    "for a rate that falls", lambda told: not told("lr_scheduler_type").startswith("constant")
)
_FOUR_BIT = Condition("with 4-bit weights", lambda told: _bits(told) == "4")
_QUANTIZED = Condition("with quantized weights", lambda told: _bits(told) != "")
_ADAM = Condition("for optimizers of the Adam kind", lambda told: "adam" in told("optim"))
_MOMENTA = Condition(
    "for optimizers of the Adam and Lion kinds",
    lambda told: any(kind in told("optim") for kind in ("adam", "ademamix", "lion")),
)
_CHECKED = Condition(
    "with held-out rows",
    lambda told: told("eval_split").strip("0.") != "" or told("data.validation_sources") != "",
)

_STOPS_EARLY = _is("evaluation.early_stopping", "true", words="when it may stop early")
_TRACKED = Condition("with trackers", lambda told: told("logging.report_to") not in ("", "none"))
_BY_WANDB = Condition("with the tracker wandb", lambda told: "wandb" in told("logging.report_to"))

# A name that ends in a dot stands for the whole group.
CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "adapter.": (_ADAPTER,),
    "adapter.enabled": (_NOT_QLORA,),
    "lora_r": (_ADAPTER,),
    "lora_alpha": (_ADAPTER, _OWN_ALPHA),
    "lora_dropout": (_ADAPTER, _DROPS),
    "use_4bit": (_ADAPTER, _BITS_BY_FLAGS, _ONE_FORMAT),
    "use_8bit": (_ADAPTER, _BITS_BY_FLAGS),
    "bnb_4bit_compute_dtype": (_FOUR_BIT,),
    "bnb_4bit_quant_type": (_FOUR_BIT,),
    "use_nested_quant": (_FOUR_BIT,),
    "quantization.scheme": (_ADAPTER,),
    "hardware.max_gpu_temperature": (_ON_CUDA,),
    "hardware.max_gpu_power": (_ON_CUDA,),
    "quantization.skip_first_layers": (_QUANTIZED,),
    "quantization.skip_last_layers": (_QUANTIZED,),
    "quantization.allow_slow": (_ADAPTER, _BY_CARD),
    "packing": (_TEXT, _ANSWERS),
    "group_by_length": (_LOOSE, _ANY_ORDER),
    "data.loss_on": (_TEXT, _ANSWERS),
    "data.padding_free": (_TEXT, _ANSWERS),
    "data.packing_strategy": (_TEXT, _ANSWERS, _PACKED),
    "per_device_eval_batch_size": (_CHECKED,),
    "eval_steps": (_CHECKED,),
    "evaluation.keep_best": (_CHECKED,),
    "evaluation.generated_rows": (_SCORED, _CHECKED),
    "evaluation.early_stopping": (_CHECKED,),
    "evaluation.early_stopping_patience": (_CHECKED, _STOPS_EARLY),
    "evaluation.early_stopping_threshold": (_CHECKED, _STOPS_EARLY),
    "logging.project": (_TRACKED,),
    "logging.wandb_mode": (_BY_WANDB,),
    "warmup_ratio": (_WARMUP_SHARE,),
    "optimizer.beta1": (_MOMENTA,),
    "optimizer.beta2": (_MOMENTA,),
    "optimizer.epsilon": (_ADAM,),
    "schedule.decay_steps": (_DECAYS,),
    "schedule.decay_ratio": (_DECAYS,),
    "schedule.decay_shape": (_DECAYS,),
    "schedule.final_lr_fraction": (_FALLS,),
    "trainer.neftune_noise_alpha": (_ANSWERS,),
    "trainer.preference_beta": (_DPO,),
    "trainer.preference_loss": (_DPO,),
    "trainer.precompute_ref_log_probs": (_DPO, _WITH_REFERENCE),
    "trainer.rlhf_algorithm": (_RLHF,),
    "trainer.reward": (_RLHF,),
    "trainer.reward_model": (_RLHF, _BY_MODEL),
    "trainer.reward_learning_rate": (_RLHF, _BY_MODEL, _NO_JUDGE),
    "trainer.reward_epochs": (_RLHF, _BY_MODEL, _NO_JUDGE),
    "trainer.reward_pattern": (_RLHF, _is("trainer.reward", "regex")),
    "trainer.reward_words": (_RLHF, _is("trainer.reward", "length")),
    "trainer.kl_beta": (_RLHF,),
    "trainer.num_generations": (_RLHF,),
    "trainer.max_completion_length": (_RLHF,),
    "trainer.generation_temperature": (_RLHF,),
}


def applies(name: str, answers: Mapping[str, Any]) -> bool:
    """Say whether the setting `name` means anything beside these answers.

    `answers` are by dotted name, typed or as text; one that is left out has its default.
    """
    return all(condition.holds(_teller(answers)) for condition in conditions_for(name))


def inapplicable_settings(answers: Mapping[str, Any]) -> frozenset[str]:
    """Return the settings that mean nothing beside these answers."""
    return frozenset(spec.name for spec in field_specs() if not applies(spec.name, answers))


def conditions_for(name: str) -> tuple[Condition, ...]:
    """Return what must hold for the setting to apply; nothing where it always does."""
    group, dot, _ = name.rpartition(".")
    return CONDITIONS.get(name, CONDITIONS.get(f"{group}{dot}", ()) if dot else ())


def describe_conditions(name: str) -> str:
    """Return when the setting applies: `with strategy rlhf, when a model judges`."""
    return ", ".join(condition.text for condition in conditions_for(name))


def _teller(answers: Mapping[str, Any]) -> Told:
    def told(name: str) -> str:
        # What was said while it applied is kept, and must not speak while it does not.
        said = name in answers and all(one.holds(told) for one in conditions_for(name))
        return _text(answers[name]) if said else _defaults()[name]

    return told


@cache
def _defaults() -> dict[str, str]:
    return {name: _text(spec.default) for name, spec in specs_by_name().items()}


def _text(value: object) -> str:
    if value is None or value in ([], "[]"):
        return ""
    return str(value).strip().lower() if isinstance(value, bool | str) else str(value)


def _bits(told: Told) -> str:
    """Return how many bits the frozen weights have: 4, 8, or nothing for their own."""
    if told("adapter.enabled") == "false":
        return ""
    scheme = told("quantization.scheme")
    if scheme != "auto":
        return "" if scheme == "none" else "4" if scheme == "bnb-4bit" else "8"
    if told("use_8bit") == "true":
        return "8"
    return "4" if told("use_4bit") == "true" else ""
