"""TRL: YAML files that plain `trl sft|dpo|kto --config FILE` trains with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import ExportLine, Written
from modelforge.config.exporters.rules import (
    Rule,
    elsewhere,
    left_out,
    not_needed,
    option,
    words,
)
from modelforge.config.exporters.system import SourceList, TargetSystem, written_sources
from modelforge.config.exporters.training_arguments import (
    ARGUMENTS,
    activation_offload,
    attention,
    split_differs,
)
from modelforge.config.schema.data import Source
from modelforge.errors import Problem

PROGRAMS = {"sft": "sft", "dpo": "dpo", "kto": "kto"}
# Losses that have a share of wrong labels, which TRL takes as an option; see strategies/dpo.py.
SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}
COLUMNS = (
    "TRL knows columns by their names alone: messages, prompt and completion, text, or prompt, "
    "chosen and rejected. Write the rows in this form with --data."
)
# Columns that TRL knows by their names.
USUAL = {
    ("text_field", "text"),
    ("messages_field", "messages"),
    ("instruction_field", "prompt"),
    ("output_field", "completion"),
    ("prompt_field", "prompt"),
    ("chosen_field", "chosen"),
    ("rejected_field", "rejected"),
    ("tools_field", "tools"),
}
# What `datasets` reads a file with, by its ending.
LOADERS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".txt": "text",
}  # fmt: skip
_SOURCE = {"path": "path", "subset": "name", "split": "split"}


def is_file(path: str) -> bool:
    """Return whether a source is a file by its name, and not a dataset of the Hub."""
    return PurePath(path).suffix.lower() in LOADERS


def _pair_of_splits(facts: Facts) -> tuple[Source, Source] | None:
    """Return the sources of training and evaluation if they are splits of one Hub dataset."""
    sources, validation = facts.sources, facts.config.data.validation_sources
    if facts.data or len(sources) != 1 or len(validation) != 1:
        return None
    train, test = sources[0], validation[0]
    is_same = (train.path, train.subset) == (test.path, test.subset)
    return (train, test) if is_same and not is_file(facts.path(train)) else None


def _sources(_value: Any, facts: Facts) -> Written:
    if splits := _pair_of_splits(facts):
        train = splits[0]
        options = {"dataset_name": facts.path(train), "dataset_train_split": train.split or "train"}
        options |= {"dataset_config": train.subset} if train.subset else {}
        listed = written_sources("datasets", facts.sources, _SOURCE, facts)
        return _with_columns(SourceList(options, "A name and two splits.", lines=listed.lines))
    if facts.data:
        entry = {"path": "json", "data_files": facts.data}
        why = "All sources are written into one file, in the form that TRL knows."
        return Written({"datasets": [entry]}, why)
    listed = written_sources("datasets", facts.sources, _SOURCE, facts)
    for entry in listed.options.get("datasets", []):
        if is_file(entry["path"]):
            entry |= {"path": LOADERS[PurePath(entry["path"]).suffix.lower()],
                      "data_files": entry["path"]}  # fmt: skip
    return _with_columns(
        SourceList(listed.options, "One entry for each source.", lines=listed.lines)
    )


def _with_columns(listed: SourceList) -> SourceList:
    lines = tuple(
        (index, name, value, _column(name, value, written))
        for index, name, value, written in listed.lines
    )
    return SourceList(listed.options, listed.why, lines=lines)


def _column(name: str, value: Any, written: Written) -> Written:
    if name == "type" or (name, value) in USUAL:
        return Written(why="The names of the columns decide.")
    is_column = name.endswith(("_field", "_mappings"))
    return Written(why=COLUMNS, is_lost=True) if is_column else written


def _validation(value: list[Source], facts: Facts) -> Written:
    if not value:
        return Written(why="This value asks for nothing.")
    if splits := _pair_of_splits(facts):
        return Written({"dataset_test_split": splits[1].split or "test"}, "The other split.")
    why = "A mixture of data has no sources of its own for evaluation; set test_split_size."
    return Written(why=why, is_lost=True)


def _split(value: float, facts: Facts) -> Written:
    if facts.config.data.validation_sources or not value:
        return Written(why="No rows are set aside.")
    return Written({"test_split_size": value})


def _adapter(value: bool, _: Facts) -> Written:
    return Written({"use_peft": value})


def _targets(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    return Written({"lora_target_modules": found}, "A list there.")


def _modules_to_save(value: str, _: Facts) -> Written:
    found = [name.strip() for name in value.split(",") if name.strip()]
    return Written({"lora_modules_to_save": found} if found else {})


def _alpha(value: int, facts: Facts) -> Written:
    used = facts.lora_alpha
    return Written({"lora_alpha": used}, "" if used == value else "The multiple of the rank.")


def _storage(value: str, facts: Facts) -> Written:
    if facts.storage == "none":
        return Written(why="The weights are not quantized.")
    if not facts.is_quantized:
        why = f"TRL quantizes with bitsandbytes alone; {value} is left out: the weights are whole."
        return Written(why=why, is_lost=True)
    name = "load_in_4bit" if facts.storage == "4-bit" else "load_in_8bit"
    return Written({name: True}, "A switch there.")


def _compute_dtype(value: str, facts: Facts) -> Written:
    used = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(facts.precision)
    if "bnb_4bit_compute_dtype" not in facts.config.model_fields_set or value == used:
        return Written(why="It follows the precision of the training.")
    return Written(why="TRL computes in the number format of the weights.", is_lost=True)


def _dtype(value: str, facts: Facts) -> Written:
    if facts.is_quantized and value != "bfloat16":
        why = "TRL trains adapters on quantized weights in bfloat16, here they are float32."
        return Written(why=why, is_lost=True)
    if not facts.is_quantized and value == "bfloat16":
        return Written(why="Adapters have float32 there.", is_lost=True)
    return Written(why="The number format of adapters there.")


def _length(value: int | None, facts: Facts) -> Written:
    config = facts.config
    if config.data.padding_free and not config.packing and facts.method == "sft":
        why = "TRL takes no length with padding_free: rows are not cut."
        return Written({"max_length": None}, why, is_lost=True)
    why = "" if value == facts.max_length else "What the profile and the model give."
    return Written({"max_length": facts.max_length}, why)


def _truncation(value: str, facts: Facts) -> Written:
    if facts.method == "kto":
        return left_out("KTO cuts rows on the right.", ["right"])(value, facts)
    why = "TRL cuts rows at one end; it neither leaves them out nor splits them."
    return words("truncation_mode", {"right": "keep_start", "left": "keep_end"}, why)(value, facts)


def _loss_on(value: str, _: Facts) -> Written:
    if value == "last_round":
        return Written(
            why="TRL cannot train the last answer of a conversation alone.", is_lost=True
        )
    if value == "all":
        return Written({"completion_only_loss": False}, "Prompts are trained too.")
    if value == "assistant":
        why = "It needs a chat template that marks answers; TRL has its own for common models."
        return Written({"assistant_only_loss": True}, why)
    return Written({"assistant_only_loss": False}, "Completions alone, where rows have a prompt.")


def _template(value: str | None, facts: Facts) -> Written:
    if not value:
        return Written(why="The model's own.")
    if facts.method != "sft":
        return Written(why="Only `trl sft` takes a chat template.", is_lost=True)
    if not value.endswith(".jinja"):
        why = f"The template {value} is one of ours: save it as a .jinja file and name the file."
        return Written(why=why, is_lost=True)
    return Written({"chat_template_path": value})


def _preference_loss(value: str, facts: Facts) -> Written:
    if facts.method == "kto":
        return Written({"loss_type": "kto"})
    smoothing = {"label_smoothing": SMOOTHING[value]} if value in SMOOTHING else {}
    return Written({"loss_type": [value], **smoothing})


def _only_sft(name: str) -> Rule:
    def write(value: Any, facts: Facts) -> Written:
        return Written({name: value} if facts.method == "sft" else {})

    return write


def _check(facts: Facts) -> Iterator[Problem]:
    if facts.method not in PROGRAMS:
        what = f"The command line of TRL does not train {facts.about_method.label} as it is here."
        yield Problem("strategy", what, "Choose sft, qlora, or dpo with another preference loss.")


def _finish(facts: Facts) -> Mapping[str, Any]:
    found: dict[str, Any] = {"output_dir": "output"}
    trains_all = not facts.config.adapter.enabled
    if facts.config.model.dtype != "auto":
        found["dtype"] = facts.config.model.dtype
    elif facts.precision in ("bf16", "fp16") and not trains_all:
        found["dtype"] = {"bf16": "bfloat16", "fp16": "float16"}[facts.precision]
    is_lost = bool(facts.config.data.validation_sources) and _pair_of_splits(facts) is None
    if not facts.evaluates or is_lost:
        found |= {"eval_strategy": "no", "load_best_model_at_end": False}
    if facts.config.packing and facts.method == "sft":
        found["eval_packing"] = False
    return found


def _losses(facts: Facts) -> Iterator[ExportLine]:
    yield from split_differs(facts)
    if facts.precision == "auto" and facts.config.adapter.enabled:
        why = "TRL loads the frozen weights in float32, which takes more memory: choose bf16."
        yield ExportLine("hardware.precision", "auto", "left-out", "", why)
    if facts.method == "sft" and not facts.data:
        why = (
            "The template is applied by TRL: it trains what the template writes behind the end of "
            "an answer, such as a line break, which is left out here."
        )
        yield ExportLine("model.chat_template", facts.config.model.chat_template, "converted", "",
                         why)  # fmt: skip


RULES: dict[str, Rule] = {
    "task": lambda _value, _facts: Written(why="Every task is text in, text out."),
    "strategy": lambda _value, facts: Written(why=f"The command: trl {facts.method}."),
    "model_name": option("model_name_or_path"),
    **ARGUMENTS,
    "data.sources": _sources,
    "data.validation_sources": _validation,
    "eval_split": _split,
    "memory.activation_offload": activation_offload,
    "adapter.enabled": _adapter,
    "lora_r": option("lora_r"),
    "lora_alpha": _alpha,
    "lora_dropout": option("lora_dropout"),
    "adapter.target_modules": _targets,
    "adapter.modules_to_save": _modules_to_save,
    "adapter.use_rslora": option("use_rslora"),
    "adapter.use_dora": option("use_dora"),
    "adapter.init": left_out("Adapters start with PEFT's usual weights.", ["default"]),
    "adapter.dtype": _dtype,
    "quantization.scheme": _storage,
    "bnb_4bit_quant_type": option("bnb_4bit_quant_type"),
    "use_nested_quant": option("use_bnb_nested_quant"),
    "bnb_4bit_compute_dtype": _compute_dtype,
    "model.attn_implementation": attention,
    "model.dtype": not_needed("Written as dtype."),
    "model.chat_template": _template,
    "max_seq_length": _length,
    "packing": _only_sft("packing"),
    "data.packing_strategy": _only_sft("packing_strategy"),
    "data.padding_free": _only_sft("padding_free"),
    "data.truncation_strategy": _truncation,
    "data.loss_on": _loss_on,
    "trainer.preference_beta": option("beta"),
    "trainer.preference_loss": _preference_loss,
    "trainer.precompute_ref_log_probs": option("precompute_ref_log_probs"),
    "schedule.patience": elsewhere("lr_scheduler_type"),
}
SYSTEM = TargetSystem(
    name="trl",
    title="TRL",
    file_name="trl.yaml",
    rules=RULES,
    check=_check,
    finish=_finish,
    command=lambda facts: f"trl {PROGRAMS[facts.method]} --config FILE",
    losses=_losses,
)
