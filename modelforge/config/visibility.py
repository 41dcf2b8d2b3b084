"""Which settings apply to the other values: one table of conditions for form, flags and docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from modelforge.config.fields import field_specs, specs_by_name
from modelforge.config.methods import METHOD_FACTS, preference_method
from modelforge.config.optimizers import COOLED_SCHEDULES, MUON, RESULT_SCHEDULES

# Returns the value of a setting as lower-case text, its default where it is not set.
Getter = Callable[[str], str]


@dataclass(frozen=True)
class Condition:
    """A condition on the values of other settings, with a description."""

    text: str
    holds: Callable[[Getter], bool]


def _is(name: str, *values: str, text: str = "") -> Condition:
    label = text or f"with {name} {' or '.join(values)}"
    return Condition(label, lambda get: get(name) in values)


_ON_CUDA = _is("hardware.device", "auto", "cuda", text="on an NVIDIA GPU")
_SEVERAL_GPUS = Condition("with several GPUs", lambda get: get("hardware.gpus") != "1")
_HUB_KERNEL = Condition(
    "with an attention kernel of the Hub", lambda get: "/" in get("model.attn_implementation")
)
_SCALED = Condition("with rope scaling", lambda get: get("model.rope_type") != "none")
# A growing model has adapters of its own.
_ADAPTER = Condition(
    "with an adapter",
    lambda get: get("adapter.enabled") == "true" and get("progressive.enabled") != "true",
)
_COMPLETIONS = _is("strategy", "sft", "qlora")
_TEXT = _is("task", "text-generation")
_SCORED = _is("task", "summarization", "extractive-question-answering")
_DPO = _is("strategy", "dpo")
_RLHF = _is("strategy", "rlhf")
_REWARD_MODEL = _is("trainer.reward", "model", text="with a reward model")
_TRAINED_REWARD_MODEL = _is("trainer.reward_model", "", text="without a reward model of your own")
_BITS_BY_FLAGS = _is("quantization.scheme", "auto")
_DECAYS = _is("lr_scheduler_type", "warmup_stable_decay", *COOLED_SCHEDULES)
_WITH_REFERENCE = Condition(
    "for a loss with a reference model",
    lambda get: METHOD_FACTS[preference_method(get("trainer.preference_loss"))].needs_reference,
)
_DROPOUT = _is("strategy", "sft", "qlora", "rlhf", text="with any strategy but dpo")
_ANY_ORDER = Condition(
    "with any strategy but rlhf and any loss but kto",
    lambda get: (
        get("strategy") != "rlhf"
        and (get("strategy") != "dpo" or get("trainer.preference_loss") != "kto")
    ),
)
_NOT_KTO = Condition(
    "with any loss but kto",
    lambda get: get("strategy") != "dpo" or get("trainer.preference_loss") != "kto",
)
_BY_RESULTS = _is("lr_scheduler_type", *RESULT_SCHEDULES)
_WARMS_UP = Condition(
    "for a schedule with a warm-up", lambda get: get("lr_scheduler_type") not in RESULT_SCHEDULES
)
_SCHEDULE_DECAYS = Condition(
    "for a schedule that decays", lambda get: not get("lr_scheduler_type").startswith("constant")
)
_FOUR_BIT = Condition("with 4-bit weights", lambda get: _bits(get) == "4")
_FP8_TRAINING = _is("quantization.fp8_training", "true", text="with training in FP8")
_QUANTIZED_OR_FP8 = Condition(
    "with quantized weights or training in FP8",
    lambda get: _bits(get) != "" or _FP8_TRAINING.holds(get),
)
_EMULATED = Condition(
    "with the scheme fp8, nvfp4 or mxfp4, or training in FP8",
    lambda get: (
        _FP8_TRAINING.holds(get)
        or (
            get("adapter.enabled") == "true"
            and get("quantization.scheme") in ("fp8", "nvfp4", "mxfp4")
        )
    ),
)
_ADAM = Condition(
    "for Adam or Muon optimizers", lambda get: "adam" in get("optim") or get("optim") in MUON
)
_MOMENTUM = Condition(
    "for Adam or Lion or Muon optimizers",
    lambda get: any(kind in get("optim") for kind in ("adam", "ademamix", "lion", *MUON)),
)
_MUON = _is("optim", *MUON)
_ADAPTER_OR_GROWS = Condition(
    "with an adapter",
    lambda get: get("adapter.enabled") == "true" or get("progressive.enabled") == "true",
)
# LoRA on all linear layers trains no embeddings, norms or whole matrices; a new head is trained.
_WHOLE_WEIGHTS = Condition(
    "where weights beside a LoRA of all linear layers are trained",
    lambda get: (
        get("adapter.enabled") == "false"
        or get("adapter.modules_to_save") != ""
        or get("adapter.target_modules") != "all-linear"
        or get("task") == "extractive-question-answering"
    ),
)
_EVALUATED = Condition(
    "with evaluation rows",
    lambda get: get("eval_split").strip("0.") != "" or get("data.validation_sources") != "",
)

_READS_ROWS = _is("strategy", "sft", "qlora", "dpo", text="with any strategy but rlhf")
_COUNTED = Condition("without max steps", lambda get: get("max_steps") == "-1")
_RATE_IS_SET = _is("schedule.auto_learning_rate", "false", text="with a rate of your own")
_SAMPLED = Condition("with sample prompts", lambda get: get("evaluation.samples") != "0")
_TRANSFORMERS = _is("provider", "huggingface")
_COMPILED = _is("trainer.torch_compile", "true", text="with a compiled model")
_RECOMPUTED = _is("gradient_checkpointing", "true", text="with gradient checkpointing")
_EARLY_STOPPING = _is("evaluation.early_stopping", "true", text="with early stopping")
_TRACKED = Condition("with trackers", lambda get: get("logging.report_to") not in ("", "none"))
_PRIVATE = _is("privacy.enabled", "true", text="with differential privacy")
_FROM_NOTHING = _is("pretraining.enabled", "true", text="with training from nothing")
_OF_A_MODEL = _is("pretraining.enabled", "false", text="with a base model")
_GROWS = _is("progressive.enabled", "true", text="with growing stack by stack")
_STACK_LORA = _is("progressive.stack_lora", "true", text="with adapters of stacks")
_TRUNK_LORA = _is("progressive.trunk", "lora", text="with a trunk that trains by adapters")
_OWN_TRUNK_LORA = _is("progressive.trunk_lora", "true", text="with an adapter of the trunk")
_FIRST_SIZE = _is("progressive.rank_strategy", "uniform", "pattern")
_BY_PATTERN = _is("progressive.rank_strategy", "pattern")
_MASKED = _is("progressive.objective", "mlm", text="with the masked objective")
_BY_SCHEDULE = _is("progressive.mask_by", "none", text="with a schedule of masks")
_BY_LIST = _is("progressive.mask_by", "depth", "input")
_FIXED_TRUNK = Condition(
    "with a frozen trunk below",
    lambda get: get("progressive.trunk") == "frozen" and get("progressive.direction") == "append",
)
_BORROWED = Condition(
    "with the tokenizer of another model", lambda get: get("pretraining.tokenizer") != "train"
)
_WITH_CORE = Condition("with a CORE folder", lambda get: get("evaluation.core_bundle") != "")
_BY_AIM = Condition("with the tracker aim", lambda get: "aim" in get("logging.report_to"))
_BY_EXPERIMENT = Condition(
    "with the tracker mlflow or aim",
    lambda get: any(name in get("logging.report_to") for name in ("mlflow", "aim")),
)
_BY_WANDB = Condition("with the tracker wandb", lambda get: "wandb" in get("logging.report_to"))

# A name that ends in a dot means the whole group.
CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "adapter.": (_ADAPTER,),
    "adapter.enabled": (_is("strategy", "sft", "dpo", "rlhf"),),
    "lora_r": (_ADAPTER,),
    "model.rope_factor": (_SCALED,),
    "model.allow_hub_kernels": (_HUB_KERNEL,),
    "lora_alpha": (_ADAPTER, _is("adapter.alpha_over_r", "", text="without alpha over rank")),
    "lora_dropout": (_ADAPTER, _DROPOUT),
    "use_4bit": (_ADAPTER, _BITS_BY_FLAGS, _is("use_8bit", "false", text="without 8-bit weights")),
    "use_8bit": (_ADAPTER, _BITS_BY_FLAGS),
    "bnb_4bit_compute_dtype": (_FOUR_BIT,),
    "bnb_4bit_quant_type": (_FOUR_BIT,),
    "use_nested_quant": (_FOUR_BIT,),
    "quantization.scheme": (_ADAPTER,),
    "hardware.engine": (_ON_CUDA,),
    "hardware.sharding": (_SEVERAL_GPUS,),
    "hardware.sequence_parallel_size": (
        _SEVERAL_GPUS,
        _ON_CUDA,
        _is("hardware.sharding", "fsdp2"),
    ),
    "hardware.engine_options": (_ON_CUDA, _is("hardware.engine", "surogate")),
    "hardware.max_gpu_temperature": (_ON_CUDA,),
    "hardware.max_gpu_power": (_ON_CUDA,),
    "hardware.torch_compile_mode": (_COMPILED,),
    "hardware.regional_compilation": (_COMPILED,),
    "memory.checkpoint_every_n_layers": (_TRANSFORMERS, _RECOMPUTED),
    "memory.activation_offload": (_TRANSFORMERS, _ON_CUDA),
    "memory.max_vram_fraction": (_ON_CUDA,),
    "quantization.skip_first_layers": (_QUANTIZED_OR_FP8,),
    "quantization.skip_last_layers": (_QUANTIZED_OR_FP8,),
    "quantization.fp8_block_size": (_ADAPTER, _is("quantization.scheme", "fp8")),
    "quantization.four_over_six": (_ADAPTER, _is("quantization.scheme", "nvfp4")),
    "quantization.fp8_training": (_TRANSFORMERS, _is("strategy", "sft", "dpo", "rlhf")),
    "quantization.fp8_recipe": (_FP8_TRAINING,),
    "quantization.allow_slow": (_EMULATED,),
    "packing": (_TEXT, _COMPLETIONS),
    "group_by_length": (
        _is("packing", "false", text="without packing"),
        _is("data.shuffle", "true", text="with shuffled rows"),
        _ANY_ORDER,
    ),
    "data.shuffle": (_NOT_KTO,),
    "data.loss_on": (_TEXT, _COMPLETIONS),
    "data.role_weights": (_TEXT, _COMPLETIONS),
    "data.message_weights": (_TEXT, _COMPLETIONS),
    "data.padding_free": (_TEXT, _COMPLETIONS),
    "data.packing_strategy": (_TEXT, _COMPLETIONS, _is("packing", "true", text="with packing")),
    "learning_rate": (_RATE_IS_SET,),
    "trainer.target_tokens": (_READS_ROWS, _COUNTED),
    "trainer.target_flops": (_COMPLETIONS, _COUNTED),
    "data.records_to_sample": (_COUNTED,),
    "trainer.fractional_epochs": (_COUNTED,),
    "per_device_eval_batch_size": (_EVALUATED,),
    "eval_steps": (_EVALUATED,),
    "evaluation.keep_best": (_EVALUATED,),
    "evaluation.generated_rows": (_SCORED, _EVALUATED),
    "evaluation.samples": (_TRANSFORMERS,),
    "evaluation.sample_prompts": (_TRANSFORMERS, _SAMPLED),
    "evaluation.sample_tokens": (_TRANSFORMERS, _SAMPLED),
    "evaluation.sample_every": (_TRANSFORMERS, _SAMPLED),
    "evaluation.eval_tokens": (_FROM_NOTHING, _EVALUATED),
    "evaluation.core_bundle": (_FROM_NOTHING,),
    "evaluation.core_every": (_FROM_NOTHING, _WITH_CORE),
    "evaluation.core_max_per_task": (_FROM_NOTHING, _WITH_CORE),
    "evaluation.report": (_OF_A_MODEL,),
    "evaluation.row_losses": (
        _TRANSFORMERS,
        _COMPLETIONS,
        _OF_A_MODEL,
        _is("trainer.torch_compile", "false", text="without a compiled model"),
    ),
    "evaluation.early_stopping": (_EVALUATED,),
    "evaluation.early_stopping_patience": (_EVALUATED, _EARLY_STOPPING),
    "evaluation.early_stopping_threshold": (_EVALUATED, _EARLY_STOPPING),
    "privacy.enabled": (_TEXT, _COMPLETIONS),
    "privacy.epsilon": (_PRIVATE,),
    "privacy.delta": (_PRIVATE,),
    "privacy.max_grad_norm": (_PRIVATE,),
    "pretraining.": (_FROM_NOTHING,),
    "pretraining.enabled": (_TEXT, _is("strategy", "sft")),
    "pretraining.vocab_size": (
        _FROM_NOTHING,
        _is("pretraining.tokenizer", "train", text="with a tokenizer of its own"),
    ),
    "pretraining.freeze_embeddings": (_FROM_NOTHING, _BORROWED),
    "pretraining.embedding_adapter_dim": (
        _FROM_NOTHING,
        _BORROWED,
        _is("pretraining.freeze_embeddings", "true", text="with borrowed embeddings"),
        _GROWS,
    ),
    "pretraining.window_pattern": (_FROM_NOTHING, _is("pretraining.arch", "qwen3")),
    "pretraining.target_flops": (_FROM_NOTHING, _COUNTED),
    "pretraining.target_param_data_ratio": (_FROM_NOTHING, _COUNTED),
    "progressive.": (_GROWS,),
    "progressive.enabled": (_TEXT, _is("strategy", "sft")),
    "progressive.stack_rank": (_GROWS, _STACK_LORA, _FIRST_SIZE),
    "progressive.stack_alpha": (_GROWS, _STACK_LORA, _FIRST_SIZE),
    "progressive.trunk_lora": (_GROWS, _TRUNK_LORA),
    "progressive.trunk_rank": (_GROWS, _TRUNK_LORA, _OWN_TRUNK_LORA),
    "progressive.trunk_alpha": (_GROWS, _TRUNK_LORA, _OWN_TRUNK_LORA),
    "progressive.rank_strategy": (_GROWS, _STACK_LORA),
    "progressive.rank_pattern": (_GROWS, _STACK_LORA, _BY_PATTERN),
    "progressive.alpha_pattern": (_GROWS, _STACK_LORA, _BY_PATTERN),
    "progressive.per_stage": (_GROWS, _STACK_LORA, _is("progressive.rank_strategy", "table")),
    "progressive.epochs_per_stage": (
        _GROWS,
        _is("progressive.steps_per_stage", "", text="without steps of a stage"),
    ),
    "progressive.trunk_quantization": (_GROWS, _OF_A_MODEL),
    "progressive.mask_by": (_GROWS, _MASKED),
    "progressive.mask_steps": (_GROWS, _MASKED, _BY_LIST),
    "progressive.mask_fractions": (_GROWS, _MASKED, _BY_LIST),
    "progressive.mask_min": (_GROWS, _MASKED, _BY_SCHEDULE),
    "progressive.mask_max": (_GROWS, _MASKED, _BY_SCHEDULE),
    "progressive.mask_schedule": (_GROWS, _MASKED, _BY_SCHEDULE),
    "progressive.mask_token": (_GROWS, _MASKED),
    "progressive.cache_activations": (_GROWS, _FIXED_TRUNK),
    "progressive.cache_limit_gib": (
        _GROWS,
        _FIXED_TRUNK,
        _is("progressive.cache_activations", "true", text="with a cache of the trunk"),
    ),
    "model.chat_template": (_OF_A_MODEL,),
    "model.tokenizer": (_OF_A_MODEL,),
    "model.rope_type": (_OF_A_MODEL,),
    "logging.project": (_TRACKED,),
    "logging.experiment": (_BY_EXPERIMENT,),
    "logging.repo": (_BY_AIM,),
    "logging.wandb_mode": (_BY_WANDB,),
    "warmup_ratio": (_is("schedule.warmup_steps", "", text="without warm-up steps"), _WARMS_UP),
    "optimizer.beta1": (_MOMENTUM,),
    "optimizer.beta2": (_MOMENTUM,),
    "optimizer.epsilon": (_ADAM,),
    "optimizer.muon_momentum": (_MUON,),
    "optimizer.muon_beta2": (_is("optim", "normuon"),),
    "optimizer.muon_scale": (_MUON,),
    "optimizer.cautious_weight_decay": (_MUON,),
    **dict.fromkeys(
        (f"optimizer.{kind}_lr" for kind in ("matrix", "embedding", "unembedding", "scalar")),
        (_WHOLE_WEIGHTS,),
    ),
    "optimizer.adapter_lr": (_ADAPTER_OR_GROWS,),
    "optimizer.new_layer_lr": (_GROWS,),
    "optimizer.loraplus_ratio": (_ADAPTER,),
    "schedule.warmup_steps": (_WARMS_UP,),
    "schedule.patience": (_BY_RESULTS,),
    "schedule.cycles": (_is("lr_scheduler_type", "cosine_with_restarts"),),
    "schedule.power": (_is("lr_scheduler_type", "polynomial"),),
    "schedule.decay_steps": (_DECAYS,),
    "schedule.decay_ratio": (_DECAYS,),
    "schedule.decay_shape": (_DECAYS,),
    "schedule.final_lr_fraction": (_SCHEDULE_DECAYS,),
    "trainer.neftune_noise_alpha": (_COMPLETIONS,),
    "trainer.preference_beta": (_DPO,),
    "trainer.preference_loss": (_DPO,),
    "trainer.precompute_ref_log_probs": (_DPO, _WITH_REFERENCE),
    "trainer.rlhf_algorithm": (_RLHF,),
    "trainer.reward": (_RLHF,),
    "trainer.reward_model": (_RLHF, _REWARD_MODEL),
    "trainer.reward_learning_rate": (_RLHF, _REWARD_MODEL, _TRAINED_REWARD_MODEL),
    "trainer.reward_epochs": (_RLHF, _REWARD_MODEL, _TRAINED_REWARD_MODEL),
    "trainer.reward_pattern": (_RLHF, _is("trainer.reward", "regex")),
    "trainer.reward_words": (_RLHF, _is("trainer.reward", "length")),
    "trainer.kl_beta": (_RLHF,),
    "trainer.num_generations": (_RLHF,),
    "trainer.max_completion_length": (_RLHF,),
    "trainer.generation_temperature": (_RLHF,),
}


def applies(name: str, values: Mapping[str, Any]) -> bool:
    """Return whether the setting `name` has an effect with these values.

    `values` are by dotted name, typed or as text; missing settings have their default.
    """
    return all(condition.holds(_getter(values)) for condition in conditions_for(name))


def inapplicable_settings(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the settings that have no effect with these values."""
    return frozenset(spec.name for spec in field_specs() if not applies(spec.name, values))


def conditions_for(name: str) -> tuple[Condition, ...]:
    """Return the conditions under which a setting applies; none where it always does."""
    group, dot, _ = name.rpartition(".")
    return CONDITIONS.get(name, CONDITIONS.get(f"{group}{dot}", ()) if dot else ())


def describe_conditions(name: str) -> str:
    """Return when the setting applies, such as `with strategy rlhf, with a reward model`."""
    return ", ".join(condition.text for condition in conditions_for(name))


def _getter(values: Mapping[str, Any]) -> Getter:
    def get(name: str) -> str:
        # Values of settings that do not apply are kept in the form but have no effect.
        is_set = name in values and all(rule.holds(get) for rule in conditions_for(name))
        return _text(values[name]) if is_set else _defaults()[name]

    return get


@cache
def _defaults() -> dict[str, str]:
    return {name: _text(spec.default) for name, spec in specs_by_name().items()}


def _text(value: object) -> str:
    if value is None or value in ([], "[]"):
        return ""
    return str(value).strip().lower() if isinstance(value, bool | str) else str(value)


def _bits(get: Getter) -> str:
    """Return the bits of the frozen weights: 4, 8, or empty where they are not quantized."""
    if get("adapter.enabled") == "false":
        return ""
    scheme = get("quantization.scheme")
    if _FP8_TRAINING.holds(get):
        return ""
    if scheme != "auto":
        return "" if scheme == "none" else "4" if scheme == "bnb-4bit" else "8"
    if get("use_8bit") == "true":
        return "8"
    return "4" if get("use_4bit") == "true" else ""
