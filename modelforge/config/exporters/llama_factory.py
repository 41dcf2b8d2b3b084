"""LLaMA-Factory: its YAML files, and the `dataset_info.json` that describes the data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.exporters.rules import Rule, default_only, left_out, not_needed, option
from modelforge.config.exporters.system import SourceList, TargetSystem, set_fields
from modelforge.config.exporters.training_arguments import ARGUMENTS, optimizer, split_differs
from modelforge.config.exporters.trl import is_file
from modelforge.config.plan.weights import VARLEN
from modelforge.config.schema.data import Source
from modelforge.errors import Problem

INFO = "dataset_info.json"
_COLUMNS = {
    "text_field": "prompt",
    "prompt_field": "prompt",
    "instruction_field": "prompt",
    "input_field": "query",
    "output_field": "response",
    "messages_field": "messages",
    "system_field": "system",
    "tools_field": "tools",
    "chosen_field": "chosen",
    "rejected_field": "rejected",
}
LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo", "orpo": "orpo"}
ATTENTION = {"sdpa": "sdpa", "flash_attention_2": "fa2", "eager": "disabled"}
_ENTRY = "Described in dataset_info.json, which stands beside the file."


def _optimizer(value: str, facts: Facts) -> Written:
    if value == "muon":
        return Written({"use_muon": True}, "A switch there.")
    if value == "normuon":
        return Written({"use_muon": True}, "Muon there, without the division by rows.", True)
    return optimizer(value, facts)


def described(source: Source, facts: Facts) -> dict[str, Any]:
    """Return the entry of a source in `dataset_info.json`."""
    path = facts.path(source)
    entry: dict[str, Any] = {"file_name": path} if is_file(path) else {"hf_hub_url": path}
    for ours, theirs in (("subset", "subset"), ("split", "split"), ("samples", "num_samples")):
        if getattr(source, ours) is not None:
            entry[theirs] = getattr(source, ours)
    columns = {
        theirs: getattr(source, ours)
        for ours, theirs in _COLUMNS.items()
        if getattr(source, ours) is not None
    }
    is_chat = source.messages_field is not None or source.type == "conversation"
    if is_chat:
        entry["formatting"] = "sharegpt"
        columns.setdefault("messages", "messages")
        keys = {"role": "role", "content": "content"} | source.message_property_mappings
        entry["tags"] = {
            "role_tag": keys["role"], "content_tag": keys["content"],
            "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system",
        }  # fmt: skip
    if facts.about_method.needs_preferences:
        entry["ranking"] = True
    return entry | ({"columns": columns} if columns else {})


def _sources(_value: Any, facts: Facts) -> Written:
    if facts.data:
        return Written({"dataset": facts.data, "dataset_dir": "."}, _ENTRY)
    return _listed("dataset", facts.sources, facts)


def _validation(value: list[Source], facts: Facts) -> Written:
    return _listed("eval_dataset", value, facts) if value else Written()


def _listed(name: str, sources: list[Source], facts: Facts) -> Written:
    paths = [facts.path(source) for source in sources]
    if any("," in path for path in paths):
        why = "A comma separates names of data sets there: rename the file."
        return Written(why=why, is_lost=True)
    options = {name: ", ".join(paths), "dataset_dir": "."}
    lines = tuple(
        (index, field, getattr(source, field), _described(field))
        for index, source in enumerate(sources)
        for field in set_fields(source)
    )
    return SourceList(options, _ENTRY, lines=lines)


def _described(field: str) -> Written:
    known = (*_COLUMNS, "path", "subset", "split", "samples", "type", "message_property_mappings")
    if field in known:
        return Written({INFO: field}, _ENTRY)
    return Written(why="A data set has no such option.", is_lost=True)


def info_file(facts: Facts) -> str:
    """Return the content of `dataset_info.json`."""
    if facts.data:
        pairs = facts.about_method.needs_preferences
        # The written rows are messages, or a prompt with two answers.
        source = Source(path=facts.data, type="conversation")
        entry = described(source, facts) | ({"ranking": True} if pairs else {})
        return _json({facts.data: entry})
    sources = [*facts.sources, *facts.config.data.validation_sources]
    return _json({facts.path(source): described(source, facts) for source in sources})


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _stage(_value: str, facts: Facts) -> Written:
    stage = {"orpo": "dpo"}.get(facts.method, facts.method)
    return Written({"stage": stage}, "" if stage == _value else "Its name there.")


def _adapter(value: bool, _: Facts) -> Written:
    return Written({"finetuning_type": "lora" if value else "full"}, "A choice there.")


def _warmup(value: float, facts: Facts) -> Written:
    steps = facts.config.schedule.warmup_steps
    if steps is not None:
        return Written({"warmup_steps": steps}, "schedule.warmup_steps decides.")
    return Written({"warmup_ratio": value})


def _grouped(value: bool, facts: Facts) -> Written:
    if value and facts.about_method.needs_preferences:
        return Written(why="Pairs are in random order there.", is_lost=True)
    return Written({"group_by_length": value})


def _shuffled(value: bool, _: Facts) -> Written:
    if value:
        return Written(why="Rows are shuffled there.")
    return Written({"disable_shuffling": True}, "A switch for the opposite there.")


def _storage(_value: str, facts: Facts) -> Written:
    if facts.storage == "none":
        return Written(why="The weights are not quantized.")
    if not facts.is_quantized:
        why = f"Weights in {facts.storage} are not offered there; they are whole."
        return Written(why=why, is_lost=True)
    bits = 4 if facts.storage == "4-bit" else 8
    return Written({"quantization_bit": bits, "quantization_method": "bnb"}, "A number of bits.")


def _targets(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    if found == ["all-linear"]:
        return Written({"lora_target": "all"}, "Its name there.")
    return Written({"lora_target": ",".join(found)}, "With commas there too.")


def _alpha(value: int, facts: Facts) -> Written:
    used = facts.lora_alpha
    return Written({"lora_alpha": used}, "" if used == value else "The multiple of the rank.")


def _length(value: int | None, facts: Facts) -> Written:
    why = "" if value == facts.max_length else "What the profile and the model give."
    return Written({"cutoff_len": facts.max_length}, why)


def _loss_on(value: str, _: Facts) -> Written:
    if value == "last_round":
        return Written({"mask_history": True}, "The last answer alone.")
    why = "Prompts are trained too." if value == "all" else "Answers alone."
    return Written({"train_on_prompt": value == "all"}, why)


def _template(value: str | None, _: Facts) -> Written:
    if not value:
        why = "Without a name LLaMA-Factory uses the chat template of the tokenizer."
        return Written(why=why)
    if value.endswith(".jinja"):
        why = "LLaMA-Factory has templates by name, not in files."
        return Written(why=why, is_lost=True)
    return Written({"template": value}, "A template of its own of this name.")


def _weights(value: str, facts: Facts) -> Written:
    if value == "bfloat16" and not facts.config.adapter.enabled:
        return Written({"pure_bf16": True}, "A switch there.")
    is_usual = value in ("auto", "float32" if not facts.config.adapter.enabled else "auto")
    if is_usual:
        return Written(why="This value asks for nothing.")
    return Written(why="The weights follow the precision there.", is_lost=True)


def _rope(value: str, _: Facts) -> Written:
    return Written({} if value == "none" else {"rope_scaling": value})


def _attention(value: str, _: Facts) -> Written:
    if value == VARLEN:
        why = "It is part of this program; sdpa computes the same, with a mask."
        return Written({"flash_attn": ATTENTION["sdpa"]}, why)
    if value not in ATTENTION:
        return Written(why=f"{value} is not offered there.", is_lost=True)
    return Written({"flash_attn": ATTENTION[value]}, "" if value == "sdpa" else "Its name there.")


def _checkpointing(value: bool, _: Facts) -> Written:
    return Written({"disable_gradient_checkpointing": not value}, "The option says what is off.")


def _split(value: float, facts: Facts) -> Written:
    if facts.config.data.validation_sources:
        return Written(why="The evaluation rows have their own files.")
    return Written({"val_size": value} if value else {})


def _patience(value: int, facts: Facts) -> Written:
    if not facts.config.evaluation.early_stopping:
        return Written(why="Early stopping is off.")
    return Written({"early_stopping_steps": value})


def _loss(value: str, facts: Facts) -> Written:
    if facts.method == "kto":
        return Written(why="The stage kto.")
    if value not in LOSSES:
        why = f"LLaMA-Factory has sigmoid, hinge, ipo, orpo and simpo; sigmoid stands for {value}."
        return Written({"pref_loss": "sigmoid"}, why, is_lost=True)
    return Written({"pref_loss": value})


def _init(value: str, facts: Facts) -> Written:
    if value == "pissa":
        return Written({"pissa_init": True, "pissa_iter": -1}, "A switch there.")
    return default_only("adapter.init", "Adapters start with PEFT's usual weights.")(value, facts)


def _check(facts: Facts) -> Iterator[Problem]:
    if facts.method not in ("sft", "dpo", "kto", "orpo"):
        what = f"These settings train {facts.about_method.label}, which is another thing there."
        yield Problem("strategy", what, "Choose sft, qlora or dpo.")


def _finish(facts: Facts) -> Mapping[str, Any]:
    found: dict[str, Any] = {"do_train": True, "output_dir": "output"}
    if not facts.evaluates:
        found["eval_strategy"] = "no"
    return found


RULES: dict[str, Rule] = {
    "task": not_needed("Every task is text in, text out."),
    "strategy": _stage,
    "model_name": option("model_name_or_path"),
    **ARGUMENTS,
    "optim": _optimizer,
    "optimizer.loraplus_ratio": option("loraplus_lr_ratio"),
    "warmup_ratio": _warmup,
    "group_by_length": _grouped,
    "data.shuffle": _shuffled,
    "logging.project": not_needed("Trackers take it from their environment."),
    "data.sources": _sources,
    "data.validation_sources": _validation,
    "eval_split": _split,
    "max_seq_length": _length,
    "data.truncation_strategy": left_out("Long rows are cut at both parts there.", ["right"]),
    "data.loss_on": _loss_on,
    "data.padding_free": left_out("Rows are padded, or packed."),
    "packing": option("packing"),
    "model.chat_template": _template,
    "model.system_prompt": option("default_system"),
    "model.attn_implementation": _attention,
    "model.dtype": _weights,
    "model.rope_type": _rope,
    "model.rope_factor": left_out("The factor follows from the length of the rows."),
    "model.max_model_len": not_needed("The factor follows from the length of the rows."),
    "gradient_checkpointing": _checkpointing,
    "adapter.enabled": _adapter,
    "lora_r": option("lora_rank"),
    "lora_alpha": _alpha,
    "lora_dropout": option("lora_dropout"),
    "adapter.target_modules": _targets,
    "adapter.modules_to_save": left_out("Its name there is additional_target: add it by hand."),
    "adapter.use_rslora": option("use_rslora"),
    "adapter.use_dora": option("use_dora"),
    "adapter.init": _init,
    "adapter.dtype": not_needed("Adapters have float32 there too."),
    "adapter.start_from": option("adapter_name_or_path"),
    "quantization.scheme": _storage,
    "quantization.fp8_training": lambda value, _: Written({"fp8": True} if value else {}),
    "use_nested_quant": option("double_quantization"),
    "bnb_4bit_quant_type": option("quantization_type"),
    "bnb_4bit_compute_dtype": not_needed("It follows the precision of the training."),
    "evaluation.early_stopping": lambda value, _: Written(
        why="Written with its patience." if value else "This value asks for nothing."
    ),
    "evaluation.early_stopping_patience": _patience,
    "evaluation.early_stopping_threshold": left_out("Any improvement counts there.", [0.0]),
    "trainer.preference_beta": option("pref_beta"),
    "trainer.preference_loss": _loss,
    "trainer.precompute_ref_log_probs": left_out("The reference is computed in every step."),
}
SYSTEM = TargetSystem(
    name="llama-factory",
    title="LLaMA-Factory",
    file_name="llama_factory.yaml",
    rules=RULES,
    check=_check,
    finish=_finish,
    command=lambda _: "llamafactory-cli train FILE",
    losses=split_differs,
    files=lambda facts: {INFO: info_file(facts)},
)
