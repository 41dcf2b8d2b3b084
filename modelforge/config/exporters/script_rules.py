"""What each setting becomes in the script that trains with TRL and PEFT alone.

Names of options with a dot are arguments of the call that their beginning names: `model`, `lora`,
`bnb`; the others are arguments of the trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.exporters.rules import Rule, elsewhere, left_out, not_needed
from modelforge.config.exporters.system import TargetSystem
from modelforge.config.exporters.training_arguments import (
    ARGUMENTS,
    NO_COOLDOWN,
    activation_offload,
    attention,
    optimizer,
)
from modelforge.errors import Problem

PREPARED = "It is in the prepared rows."
FILE_NAME = "train.py"
CLASSES = {"sft": ("SFTConfig", "SFTTrainer"), "dpo": ("DPOConfig", "DPOTrainer")}
# Adapters whose first weights PEFT makes as we do; the others change the weights below.
INITS = ("default", "gaussian", "orthogonal")


class Code(str):
    """A value that is written as it is, and not as text in quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _from_plan(name: str, attribute: str) -> Rule:
    def write_value(value: Any, facts: Facts) -> Written:
        used = getattr(facts.plan, attribute)
        return Written({name: used}, "" if used == value else "What the plan of the run says.")

    return write_value


def _grouped(_value: bool, facts: Facts) -> Written:
    if not facts.config.data.shuffle:
        return Written({"train_sampling_strategy": "sequential"})
    groups = facts.plan is not None and facts.plan.group_by_length
    return Written({"train_sampling_strategy": "group_by_length" if groups else "random"})


def _schedule(_value: str, facts: Facts) -> Written:
    name, arguments = facts.schedule
    options: dict[str, Any] = {"lr_scheduler_type": name}
    options |= {"lr_scheduler_kwargs": arguments} if arguments else {}
    if facts.cools_down:
        return Written(options, NO_COOLDOWN, is_lost=True)
    return Written(options)


def _attention(_value: str, facts: Facts) -> Written:
    assert facts.plan is not None
    written = attention(facts.plan.attn_implementation, facts)
    return Written({"model.attn_implementation": written.options["attn_implementation"]})


def _compile_mode(_value: str, facts: Facts) -> Written:
    mode = facts.plan.torch_compile_mode if facts.plan is not None else None
    return Written({"torch_compile_mode": mode} if mode not in (None, "default") else {})


def _targets(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    return Written({"lora.target_modules": value.strip() if found == ["all-linear"] else found})


def _modules(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    if not found:
        return Written()
    return Written({"lora.modules_to_save": found, "lora.ensure_weight_tying": True})


def _init(value: str, _: Facts) -> Written:
    if value not in INITS:
        why = f"{value} changes the weights below the adapter, which needs more than PEFT."
        return Written(why=why, is_lost=True)
    return Written({} if value == "default" else {"lora.init_lora_weights": value})


def _precision(_value: str, facts: Facts) -> Written:
    plan = facts.plan
    assert plan is not None
    options = {"bf16": plan.precision == "bf16", "fp16": plan.precision == "fp16"}
    return Written({"model.dtype": Code(f"torch.{plan.weights_dtype}"), **options})


def _device(_value: str, facts: Facts) -> Written:
    is_cuda = facts.plan is not None and facts.plan.device == "cuda"
    if facts.plan is not None and facts.plan.device == "cpu":
        return Written({"use_cpu": True})
    # On Apple GPUs the trainer moves the model.
    return Written({"model.device_map": {"": 0}} if is_cuda else {}, "")


def _storage(value: str, facts: Facts) -> Written:
    if facts.storage == "none":
        return Written(why="The weights are not quantized.")
    if not facts.is_quantized:
        why = f"Weights in {value} need more than Transformers' own reading of the model."
        return Written(why=why, is_lost=True)
    name = "bnb.load_in_4bit" if facts.storage == "4-bit" else "bnb.load_in_8bit"
    return Written({name: True})


def _four_bit(name: str, attribute: str = "") -> Rule:
    def write_value(value: Any, facts: Facts) -> Written:
        if facts.storage != "4-bit":
            return Written()
        used = Code(f"torch.{getattr(facts.plan, attribute)}") if attribute else value
        return Written({name: used})

    return write_value


def _truncation(value: str, facts: Facts) -> Written:
    if facts.method == "sft":
        return Written(why=PREPARED)
    return Written({"truncation_mode": "keep_end" if value == "left" else "keep_start"})


def _lora(name: str) -> Rule:
    return lambda value, _: Written({f"lora.{name}": value} if value else {})


def _for(method: str, name: str, *, is_list: bool = False) -> Rule:
    def write_value(value: Any, facts: Facts) -> Written:
        if facts.method != method:
            return Written()
        return Written({name: [value] if is_list else value})

    return write_value


def _best(value: bool, facts: Facts) -> Written:
    return Written({"load_best_model_at_end": True} if value and facts.keeps_best else {})


def _saved_every(_value: Any, facts: Facts) -> Written:
    assert facts.plan is not None
    if facts.plan.save_steps == -1:
        return Written({"save_strategy": "no"})
    return Written({"save_strategy": "steps", "save_steps": facts.plan.save_steps})


def _check(facts: Facts) -> Iterator[Problem]:
    if facts.method not in CLASSES:
        what = f"The script has SFT and DPO; these settings train {facts.about_method.label}."
        yield Problem("strategy", what, "Export them to another system with --to.")


RULES: dict[str, Rule] = {
    **ARGUMENTS,
    "task": not_needed(PREPARED),
    "strategy": not_needed("The class of the trainer."),
    "model_name": not_needed("MODEL is its folder, or its name on the Hub with its revision."),
    "data.sources": not_needed(PREPARED),
    "data.validation_sources": not_needed(PREPARED),
    "eval_split": not_needed("The rows that are set aside have a file of their own."),
    "data.loss_on": not_needed(PREPARED),
    "model.chat_template": not_needed(PREPARED),
    "model.system_prompt": not_needed(PREPARED),
    "model.response_prefix": not_needed(PREPARED),
    "data.use_chat_template": not_needed(PREPARED),
    "data.padding_side": left_out("Batches are padded on the right.", ["auto", "right"]),
    "data.truncation_strategy": _truncation,
    "max_seq_length": _from_plan("max_length", "max_length"),
    "packing": _for("sft", "packing"),
    "data.packing_strategy": _for("sft", "packing_strategy"),
    "data.padding_free": _for("sft", "padding_free"),
    "gradient_accumulation_steps": _from_plan(
        "gradient_accumulation_steps", "gradient_accumulation_steps"
    ),
    "group_by_length": _grouped,
    "data.shuffle": elsewhere("group_by_length"),
    "lr_scheduler_type": _schedule,
    "warmup_ratio": _from_plan("warmup_steps", "warmup_steps"),
    "optim": optimizer,
    "trainer.torch_compile": _from_plan("torch_compile", "torch_compile"),
    "data.num_workers": _from_plan("dataloader_num_workers", "num_workers"),
    "trainer.save_steps": _saved_every,
    "evaluation.keep_best": _best,
    "eval_steps": _from_plan("eval_steps", "eval_steps"),
    "hardware.precision": _precision,
    "hardware.device": _device,
    "model.attn_implementation": _attention,
    "model.dtype": elsewhere("hardware.precision"),
    "hardware.torch_compile_mode": _compile_mode,
    "memory.activation_offload": activation_offload,
    "adapter.enabled": not_needed("With an adapter there is a LoraConfig."),
    "lora_r": _lora("r"),
    "lora_alpha": _from_plan("lora.lora_alpha", "lora_alpha"),
    "lora_dropout": lambda value, _: Written({"lora.lora_dropout": value}),
    "adapter.target_modules": _targets,
    "adapter.modules_to_save": _modules,
    "adapter.use_rslora": _lora("use_rslora"),
    "adapter.use_dora": _lora("use_dora"),
    "adapter.init": _init,
    "adapter.dtype": not_needed("The loop before the training sets it."),
    "adapter.start_from": not_needed("PeftModel.from_pretrained reads it."),
    "quantization.scheme": _storage,
    "bnb_4bit_quant_type": _four_bit("bnb.bnb_4bit_quant_type"),
    "use_nested_quant": _four_bit("bnb.bnb_4bit_use_double_quant"),
    "bnb_4bit_compute_dtype": _four_bit("bnb.bnb_4bit_compute_dtype", "bnb_4bit_compute_dtype"),
    "quantization.skip_first_layers": left_out("All layers are quantized."),
    "quantization.skip_last_layers": left_out("All layers are quantized."),
    "trainer.preference_beta": _for("dpo", "beta"),
    "trainer.preference_loss": _for("dpo", "loss_type", is_list=True),
    "trainer.precompute_ref_log_probs": _for("dpo", "precompute_ref_log_probs"),
    "logging.project": not_needed("Trackers take it from their environment."),
}
SYSTEM = TargetSystem(
    name="script",
    title="Script",
    file_name=FILE_NAME,
    rules=RULES,
    check=_check,
    finish=lambda _: {},
    command=lambda _: "python FILE",
)
