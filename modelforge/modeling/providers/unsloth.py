"""Loads model and tokenizer with Unsloth, adapter included; NVIDIA cards only."""

from __future__ import annotations

from typing import Any

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# Unsloth rewrites trl, transformers and peft as it is imported, and so must come before them.
try:
    import unsloth
except Exception as error:
    reason = str(error).strip().split("\n", 1)[0].removeprefix("Unsloth: ").rstrip(".")
    raise WorkerError(
        "provider-broken",
        Problem(
            "provider",
            f"Unsloth cannot be started here: {reason or type(error).__name__}.",
            "Run `python launch.py setup --with unsloth`, or choose the provider huggingface.",
        ),
    ) from error

from modelforge.modeling.adapters.lora import lora_config
from modelforge.modeling.providers import huggingface, quantization
from modelforge.modeling.providers.huggingface import DTYPES, LoadedModel, Progress

# The layers that Unsloth has its own code for; it wants them by name.
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load(
    plan: Plan, config: TrainingConfig, progress: Progress, head: Head = "causal"
) -> LoadedModel:
    """Load what the plan names onto the GPU, with the adapter on it. Never remote code.

    `progress` hears weights loaded and weights in all. Raises WorkError for what Unsloth does not
    train and, as the provider huggingface does, for a model that cannot be loaded.
    """
    if not plan.facts.runs_on_unsloth or head != "causal" or plan.device != "cuda":
        raise WorkerError("provider-unsuited", _unsuited(plan))
    # The tokenizer that the token view reads with: Unsloth's own changes pads and adds tokens.
    tokenizer, _ = huggingface.load_tokenizer(plan)
    with huggingface.report_loading(plan, progress):
        model, _ = unsloth.FastLanguageModel.from_pretrained(**model_arguments(plan, config))
    if plan.trains == "adapter":
        model = _with_adapter(model, plan, config)
    model.config.use_cache = False
    return LoadedModel(model, tokenizer)


def model_arguments(plan: Plan, config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of FastLanguageModel.from_pretrained."""
    settings = {
        "model_name": plan.model_path,
        # Otherwise it looks for a copy of its own on the Hub, and asks GitHub for the list.
        "use_exact_model_name": True,
        "max_seq_length": plan.max_length,
        "dtype": DTYPES[plan.precision],
        "load_in_4bit": plan.quantization == "4-bit",
        "load_in_8bit": plan.quantization == "8-bit",
        "load_in_16bit": False,
        "full_finetuning": plan.trains == "all",
        # All weights learn in 32 bits, as with the other provider.
        "float32_mixed_precision": plan.trains == "all" or None,
        "use_gradient_checkpointing": _checkpointing(config),
        "random_state": config.trainer.seed,
        "fix_tokenizer": False,
        "fast_inference": False,
        "device_map": {"": 0},
        "use_safetensors": True,
        **huggingface.hub_arguments(plan),
    }
    if plan.quantization == "4-bit":
        # Without it the type is always nf4 and nested.
        settings["quantization_config"] = quantization.quantization_config(plan, config)
    return settings


def adapter_arguments(model: Any, plan: Plan, config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of FastLanguageModel.get_peft_model: the same adapter, in its words."""
    shape: Any = lora_config(config, plan)
    return {
        "r": shape.r,
        "lora_alpha": shape.lora_alpha,
        "lora_dropout": shape.lora_dropout,
        "target_modules": _layers(model, shape.target_modules),
        "bias": shape.bias,
        "modules_to_save": _listed(shape.modules_to_save),
        "use_rslora": shape.use_rslora,
        "use_dora": shape.use_dora,
        "init_lora_weights": shape.init_lora_weights,
        "loftq_config": shape.loftq_config,
        "use_gradient_checkpointing": _checkpointing(config),
        "random_state": config.trainer.seed,
        "max_seq_length": plan.max_length,
    }


def _with_adapter(model: Any, plan: Plan, config: TrainingConfig) -> Any:
    settings = adapter_arguments(model, plan, config)
    try:
        return unsloth.FastLanguageModel.get_peft_model(model, **settings)
    except (TypeError, NotImplementedError) as error:
        first = str(error).strip().split("\n", 1)[0].removeprefix("Unsloth: ").rstrip(".")
        problem = Problem(
            "adapter",
            f"Unsloth refuses this adapter: {first}.",
            "Leave the settings of the adapter as they come, or choose the provider huggingface.",
        )
        raise WorkerError("adapter-unsupported", problem) from error


def _checkpointing(config: TrainingConfig) -> str | bool:
    return "unsloth" if config.gradient_checkpointing else False


def _layers(model: Any, asked: str | set[str]) -> str | list[str]:
    """Return the layers by name where Unsloth knows them all, else as they were asked for."""
    if asked != "all-linear":
        return asked if isinstance(asked, str) else sorted(asked)
    here = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return list(LAYERS) if here.issuperset(LAYERS) else "all-linear"


def _listed(names: Any) -> list[str] | None:
    return sorted(names) if names else None


def _unsuited(plan: Plan) -> Problem:
    if plan.device != "cuda":
        what = f"Unsloth trains on an NVIDIA GPU; this run would use the {plan.device}."
    else:
        what = f"Unsloth trains by sft, qlora and dpo here; this run is {plan.method}."
    return Problem("provider", what, "Choose the provider huggingface.")
