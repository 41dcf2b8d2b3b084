"""TRL: YAML files of `trl sft|dpo|kto …`, and its command lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.foreign_file import PROGRAM
from modelforge.config.importers.options import (
    HUB_KERNEL,
    UNDERFLOW,
    Option,
    Values,
    by,
    no_effect,
    refused,
    renamed,
    taken,
    trained_dtype,
    words,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared.gpus import (
    BATCHES,
    COMPUTERS,
    batches_of_all,
    by_hand,
    gpu_count,
)
from modelforge.config.importers.system import System
from modelforge.config.importers.training_arguments import (
    sampling_strategy,
    training_arguments,
)
from modelforge.errors import Problem

CODE = "It would run code from the model's repository. Models here work without it."
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "num_train_epochs": 3,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch_fused",
    "weight_decay": 0.0,
    "gradient_accumulation_steps": 1,
    "max_grad_norm": 1.0,
    "gradient_checkpointing": True,
    "logging_steps": 10,
    "save_steps": 500,
    "seed": 42,
    "warmup_steps": 0,
    "train_sampling_strategy": "random",
    "fp16": False,
}
# Options that only a preference training has.
PREFERENCE = ("beta", "ld_alpha", "f_divergence_type", "use_weighting", "precompute_ref_log_probs")
WEIGHTS = ("desirable_weight", "undesirable_weight")
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"strategy": "sft"},
    "dpo": {"strategy": "dpo"},
    "kto": {"strategy": "dpo", "trainer.preference_loss": "kto"},
    "grpo": {"strategy": "rlhf", "trainer.rlhf_algorithm": "grpo"},
    "rloo": {"strategy": "rlhf", "trainer.rlhf_algorithm": "rloo"},
}
RATES = {"sft": 2e-5}
OTHER_RATE = 1e-6
# PEFT's choice for Llama-like models where the file names no modules.
TARGETS = "q_proj, v_proj"


def _dataset(value: str, values: Values) -> Outcome:
    settings: dict[str, Any] = {"dataset": value}
    source = {"path": value}
    if subset := values.get("dataset_config"):
        source["subset"] = subset
    if split := values.get("dataset_train_split"):
        source["split"] = split
    field = values.get("dataset_text_field")
    if field and field != "text":
        source["text_field"] = field
    if len(source) > 1:
        settings["data.sources"] = [source]
    evaluated = values.get("eval_strategy", "no") not in ("no", False)
    if evaluated:
        split = values.get("dataset_test_split") or "test"
        settings["data.validation_sources"] = [source | {"split": split}]
    return Outcome("renamed", settings)


def _mixture(value: list[Any], _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="It names no data.")
    sources, lines = [], []
    for at, entry in enumerate(value):
        source = {}
        # The path of files is their format, such as json.
        is_file = isinstance(entry.get("data_files"), str)
        known = {"data_files" if is_file else "path": "path", "name": "subset", "split": "split"}
        for name, part in entry.items():
            if is_file and name == "path":
                outcome = Outcome("no-effect", why="Files are recognised by their content.")
            elif name in known and part is not None:
                source[known[name]] = part
                outcome = Outcome("renamed", {f"data.sources.{known[name]}": part})
            elif name == "columns":
                outcome = Outcome("no-effect", why="Columns are recognised by their names.")
            else:
                outcome = Outcome("refused", why="Data sources have no such option here.")
            lines.append((f"[{at}].{name}", part, outcome))
        sources.append(source)
    settings = {"data.sources": sources, "dataset": sources[0].get("path", "")}
    return Outcome("converted", settings, "Each entry is a data source.", tuple(lines))


def _peft(value: bool, values: Values) -> Outcome:
    if not value:
        return Outcome("renamed", {"adapter.enabled": False})
    settings: dict[str, Any] = {"adapter.enabled": True}
    if not values.get("lora_target_modules"):
        settings["adapter.target_modules"] = TARGETS
        return Outcome("converted", settings, "Without names, PEFT adapts the query and value.")
    return Outcome("renamed", settings)


def _targets(value: Any, _: Values) -> Outcome:
    names = value if isinstance(value, list) else [value]
    return Outcome("converted", {"adapter.target_modules": ", ".join(names)}, "Names with commas.")


def _loaded(bits: int) -> Option:
    def read(value: bool, _: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why="This value asks for nothing.")
        return Outcome("renamed", {f"use_{bits}bit": True})

    return by(read, kind="bool")


def _dtype(value: str, values: Values) -> Outcome:
    known = {"bfloat16": "bf16", "float16": "fp16", "float32": "auto", "auto": "auto"}
    if value not in known:
        return Outcome("refused", why=f"{value} is not a number format of weights.")
    has_precision = bool(values.get("bf16") or values.get("fp16"))
    settings: dict[str, Any] = {} if has_precision else {"hardware.precision": known[value]}
    if not values.get("use_peft"):
        if value == "float16":
            return Outcome("refused", why=UNDERFLOW)
        settings |= trained_dtype(value) if value == "bfloat16" else {}
    elif has_precision and value == "float32":
        settings["model.dtype"] = value
    if not settings:
        return Outcome("no-effect", why="bf16 or fp16 decides.")
    return Outcome("converted", settings, "The weights; without bf16 and fp16 also the training.")


def _loss(value: Any, _: Values) -> Outcome:
    names = value if isinstance(value, list) else [value]
    if names in (["nll"], ["dft"], ["chunked_nll"]):
        return Outcome("no-effect", why="The loss of the likelihood is the one that is used.")
    if len(names) != 1:
        return Outcome("refused", why="One preference loss is used here.")
    return Outcome("renamed", {"trainer.preference_loss": names[0]})


def _completion_only(value: bool, _: Values) -> Outcome:
    loss_on = "completion" if value else "all"
    return Outcome("converted", {"data.loss_on": loss_on}, "What the loss is computed on.")


def _template(value: str, _: Values) -> Outcome:
    if value.endswith(".jinja"):
        return Outcome("renamed", {"model.chat_template": value})
    why = "The model's own chat template is used; another one is the path of a .jinja file here."
    return Outcome("refused", why=why)


def _truncation(value: str, _: Values) -> Outcome:
    known = {"keep_start": "right", "keep_end": "left"}
    return Outcome("converted", {"data.truncation_strategy": known[value]}, "Where rows are cut.")


def method(values: Values) -> str:
    """Return the method, as in `trl METHOD`; that of a file by its options."""
    words = str(values.get(PROGRAM, "")).replace(".py", "").replace("/", " ").split()
    named = next((word for word in words if word in METHODS), "")
    if named:
        return named
    if any(values.get(name) is not None for name in WEIGHTS):
        return "kto"
    return "dpo" if any(values.get(name) is not None for name in PREFERENCE) else "sft"


def _check(values: Values) -> Iterator[Problem]:
    if values.get("load_in_4bit") and values.get("load_in_8bit"):
        what = "load_in_4bit and load_in_8bit are both on."
        yield Problem("load_in_8bit", what, "Keep one of them.")
    if values.get("bf16") and values.get("fp16"):
        yield Problem("fp16", "bf16 and fp16 are both on.", "Keep one of them.")
    for at, entry in enumerate(values.get("datasets") or []):
        if not isinstance(entry, Mapping) or not entry.get("path"):
            yield Problem(f"datasets[{at}]", "The data set has no path.", "Name it.")


def _finish(values: Values, settings: Mapping[str, Any]) -> dict[str, Any]:
    quantized = values.get("load_in_4bit") or values.get("load_in_8bit")
    found: dict[str, Any] = {
        "task": "text-generation",
        "provider": "huggingface",
        **METHODS[method(values)],
    }
    if found["strategy"] == "sft" and quantized:
        found["strategy"] = "qlora"
    if "learning_rate" not in settings:
        found["learning_rate"] = RATES.get(method(values), OTHER_RATE)
    if not quantized:
        found["quantization.scheme"] = "none"
    evaluated = values.get("eval_strategy", values.get("evaluation_strategy", "no"))
    if evaluated in ("no", False) and not values.get("test_split_size"):
        found["eval_split"] = 0.0
    return found


def _shuffled(value: bool, values: Values) -> Outcome:
    if METHODS[method(values)]["strategy"] == "rlhf":
        return Outcome("renamed", {"data.shuffle": value})
    return Outcome("no-effect", why="train_sampling_strategy gives the order of the rows.")


def _order(value: str, values: Values) -> Outcome:
    if value == "sequential" and method(values) == "kto":
        return Outcome(
            "no-effect", why="KTO's rows are shuffled before, and then keep their order."
        )
    return sampling_strategy(value, values)


OPTIONS: dict[str, Option] = {
    **training_arguments(DEFAULTS),
    "model_name_or_path": renamed("model_name", kind="text"),
    "model_revision": refused("The newest version of a model is used.", "main"),
    "trust_remote_code": refused(CODE, False),
    "dtype": by(_dtype, kind="text"),
    "torch_dtype": by(_dtype, kind="text"),
    "attn_implementation": by(
        lambda value, _: (
            Outcome("refused", why=HUB_KERNEL)
            if "/" in str(value)
            else Outcome("renamed", {"model.attn_implementation": value})
        ),
    ),
    "model_init_kwargs": refused("The options of loading are chosen here.", None),
    "use_peft": by(_peft, False, kind="bool"),
    "lora_r": taken("lora_r", 16),
    "lora_alpha": taken("lora_alpha", 32),
    "lora_dropout": taken("lora_dropout", 0.05),
    "lora_target_modules": by(_targets, kind="names"),
    "lora_target_parameters": refused("Parameters outside of modules are not adapted.", None),
    "lora_modules_to_save": renamed("adapter.modules_to_save"),
    "lora_task_type": no_effect("The task decides."),
    "use_rslora": renamed("adapter.use_rslora"),
    "use_dora": renamed("adapter.use_dora"),
    "load_in_4bit": _loaded(4),
    "load_in_8bit": _loaded(8),
    "bnb_4bit_quant_type": taken("bnb_4bit_quant_type"),
    "use_bnb_nested_quant": renamed("use_nested_quant"),
    "bnb_4bit_quant_storage": no_effect("It concerns several GPUs."),
    "dataset_name": by(_dataset, kind="text"),
    "dataset_config": no_effect("It stands in the data source."),
    "dataset_train_split": no_effect("It stands in the data source."),
    "dataset_test_split": no_effect("It stands in the source of the evaluation rows."),
    "dataset_streaming": no_effect("Files larger than the memory are read in pieces."),
    "streaming": no_effect("Files larger than the memory are read in pieces."),
    "test_split_size": renamed("eval_split"),
    "datasets": by(_mixture, kind="list"),
    "ignore_bias_buffers": no_effect("There is one process."),
    "config": refused("Import that file by itself."),
    "env": no_effect("Set the variables of the environment before the start."),
    "num_processes": by(gpu_count, kind="int", least=1),
    "num_machines": refused(COMPUTERS, 1),
    "accelerate_config": by_hand(None),
    "gradient_accumulation_steps": by(batches_of_all(BATCHES, "num_processes"), 1),
    "chat_template_path": by(_template, kind="text"),
    "dataset_text_field": no_effect("It stands in the data source."),
    "dataset_kwargs": no_effect("The data is prepared here."),
    "dataset_num_proc": no_effect("The number of processes is chosen here."),
    "eos_token": refused("The end token of the model is used.", None),
    "pad_token": refused("The padding token of the model is used.", None),
    "max_length": renamed("max_seq_length", 1024),
    "max_seq_length": taken("max_seq_length"),
    "max_prompt_length": no_effect("Prompts may take half of a row."),
    "truncation_mode": by(_truncation, "keep_start", choices=("keep_start", "keep_end")),
    "train_sampling_strategy": by(_order, "random", kind="text"),
    "shuffle_dataset": by(_shuffled, kind="bool"),
    "packing": taken("packing", False),
    "packing_strategy": renamed("data.packing_strategy"),
    "eval_packing": no_effect("Evaluation rows are packed as training rows are."),
    "padding_free": renamed("data.padding_free"),
    "pad_to_multiple_of": no_effect("Padding does not change the loss."),
    "completion_only_loss": by(_completion_only, kind="bool"),
    "assistant_only_loss": words(
        "data.loss_on", {True: "assistant", False: "completion"}, why="What is trained."
    ),
    "loss_type": by(_loss, kind="names"),
    "loss_weights": refused("One preference loss is used here.", None),
    "activation_offloading": renamed("memory.activation_offload", kind="bool"),
    "router_aux_loss_coef": refused("Experts are not balanced here.", None),
    "beta": renamed("trainer.preference_beta"),
    "disable_dropout": no_effect("TRL's own choice is kept."),
    "precompute_ref_log_probs": renamed("trainer.precompute_ref_log_probs"),
    "precompute_ref_batch_size": no_effect("Chosen here."),
    **{
        name: refused("This variant of the loss is not offered here.")
        for name in (
            *("ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "label_smoothing"),
            *("use_weighting", "discopop_tau", "sync_ref_model", "ref_model_mixup_alpha"),
            *("ref_model_sync_steps", "desirable_weight", "undesirable_weight"),
        )
    },
}
SYSTEM = System(
    name="trl",
    title="TRL",
    options=OPTIONS,
    check=_check,
    finish=_finish,
    programs=("trl ", "sft.py", "dpo.py"),
)
