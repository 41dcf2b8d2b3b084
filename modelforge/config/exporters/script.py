"""A Python script that trains what a run trains, with TRL and PEFT alone.

It reads prepared rows beside itself: token ids and labels for supervised training, text for
preferences (see `modelforge.train.tools.prepare_data`). So neither the data nor the template is
interpreted a second time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from modelforge.config.exporters import trl
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Exported, ExportLine
from modelforge.config.exporters.script_rules import CLASSES, FILE_NAME, RULES, SYSTEM, Code

WIDTH = 100


def prepared_files(script: str) -> tuple[str, str]:
    """Return the names of the files with training and evaluation rows beside a script."""
    stem = PurePath(script).stem
    return f"{stem}_rows", f"{stem}_eval_rows"


def write(facts: Facts, name: str = FILE_NAME, end_token: str = "") -> Exported:
    """Return the script and a line for each setting.

    `end_token` is what ends a completion of the prepared text; empty if it is the tokenizer's.
    Raises ConfigError for a method that it does not have. A plan is needed.
    """
    if facts.plan is None:
        raise ValueError("a script trains what a plan says")
    _, report = SYSTEM.walk(facts)
    options = {key: value for key, value in _options(facts).items() if value is not None}
    text = _script(facts, options, name, end_token)
    return Exported(
        SYSTEM.name, SYSTEM.title, name, text, "python FILE", report,
        data=", ".join(_data_files(facts, name)),
    )  # fmt: skip


def other_tokens(rows: int) -> ExportLine:
    """Return the line about pairs whose text is divided into other tokens than here."""
    why = "In these pairs prompt and completion do not meet where a token ends."
    return ExportLine("dataset", f"{rows:,} rows", "left-out", "", why)


def _data_files(facts: Facts, name: str) -> list[str]:
    ending = "parquet" if facts.method == "sft" else "jsonl"
    train, evaluation = (f"{stem}.{ending}" for stem in prepared_files(name))
    return [train, evaluation] if facts.evaluates else [train]


def _options(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting, rule in RULES.items():
        found |= rule(facts.values[setting], facts).options
    return found | _always(facts)


def _always(facts: Facts) -> dict[str, Any]:
    config, plan = facts.config, facts.plan
    assert plan is not None
    common = {
        "output_dir": Code('str(HERE / "output")'),
        "data_seed": config.trainer.seed,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "eval_strategy": "steps" if facts.evaluates else "no",
        "eval_steps": plan.eval_steps if facts.evaluates else None,
        "logging_nan_inf_filter": False,
    }
    if not config.gradient_checkpointing:
        del common["gradient_checkpointing_kwargs"]
    if facts.method == "dpo":
        smoothing = trl.SMOOTHING.get(config.trainer.preference_loss)
        # The prepared rows have a column `length`, which TRL would drop.
        keeps_length = {"remove_unused_columns": False} if plan.group_by_length else {}
        return common | keeps_length | ({"label_smoothing": smoothing} if smoothing else {})
    without_length = config.data.padding_free and not config.packing
    return common | {
        "max_length": Code("None") if without_length else plan.max_length,
        "eval_packing": False,
        "prediction_loss_only": True,
        "dataset_kwargs": {"skip_prepare_dataset": not config.packing},
    }


def _script(facts: Facts, options: Mapping[str, Any], name: str, end_token: str) -> str:
    plan = facts.plan
    assert plan is not None
    arguments = {key: value for key, value in options.items() if "." not in key}
    config_class, trainer_class = CLASSES[facts.method]
    lines = [
        f'"""{_about(facts)}"""',
        "",
        *_imports(facts, config_class, trainer_class),
        "",
        "HERE = Path(__file__).parent",
        f"MODEL = {_text(plan.model_path)}",
        *([f"REVISION = {_text(plan.model_revision)}"] if plan.model_revision else []),
        *_tokenizer(plan.model_revision, end_token),
        *_model(facts, options),
        f"set_seed({facts.config.trainer.seed})",
        *_call("args = " + config_class, arguments),
        *_rows(facts, name),
        *_trainer(facts, trainer_class),
        "trainer.train()",
        "trainer.save_model()",
        "trainer.save_state()",
    ]
    return "\n".join(lines) + "\n"


def _about(facts: Facts) -> str:
    label = facts.about_method.label
    return f"{label} with TRL and PEFT alone: install torch, transformers, trl, peft and datasets."


def _imports(facts: Facts, config_class: str, trainer_class: str) -> list[str]:
    quantized = "BitsAndBytesConfig, " if facts.is_quantized else ""
    peft = _peft_name(facts)
    return [
        "from pathlib import Path",
        "",
        "import torch",
        "from datasets import Dataset",
        *([f"from peft import {peft}"] if peft else []),
        f"from transformers import AutoModelForCausalLM, AutoTokenizer, {quantized}set_seed",
        f"from trl import {config_class}, {trainer_class}",
    ]


def _peft_name(facts: Facts) -> str:
    if facts.plan is None or facts.plan.trains == "all":
        return ""
    return "PeftModel" if facts.plan.start_from else "LoraConfig"


def _tokenizer(revision: str | None, end_token: str) -> list[str]:
    at = ", revision=REVISION" if revision else ""
    ended = [f"tokenizer.eos_token = {_text(end_token)}  # ends every completion"]
    return [
        f"tokenizer = AutoTokenizer.from_pretrained(MODEL{at})",
        *(ended if end_token else []),
        "tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token",
    ]


def _model(facts: Facts, options: Mapping[str, Any]) -> list[str]:
    plan = facts.plan
    assert plan is not None
    arguments = _group(options, "model")
    if plan.model_revision:
        arguments["revision"] = Code("REVISION")
    quantized = []
    if facts.is_quantized:
        arguments["quantization_config"] = Code("quantized")
        quantized = _call("quantized = BitsAndBytesConfig", _group(options, "bnb"))
    lines = [*quantized,
             *_call("model = AutoModelForCausalLM.from_pretrained", arguments, first="MODEL"),
             "model.config.use_cache = False"]  # fmt: skip
    if plan.trains == "all":
        return lines
    if plan.start_from:
        if facts.config.gradient_checkpointing:
            lines.append("model.enable_input_require_grads()")
        folder = _text(plan.start_from)
        return [*lines, f"model = PeftModel.from_pretrained(model, {folder}, is_trainable=True)"]
    return [*lines, *_call("adapter = LoraConfig", _group(options, "lora"))]


def _rows(facts: Facts, name: str) -> list[str]:
    reader = "from_parquet" if facts.method == "sft" else "from_json"
    files = _data_files(facts, name)
    lines = [f"train = Dataset.{reader}(str(HERE / {_text(files[0])}))"]
    if len(files) > 1:
        lines.append(f"evaluation = Dataset.{reader}(str(HERE / {_text(files[1])}))")
    return lines


def _trainer(facts: Facts, trainer_class: str) -> list[str]:
    arguments = {
        "model": Code("model"),
        "args": Code("args"),
        "train_dataset": Code("train"),
        **({"eval_dataset": Code("evaluation")} if facts.evaluates else {}),
        "processing_class": Code("tokenizer"),
        **({"peft_config": Code("adapter")} if _peft_name(facts) == "LoraConfig" else {}),
    }
    # An evaluation draws random numbers, which the worker keeps apart from those of the training.
    same = [
        f"class Trainer({trainer_class}):",
        "    def evaluate(self, *args, **kwargs):",
        "        with torch.random.fork_rng():  # keeps those of the training",
        "            return super().evaluate(*args, **kwargs)",
    ]
    name = "Trainer" if facts.evaluates else trainer_class
    dtype = facts.plan.adapter_dtype if facts.plan and _peft_name(facts) else "float32"
    return [
        *(same if facts.evaluates else []),
        *_call(f"trainer = {name}", arguments),
        "for parameter in trainer.model.parameters():",
        "    if parameter.requires_grad:",
        f"        parameter.data = parameter.data.to(torch.{dtype})",
    ]


def _group(options: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {
        name.partition(".")[2]: value
        for name, value in options.items()
        if name.startswith(f"{group}.")
    }


def _call(head: str, arguments: Mapping[str, Any], first: str = "") -> list[str]:
    parts = [*([first] if first else []), *(f"{key}={_code(v)}" for key, v in arguments.items())]
    line = f"{head}({', '.join(parts)})"
    if len(line) <= WIDTH:
        return [line]
    # Arguments are kept whole: their spaces do not break a line.
    joined = " ".join(f"{part.replace(' ', chr(0))}," for part in parts)
    wrapped = textwrap.wrap(joined, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return [f"{head}(", *(f"    {text.replace(chr(0), ' ')}" for text in wrapped), ")"]


def _code(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_code(key)}: {_code(each)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_code, value))}]"
    return _text(value) if type(value) is str else repr(value)


def _text(value: str | None) -> str:
    # Quotes as a formatter writes them.
    shown = repr(value)
    plain = '"' not in shown and shown.startswith("'") and "\\'" not in shown
    return f'"{shown[1:-1]}"' if plain else shown
