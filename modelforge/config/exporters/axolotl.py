"""Axolotl: its YAML files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.exporters.every_system import RULES as EVERYWHERE
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.exporters.rules import (
    Rule,
    default_only,
    elsewhere,
    fractional_epochs,
    learning_rate,
    left_out,
    not_needed,
    option,
    rope_group,
    steps,
)
from modelforge.config.exporters.system import SourceList, TargetSystem, written_sources
from modelforge.config.exporters.training_arguments import (
    AT_EVALUATIONS,
    NO_COOLDOWN,
    attention,
    compile_mode,
    split_differs,
)
from modelforge.config.exporters.trl import LOADERS, is_file
from modelforge.config.schema.data import Source
from modelforge.errors import Problem

_SOURCE = {
    "path": "path",
    "subset": "name",
    "split": "split",
    "messages_field": "field_messages",
    "system_field": "field_system",
    "tools_field": "field_tools",
    "instruction_field": "field_instruction",
    "input_field": "field_input",
    "output_field": "field_output",
    "text_field": "field",
    "chosen_field": "field_chosen",
    "rejected_field": "field_rejected",
    "message_property_mappings": "message_property_mappings",
    "type": "type",
}
TYPES = {"text": "completion", "instruction": "alpaca", "conversation": "chat_template"}
PREFERENCE_TYPE = "chat_template.default"
LOSSES = {"sigmoid": "dpo", "ipo": "ipo", "kto": "kto", "orpo": "orpo"}
BY_COLUMNS = "Rows are recognised by their columns here, and by a type there: check type."


def _sources(_value: Any, facts: Facts) -> Written:
    if facts.data:
        kind = PREFERENCE_TYPE if facts.about_method.needs_preferences else "chat_template"
        entry = {"path": facts.data, "ds_type": "json", "type": kind}
        return Written({"datasets": [entry]}, "All sources are written into one file.")
    return _listed("datasets", facts.sources, facts)


def _validation(value: list[Source], facts: Facts) -> Written:
    return _listed("test_datasets", value, facts)


def _listed(name: str, sources: list[Source], facts: Facts) -> Written:
    listed = written_sources(name, sources, _SOURCE, facts)
    for entry in listed.options.get(name, []):
        if is_file(entry["path"]):
            entry["ds_type"] = LOADERS[entry["path"][entry["path"].rindex(".") :].lower()]
        entry["type"] = _type(entry, facts)
    return SourceList(listed.options, BY_COLUMNS if sources else "", lines=listed.lines)


def _type(entry: Mapping[str, Any], facts: Facts) -> str:
    if facts.about_method.needs_preferences:
        return PREFERENCE_TYPE
    if "field_messages" in entry:
        return TYPES["conversation"]
    if "field" in entry or "field_instruction" in entry:
        return TYPES["text" if "field" in entry else "instruction"]
    return TYPES.get(entry.get("type", ""), TYPES["conversation"])


def _adapter(value: bool, facts: Facts) -> Written:
    if not value:
        return Written(why="Without adapter, every weight is trained.")
    return Written({"adapter": "qlora" if facts.storage == "4-bit" else "lora"}, "A choice there.")


def _storage(_value: str, facts: Facts) -> Written:
    if facts.storage == "none":
        return Written({"load_in_4bit": False, "load_in_8bit": False}, "Switches there.")
    if not facts.is_quantized:
        why = f"Axolotl quantizes with bitsandbytes; {facts.storage} is left out."
        return Written(why=why, is_lost=True)
    name = "load_in_4bit" if facts.storage == "4-bit" else "load_in_8bit"
    return Written({name: True}, "A switch there.")


def _quantization_detail(neutral: Any, what: str) -> Rule:
    return left_out(f"Axolotl has {what} for 4 bits.", [neutral])


def _targets(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    if found == ["all-linear"]:
        return Written({"lora_target_linear": True}, "A switch there.")
    return Written({"lora_target_modules": found}, "A list there.")


def _modules(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    return Written({"lora_modules_to_save": found} if found else {})


def _alpha(value: int, facts: Facts) -> Written:
    used = facts.lora_alpha
    return Written({"lora_alpha": used}, "" if used == value else "The multiple of the rank.")


def _length(value: int | None, facts: Facts) -> Written:
    why = "" if value == facts.max_length else "What the profile and the model give."
    return Written({"sequence_len": facts.max_length}, why)


def _truncation(value: str, _: Facts) -> Written:
    known = {"delete": "drop", "right": "truncate"}
    if value not in known:
        return Written(why="Axolotl leaves long rows out, or cuts them on the right.", is_lost=True)
    return Written({"excess_length_strategy": known[value]}, "Its name there.")


def _loss_on(value: str, _: Facts) -> Written:
    if value == "last_round":
        return Written(why="The last answer cannot be trained alone.", is_lost=True)
    why = "" if value == "all" else "Answers alone."
    return Written({"train_on_inputs": value == "all"}, why or "Prompts are trained too.")


def _template(value: str | None, _: Facts) -> Written:
    if not value:
        return Written({"chat_template": "tokenizer_default"}, "The model's own.")
    if value.endswith(".jinja"):
        why = "Axolotl takes the template itself: chat_template jinja and chat_template_jinja."
        return Written(why=why, is_lost=True)
    names = {"chatml": "chatml", "llama3": "llama3", "gemma": "gemma", "qwen": "qwen_25"}
    return Written({"chat_template": names[value]}, "A template of its own of this name.")


def _optimizer(value: str, _: Facts) -> Written:
    if value == "normuon":
        return Written({"optimizer": "muon"}, "Muon there, without the division by rows.", True)
    return Written({"optimizer": value})


def _rate_of_tables(value: float | None, facts: Facts) -> Written:
    head = facts.config.optimizer.unembedding_lr
    if value is None and head is None:
        return Written()
    if value == head:
        return Written({"embedding_lr": value}, "One rate of embeddings and head there.")
    why = "Embeddings and head have one rate there; it is that of the head."
    return Written({"embedding_lr": head or facts.config.learning_rate}, why, is_lost=True)


def _schedule(value: str, facts: Facts) -> Written:
    final = facts.config.schedule.final_lr_fraction
    lost = facts.cools_down
    if value == "cosine" and final:
        options = {"lr_scheduler": "cosine", "cosine_min_lr_ratio": final}
        return Written(
            options, NO_COOLDOWN if lost else "The least rate has an option there.", lost
        )
    name, arguments = facts.schedule
    options = {"lr_scheduler": name}
    if lost:
        extra = {"lr_scheduler_kwargs": arguments} if arguments else {}
        return Written(options | extra, NO_COOLDOWN, is_lost=True)
    if not arguments:
        return Written(options, "" if name == value else "Its name there.")
    if 0 < arguments.get("num_decay_steps", 1) < 1:
        why = (
            "The decay is a share of the steps here, whose number the rows decide: give max_steps."
        )
        return Written(options, why, is_lost=True)
    return Written(options | {"lr_scheduler_kwargs": arguments}, "With its arguments there.")


def _warmup(value: float, facts: Facts) -> Written:
    steps = facts.config.schedule.warmup_steps
    if steps is not None:
        return Written({"warmup_steps": steps}, "schedule.warmup_steps decides.")
    return Written({"warmup_ratio": value})


def _precision(_value: Any, facts: Facts) -> Written:
    if facts.precision == "auto":
        return Written({"bf16": "auto"}, "Chosen there for the GPU.")
    return Written(
        {"bf16": facts.precision == "bf16", "fp16": facts.precision == "fp16"}, "A switch for each."
    )


def _device(value: str, facts: Facts) -> Written:
    return left_out("A GPU is used where there is one.", ["auto", "cuda"])(value, facts)


def _split(value: float, facts: Facts) -> Written:
    if facts.config.data.validation_sources:
        return Written(why="The evaluation rows have their own files.")
    return Written({"val_set_size": value})


def _save_steps(value: int | None, facts: Facts) -> Written:
    if facts.save_steps == -1:
        return Written({"save_strategy": "no"}, "The model is saved at the end.")
    why = "" if value == facts.save_steps else AT_EVALUATIONS
    return Written({"save_steps": facts.save_steps}, why)


def _keep_best(value: bool, facts: Facts) -> Written:
    if value and not facts.keeps_best:
        return Written(why="Without checkpoints there is no best one.", is_lost=True)
    return Written({"load_best_model_at_end": value})


def _patience(value: int, facts: Facts) -> Written:
    if not facts.config.evaluation.early_stopping:
        return Written(why="Early stopping is off.")
    return Written({"early_stopping_patience": value})


def _offloading(value: bool, facts: Facts) -> Written:
    if not value or facts.config.gradient_checkpointing:
        return Written({"activation_offloading": True} if value else {})
    why = "Axolotl offloads with gradient checkpointing only."
    return Written(why=why, is_lost=True)


def _loss(value: str, _: Facts) -> Written:
    if value not in LOSSES:
        why = f"Axolotl has dpo, ipo, kto and orpo; dpo stands for {value}."
        return Written({"rl": "dpo"}, why, is_lost=True)
    return Written({"rl": LOSSES[value]}, "A choice there.")


def _beta(value: float, facts: Facts) -> Written:
    return Written({"orpo_alpha" if facts.method == "orpo" else "rl_beta": value})


def _only_trackers(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    lost = [name for name in found if name not in ("wandb", "tensorboard")]
    options = {"use_tensorboard": True} if "tensorboard" in found else {}
    if lost:
        return Written(options, f"Set up {', '.join(lost)} there by its own options.", is_lost=True)
    return Written(options)


def _project(value: str, facts: Facts) -> Written:
    if "wandb" not in facts.config.logging.report_to:
        return Written(why="It names a project of wandb.")
    return Written({"wandb_project": value})


def _run_name(value: str | None, facts: Facts) -> Written:
    if "wandb" not in facts.config.logging.report_to or not value:
        return Written(why="Runs have no names there.")
    return Written({"wandb_name": value})


def _check(facts: Facts) -> Iterator[Problem]:
    if facts.method not in ("sft", "dpo", "kto", "orpo"):
        what = f"These settings train {facts.about_method.label}, which is another thing there."
        yield Problem("strategy", what, "Choose sft, qlora or dpo.")


def _finish(_: Facts) -> Mapping[str, Any]:
    return {"output_dir": "output"}


RULES: dict[str, Rule] = {
    **EVERYWHERE,
    "task": not_needed("Every task is text in, text out."),
    "strategy": not_needed("Written with rl and adapter."),
    "model_name": option("base_model"),
    "data.sources": _sources,
    "data.validation_sources": _validation,
    "eval_split": _split,
    "max_seq_length": _length,
    "data.truncation_strategy": _truncation,
    "data.loss_on": _loss_on,
    "data.padding_free": left_out("Rows are padded, or packed with sample_packing."),
    "data.packing_strategy": not_needed("Axolotl has its own way of packing."),
    "data.num_workers": option("dataloader_num_workers"),
    "packing": option("sample_packing"),
    "group_by_length": option("group_by_length"),
    "model.tokenizer": option("tokenizer_config"),
    "data.shuffle": lambda value, _: (
        Written(why="Rows are shuffled there.")
        if value
        else Written({"curriculum_sampling": True}, "A switch for the opposite there.")
    ),
    "model.chat_template": _template,
    "model.system_prompt": option("default_system_message"),
    "model.attn_implementation": attention,
    "model.allow_hub_kernels": not_needed("Its attention is one of a list."),
    "model.response_prefix": left_out("Write the prefix into the chat template."),
    "data.use_chat_template": left_out("Conversations go through a template there.", [True]),
    "data.padding_side": left_out("Its own side of padding is used.", ["auto", "right"]),
    "model.dtype": left_out("The weights follow the precision there.", ["auto"]),
    "model.max_model_len": elsewhere("model.rope_type"),
    "model.rope_type": rope_group,
    "model.rope_factor": elsewhere("model.rope_type"),
    "hardware.precision": _precision,
    "hardware.device": _device,
    "gradient_checkpointing": option("gradient_checkpointing"),
    "optim": _optimizer,
    "optimizer.loraplus_ratio": option("loraplus_lr_ratio"),
    "optimizer.embedding_lr": _rate_of_tables,
    "optimizer.unembedding_lr": elsewhere("optimizer.embedding_lr"),
    "optimizer.beta1": option("adam_beta1"),
    "optimizer.beta2": option("adam_beta2"),
    "optimizer.epsilon": option("adam_epsilon"),
    "learning_rate": learning_rate,
    "lr_scheduler_type": _schedule,
    "warmup_ratio": _warmup,
    "weight_decay": option("weight_decay"),
    "max_grad_norm": option("max_grad_norm"),
    "per_device_train_batch_size": option("micro_batch_size"),
    "per_device_eval_batch_size": option("eval_batch_size"),
    "gradient_accumulation_steps": option("gradient_accumulation_steps"),
    "num_train_epochs": option("num_epochs"),
    "trainer.fractional_epochs": fractional_epochs("num_epochs"),
    "max_steps": steps,
    "eval_steps": option("eval_steps"),
    "trainer.save_steps": _save_steps,
    "trainer.save_total_limit": option("save_total_limit"),
    "evaluation.keep_best": _keep_best,
    "evaluation.early_stopping": lambda value, _: Written(
        why="Written with its patience." if value else "This value asks for nothing."
    ),
    "evaluation.early_stopping_patience": _patience,
    "evaluation.early_stopping_threshold": left_out("Any improvement counts there.", [0.0]),
    "trainer.seed": option("seed"),
    "trainer.neftune_noise_alpha": option("neftune_noise_alpha"),
    "trainer.torch_compile": option("torch_compile"),
    "hardware.torch_compile_mode": compile_mode,
    "memory.activation_offload": _offloading,
    "trainer.preference_loss": _loss,
    "trainer.preference_beta": _beta,
    "trainer.precompute_ref_log_probs": left_out("The reference is computed in every step."),
    "adapter.enabled": _adapter,
    "lora_r": option("lora_r"),
    "lora_alpha": _alpha,
    "lora_dropout": option("lora_dropout"),
    "adapter.target_modules": _targets,
    "adapter.modules_to_save": _modules,
    "adapter.use_rslora": option("peft_use_rslora"),
    "adapter.use_dora": option("peft_use_dora"),
    "adapter.init": default_only("adapter.init", "Adapters start with PEFT's usual weights."),
    "adapter.dtype": not_needed("The number format of adapters there."),
    "adapter.start_from": option("lora_model_dir"),
    "quantization.scheme": _storage,
    "quantization.fp8_training": lambda value, _: Written({"fp8": True} if value else {}),
    "quantization.skip_first_layers": left_out("All layers are quantized."),
    "quantization.skip_last_layers": left_out("All layers are quantized."),
    "use_nested_quant": _quantization_detail(True, "nested quantization"),
    "bnb_4bit_quant_type": _quantization_detail("nf4", "NF4"),
    "bnb_4bit_compute_dtype": not_needed("It follows the precision of the training."),
    "logging.run_name": _run_name,
    "logging.logging_steps": option("logging_steps"),
    "logging.report_to": _only_trackers,
    "logging.project": _project,
    "logging.experiment": option("mlflow_experiment_name"),
}
SYSTEM = TargetSystem(
    name="axolotl",
    title="Axolotl",
    file_name="axolotl.yaml",
    rules=RULES,
    check=_check,
    finish=_finish,
    command=lambda _: "axolotl train FILE",
    losses=split_differs,
)
