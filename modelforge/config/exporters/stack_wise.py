"""Stack-Wise: its YAML with the groups model, training and data, for models that grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from modelforge.config.exporters.every_system import RULES as EVERYWHERE
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.exporters.rules import (
    Rule,
    default_only,
    elsewhere,
    left_out,
    not_needed,
    option,
    words,
)
from modelforge.config.exporters.system import TargetSystem
from modelforge.config.fields import specs_by_name
from modelforge.config.pretraining.settings import shape_of
from modelforge.config.pretraining.shape import ModelShape
from modelforge.config.progressive.settings import read_numbers, read_table
from modelforge.errors import Problem

T, P, M, D = "training.", "training.progressive.", "model.", "data."
NO_OPTION = "It has no such option."
FIXED = "Its model is a decoder of its own."
STRATEGIES = {"uniform": "simplified", "pattern": "progressive", "table": "variable"}
PRECISIONS = {"auto": True, "bf16": True, "fp16": True, "fp32": False}


def _of_shape(name: str, attribute: str) -> Rule:
    """Return the rule of a size, which is written where a model is made."""

    def write(value: Any, facts: Facts) -> Written:
        if not facts.config.pretraining.enabled:
            return Written()
        used = getattr(_shape(facts), attribute)
        why = "" if used == value else "What follows from the depth."
        return Written({f"{M}{name}": used}, why)

    return write


def _shape(facts: Facts) -> ModelShape:
    return shape_of(facts.config.pretraining, context=facts.max_length)


def _new(name: str) -> Rule:
    def write(value: Any, facts: Facts) -> Written:
        return Written({f"{M}{name}": value} if facts.config.pretraining.enabled else {})

    return write


def _tokenizer(value: str, _: Facts) -> Written:
    if value == "train":
        why = "It trains no tokenizer: give it one, or it takes that of GPT-2."
        return Written(why=why, is_lost=True)
    return Written({f"{D}tokenizer_path": value})


def _trunk(value: str, _: Facts) -> Written:
    fusion, strategy = ("frozen", "frozen") if value == "frozen" else ("trainable", "qlora")
    found = {f"{T}fusion_mode": fusion, f"{P}trunk_strategy": strategy}
    return Written(found, "" if value == "frozen" else "Its names for a trunk with adapters.")


def _objective(value: str, facts: Facts) -> Written:
    if not facts.config.pretraining.enabled:
        return Written(why="Its options of masks say it." if value == "mlm" else "")
    mode = "bidirectional" if value == "mlm" else "causal"
    return Written({f"{M}attention_mode": mode}, "How its model attends.")


def _mask_by(value: str, facts: Facts) -> Written:
    if value == "input":
        return Written(why="It has the time step of the stage alone.", is_lost=True)
    is_plain = value == "none" and not facts.config.pretraining.enabled
    return Written({} if is_plain else {f"{T}time_step_masking": value == "depth"})


def _fractions(value: str, _: Facts) -> Written:
    numbers = list(read_numbers(value))
    return Written({f"{T}time_step_mask_fractions": numbers} if numbers else {})


def _table(value: str, _: Facts) -> Written:
    table = {
        stack: {"rank": size.rank, "alpha": size.alpha} for stack, size in read_table(value).items()
    }
    return Written({f"{P}qlora_configs": table} if table else {})


def _epochs(value: int, facts: Facts) -> Written:
    is_used = facts.config.progressive.steps_per_stage is None
    return Written({f"{T}epochs_per_layer": value} if is_used else {})


def _quantization(value: str, _: Facts) -> Written:
    if value == "none":
        return Written({f"{T}quantization_enabled": False})
    kind = {"bnb-4bit": "fp4", "fp8-weight-only": "fp8"}[value]
    return Written({f"{T}quantization_enabled": True, f"{T}quantization_type": kind})


def _dataset(value: str, _: Facts) -> Written:
    return Written({f"{D}dataset_path": value, f"{D}use_dummy_data": False})


def _check(facts: Facts) -> Iterator[Problem]:
    if not facts.config.progressive.enabled:
        what = "Stack-Wise trains models that grow; these settings train one as it is."
        remedy = "Export them to trl, axolotl or llama-factory, or set progressive.enabled."
        yield Problem("progressive.enabled", what, remedy)


RULES: dict[str, Rule] = {
    **{name: default_only(name, NO_OPTION) for name in specs_by_name()},
    **EVERYWHERE,
    **{name: not_needed(FIXED) for name in specs_by_name() if name.startswith("pretraining.")},
    "task": not_needed("Its only task."),
    "strategy": not_needed("Its only strategy."),
    "model_name": lambda _, facts: Written(
        why="" if facts.config.pretraining.enabled else "It grows models of its own alone.",
        is_lost=not facts.config.pretraining.enabled,
    ),
    "dataset": _dataset,
    "pretraining.enabled": not_needed("The group model says it."),
    "pretraining.vocab_size": _new("vocab_size"),
    "pretraining.tokenizer": _tokenizer,
    "pretraining.d_model": _of_shape("d_model", "width"),
    "pretraining.n_layers": _of_shape("n_layers", "layers"),
    "pretraining.n_heads": _of_shape("n_heads", "heads"),
    "pretraining.n_kv_heads": _of_shape("n_kv_heads", "kv_heads"),
    "pretraining.d_ff": _of_shape("d_ff", "mlp_width"),
    "pretraining.rope_theta": _new("rope_theta"),
    "pretraining.tie_embeddings": _new("tie_embeddings"),
    "pretraining.dropout": _new("dropout"),
    "pretraining.freeze_embeddings": _new("tokenizer_embedding.freeze_embeddings"),
    "pretraining.embedding_adapter_dim": option(f"{M}tokenizer_embedding.adapter_hidden_dim"),
    "progressive.enabled": option(f"{P}enabled"),
    "progressive.mode": option(f"{T}mode"),
    "progressive.stages": option(f"{T}total_blocks"),
    "progressive.layers_per_stage": option(f"{T}block_size"),
    "progressive.direction": left_out("It appends stacks.", ["append"]),
    "progressive.trunk": _trunk,
    "progressive.steps_per_stage": option(f"{T}max_steps"),
    "progressive.epochs_per_stage": _epochs,
    "progressive.stack_lora": option(f"{P}qlora_enabled"),
    "progressive.stack_rank": option(f"{P}qlora_rank"),
    "progressive.stack_alpha": option(f"{P}qlora_alpha"),
    "progressive.trunk_lora": option(f"{P}progressive_qlora"),
    "progressive.trunk_rank": option(f"{P}progressive_qlora_rank"),
    "progressive.trunk_alpha": option(f"{P}progressive_qlora_alpha"),
    "progressive.rank_strategy": words(f"{P}qlora_strategy", STRATEGIES, ""),
    "progressive.rank_pattern": option(f"{P}qlora_rank_pattern"),
    "progressive.alpha_pattern": option(f"{P}qlora_alpha_pattern"),
    "progressive.per_stage": _table,
    "progressive.new_layer_dtype": words(
        f"{P}new_stack_precision", {"float32": "full", "bfloat16": "bfloat16"}, ""
    ),
    "progressive.trunk_quantization": _quantization,
    "progressive.objective": _objective,
    "progressive.mask_by": _mask_by,
    "progressive.mask_steps": elsewhere("progressive.mask_fractions"),
    "progressive.mask_fractions": _fractions,
    "progressive.mask_min": option(f"{T}min_mask_fraction"),
    "progressive.mask_max": option(f"{T}max_mask_fraction"),
    "progressive.mask_schedule": option(f"{T}mask_schedule_type"),
    "progressive.joint_tuning_steps": left_out("It has no joint stage.", [0]),
    "progressive.save_each_stage": option(f"{T}save_fused_checkpoints"),
    "optimizer.new_layer_lr": option(f"{T}current_block_lr"),
    "optimizer.adapter_lr": option(f"{T}qlora_lr"),
    "learning_rate": option(f"{T}learning_rate"),
    "weight_decay": option(f"{T}weight_decay"),
    "per_device_train_batch_size": option(f"{T}batch_size"),
    "max_seq_length": lambda _, facts: Written({f"{T}seq_len": facts.max_length}),
    "eval_steps": option(f"{T}validation_interval"),
    "trainer.save_steps": lambda _, facts: Written({f"{T}save_interval": facts.save_steps}),
    "logging.logging_steps": option(f"{T}log_interval"),
    "logging.run_name": option(f"{T}run_id"),
    "hardware.precision": words(f"{T}mixed_precision", PRECISIONS, NO_OPTION),
    "data.num_workers": option(f"{D}num_workers"),
    "data.shuffle": option(f"{D}shuffle"),
}


def as_yaml(options: Mapping[str, Any]) -> str:
    """Return options by dotted names as YAML with their groups."""
    nested: dict[str, Any] = {}
    for name in sorted(options, key=lambda name: (M, T, D).index(f"{name.partition('.')[0]}.")):
        *groups, last = name.split(".")
        holder = nested
        for group in groups:
            holder = holder.setdefault(group, {})
        holder[last] = options[name]
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True, width=100)


SYSTEM = TargetSystem(
    name="stack-wise",
    title="Stack-Wise",
    file_name="config.yaml",
    rules=RULES,
    check=_check,
    finish=lambda _: {},
    command=lambda _: "python -m model.cli train --config FILE",
    layout=as_yaml,
    is_from_nothing=True,
    grows=True,
)
