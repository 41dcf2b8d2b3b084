"""A Python script that trains what a run trains, with TRL and PEFT alone.

It reads prepared rows beside itself: token ids and labels for supervised training, text for
preferences (see `modelforge.train.tools.prepare_data`). So neither the data nor the template is
interpreted a second time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from modelforge.config.exporters import trl
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Exported, ExportLine, Written
from modelforge.config.exporters.rules import Rule, left_out, not_needed
from modelforge.config.exporters.system import TargetSystem
from modelforge.config.exporters.training_arguments import ARGUMENTS
from modelforge.errors import Problem

WIDTH = 100
PREPARED = "It is in the prepared rows."
FILE_NAME = "train.py"
DTYPES = {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}
CLASSES = {"sft": ("SFTConfig", "SFTTrainer"), "dpo": ("DPOConfig", "DPOTrainer")}
# Adapters whose first weights PEFT makes as we do; the others change the weights below.
INITS = ("default", "gaussian", "orthogonal")


class Code(str):
    """A value that is written as it is, and not as text in quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


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
    dtype = facts.plan.adapter_dtype if facts.plan and _peft_name(facts) else "float32"
    return [
        *_call(f"trainer = {trainer_class}", arguments),
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


def _from_plan(name: str, attribute: str) -> Rule:
    def write_value(value: Any, facts: Facts) -> Written:
        used = getattr(facts.plan, attribute)
        return Written({name: used}, "" if used == value else "What the plan of the run says.")

    return write_value


def _grouped(_value: bool, facts: Facts) -> Written:
    groups = facts.plan is not None and facts.plan.group_by_length
    return Written({"train_sampling_strategy": "group_by_length" if groups else "random"})


def _schedule(_value: str, facts: Facts) -> Written:
    name, arguments = facts.schedule
    options: dict[str, Any] = {"lr_scheduler_type": name}
    return Written(options | ({"lr_scheduler_kwargs": arguments} if arguments else {}))


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
    dtype = "fp32" if plan.trains == "all" else plan.precision
    options = {"bf16": plan.precision == "bf16", "fp16": plan.precision == "fp16"}
    return Written({"model.dtype": Code(DTYPES[dtype]), **options})


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
    "data.truncation_strategy": _truncation,
    "max_seq_length": _from_plan("max_length", "max_length"),
    "packing": _for("sft", "packing"),
    "data.packing_strategy": _for("sft", "packing_strategy"),
    "data.padding_free": _for("sft", "padding_free"),
    "gradient_accumulation_steps": _from_plan(
        "gradient_accumulation_steps", "gradient_accumulation_steps"
    ),
    "group_by_length": _grouped,
    "lr_scheduler_type": _schedule,
    "warmup_ratio": _from_plan("warmup_steps", "warmup_steps"),
    "optim": _from_plan("optim", "optim"),
    "trainer.torch_compile": _from_plan("torch_compile", "torch_compile"),
    "data.num_workers": _from_plan("dataloader_num_workers", "num_workers"),
    "trainer.save_steps": _saved_every,
    "evaluation.keep_best": _best,
    "eval_steps": _from_plan("eval_steps", "eval_steps"),
    "hardware.precision": _precision,
    "hardware.device": _device,
    "model.attn_implementation": _from_plan("model.attn_implementation", "attn_implementation"),
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
