"""Load model, tokenizer and adapter with Unsloth; NVIDIA GPUs only."""

from __future__ import annotations

from typing import Any

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# Unsloth patches trl, transformers and peft on import, so it must be imported before them.
try:
    import unsloth
except Exception as error:
    reason = str(error).strip().split("\n", 1)[0].removeprefix("Unsloth: ").rstrip(".")
    raise WorkerError(
        "provider-broken",
        Problem(
            "provider",
            f"Unsloth cannot be imported: {reason or type(error).__name__}.",
            "Run `python launch.py setup --with unsloth`, or choose the provider huggingface.",
        ),
    ) from error

from modelforge.modeling.adapters.lora import lora_config
from modelforge.modeling.generation_config import generation_config_of
from modelforge.modeling.providers import huggingface, quantization
from modelforge.modeling.providers.huggingface import DTYPES, LoadedModel, Progress

# Arguments that Unsloth takes as LoraConfig has them.
SHARED = (
    *("r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "use_dora"),
    *("init_lora_weights", "loftq_config"),
)
# Layers with kernels of Unsloth; it expects them by name.
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load(
    plan: Plan, config: TrainingConfig, progress: Progress, head: Head = "causal"
) -> LoadedModel:
    """Load model and tokenizer onto the GPU, with the adapter; never remote code.

    `progress` receives the number of loaded weights and their total.

    Raises:
        WorkerError: Unsloth does not support the run, or the model cannot be loaded.
    """
    if not plan.facts.runs_on_unsloth or head != "causal" or plan.device != "cuda":
        raise WorkerError("provider-unsuited", _unsupported_run(plan))
    # Unsloth changes the pad token and adds tokens; the token preview uses this tokenizer.
    tokenizer, generation = huggingface.load_tokenizer(plan)
    with huggingface.report_loading(plan, progress):
        model, _ = unsloth.FastLanguageModel.from_pretrained(**model_arguments(plan, config))
    if plan.trains == "adapter":
        model = _with_adapter(model, plan, config)
    model.config.use_cache = False
    model.generation_config = generation
    return LoadedModel(model, tokenizer, generation_config_of(plan)[1])


def model_arguments(plan: Plan, config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of FastLanguageModel.from_pretrained."""
    arguments = {
        "model_name": plan.model_path,
        # Otherwise it looks for its own copy of the model on the Hub, and loads a list from GitHub.
        "use_exact_model_name": True,
        "max_seq_length": plan.max_length,
        "dtype": DTYPES[plan.precision],
        "load_in_4bit": plan.quantization == "4-bit",
        "load_in_8bit": plan.quantization == "8-bit",
        "load_in_16bit": False,
        "full_finetuning": plan.trains == "all",
        # Full fine-tuning in 32 bits, as with the other provider.
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
        # Without it, Unsloth always uses nf4 with double quantization.
        arguments["quantization_config"] = quantization.quantization_config(plan, config)
    return arguments


def adapter_arguments(model: Any, plan: Plan, config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of FastLanguageModel.get_peft_model for the adapter of the settings."""
    lora: Any = lora_config(config, plan)
    return {
        **{name: getattr(lora, name) for name in SHARED},
        "target_modules": _target_modules(model, lora.target_modules),
        "modules_to_save": sorted(lora.modules_to_save) if lora.modules_to_save else None,
        "use_gradient_checkpointing": _checkpointing(config),
        "random_state": config.trainer.seed,
        "max_seq_length": plan.max_length,
    }


def _with_adapter(model: Any, plan: Plan, config: TrainingConfig) -> Any:
    arguments = adapter_arguments(model, plan, config)
    try:
        return unsloth.FastLanguageModel.get_peft_model(model, **arguments)
    except (TypeError, NotImplementedError) as error:
        first = str(error).strip().split("\n", 1)[0].removeprefix("Unsloth: ").rstrip(".")
        problem = Problem(
            "adapter",
            f"Unsloth does not support this adapter: {first}.",
            "Use the default adapter settings, or choose the provider huggingface.",
        )
        raise WorkerError("adapter-unsupported", problem) from error


def _checkpointing(config: TrainingConfig) -> str | bool:
    """Return Unsloth's own checkpointing, or that of Transformers where its own writes files.

    With whole embedding layers it pickles them into the model's folder, or the current one
    (`offload_input_embeddings` in unsloth/models/_utils.py).
    """
    if not config.gradient_checkpointing:
        return False
    return True if config.adapter.modules_to_save.strip() else "unsloth"


def _target_modules(model: Any, targets: str | set[str]) -> str | list[str]:
    """Return the layers by name if Unsloth has kernels for all of them, else as configured."""
    if targets != "all-linear":
        return targets if isinstance(targets, str) else sorted(targets)
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return list(LAYERS) if present.issuperset(LAYERS) else "all-linear"


def _unsupported_run(plan: Plan) -> Problem:
    if plan.device != "cuda":
        what = f"Unsloth needs an NVIDIA GPU; this run uses the {plan.device}."
    else:
        what = f"Unsloth supports sft, qlora and dpo; this run uses {plan.method}."
    return Problem("provider", what, "Choose the provider huggingface.")
