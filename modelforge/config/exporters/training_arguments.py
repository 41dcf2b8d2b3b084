"""Settings that become arguments of Transformers, which TRL and LLaMA-Factory share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.exporters.every_system import RULES
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import ExportLine, Written
from modelforge.config.exporters.rules import (
    Rule,
    fractional_epochs,
    learning_rate,
    left_out,
    not_needed,
    option,
    steps,
)
from modelforge.config.optimizers import MUON
from modelforge.config.plan.weights import VARLEN

AT_EVALUATIONS = "At every evaluation."
NO_COOLDOWN = "The schedule goes on to its end there, without a cooldown of its own shape."
NO_MUON = "Transformers has no Muon; AdamW trains all weights there."


def schedule(value: str, facts: Facts) -> Written:
    """Return the schedule with its arguments; some end above zero under another name."""
    name, arguments = facts.schedule
    options: dict[str, Any] = {"lr_scheduler_type": name}
    if arguments:
        options["lr_scheduler_kwargs"] = arguments
    if 0 < arguments.get("num_decay_steps", 1) < 1:
        why = (
            "The decay is a share of the steps here, whose number the rows decide: give max_steps."
        )
        return Written(options | {"lr_scheduler_kwargs": _without_share(arguments)}, why, True)
    if facts.cools_down:
        return Written(options, NO_COOLDOWN, is_lost=True)
    return Written(options, "" if name == value else "Its name there, with the same rates.")


def _without_share(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "num_decay_steps"}


def warmup(_value: Any, facts: Facts) -> Written:
    """Return the warm-up: a number of steps, or a share of them below 1."""
    steps = facts.warmup
    value = int(steps) if steps >= 1 or not steps else steps
    return Written({"warmup_steps": value}, "Below 1 it is a share of the steps.")


def precision(_value: Any, facts: Facts) -> Written:
    """Return the number format of training, which is bf16 there unless a file says otherwise."""
    if facts.precision == "auto":
        return Written(why="Chosen there for the GPU, as here.")
    chosen = facts.precision
    return Written({"bf16": chosen == "bf16", "fp16": chosen == "fp16"}, "A switch for each.")


def device(value: str, facts: Facts) -> Written:
    """Return the device: the CPU has a switch, and a GPU is used where there is one."""
    is_cpu = value == "cpu" or (value == "auto" and facts.plan and facts.plan.device == "cpu")
    if is_cpu:
        return Written({"use_cpu": True}, "A switch there.")
    return Written(why="A GPU is used where there is one.")


def evaluated_every(value: int, _: Facts) -> Written:
    """Return the interval of evaluations."""
    return Written({"eval_strategy": "steps", "eval_steps": value})


def saved_every(value: int | None, facts: Facts) -> Written:
    """Return the interval of checkpoints; -1 is none, since the model is saved at the end."""
    if facts.save_steps == -1:
        return Written({"save_strategy": "no"}, "The model is saved at the end.")
    why = "" if value == facts.save_steps else AT_EVALUATIONS
    return Written({"save_strategy": "steps", "save_steps": facts.save_steps}, why)


def keep_best(value: bool, facts: Facts) -> Written:
    """Return whether the best checkpoint is kept, which needs checkpoints."""
    if value and not facts.keeps_best:
        return Written(why="Without checkpoints there is no best one.", is_lost=True)
    return Written({"load_best_model_at_end": value})


def grouped(value: bool, facts: Facts) -> Written:
    """Return the order of rows."""
    if facts.method == "kto":
        return Written(why="KTO keeps the order of its rows there.")
    if value and facts.about_method.needs_preferences:
        why = "TRL does not know the lengths of pairs; rows are in random order."
        return Written({"train_sampling_strategy": "random"}, why, is_lost=True)
    order = "group_by_length" if value else "random"
    return Written({"train_sampling_strategy": order}, "A choice there.")


def shuffled(value: bool, _: Facts) -> Written:
    """Return the order of rows that are not shuffled; `grouped` writes that of all others."""
    if value:
        return Written(why="Rows are shuffled there.")
    return Written({"train_sampling_strategy": "sequential"}, "A choice there.")


def trackers(value: str, _: Facts) -> Written:
    """Return the trackers as a list."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    return Written({"report_to": names or "none"}, "A list there." if names else "")


def attention(value: str, _: Facts) -> Written:
    """Return the attention implementation, of those that Transformers has."""
    if value != VARLEN:
        return Written({"attn_implementation": value})
    why = "It is part of this program; sdpa computes the same, with a mask."
    return Written({"attn_implementation": "sdpa"}, why)


def compile_mode(value: str, facts: Facts) -> Written:
    """Return the mode of torch.compile, where the model is compiled."""
    is_used = facts.config.trainer.torch_compile and value != "default"
    return Written({"torch_compile_mode": value} if is_used else {})


def every_n_layers(value: int, facts: Facts) -> Written:
    """Return how many layers are recomputed, as an argument of gradient checkpointing."""
    if value == 1 or not facts.config.gradient_checkpointing:
        return Written()
    if facts.method != "sft":
        why = "TRL passes it on to PyTorch with this method, which refuses it: all are recomputed."
        return Written(why=why, is_lost=True)
    arguments = {"use_reentrant": False, "every_n_layers": value}
    return Written({"gradient_checkpointing_kwargs": arguments}, "Its name there.")


def activation_offload(value: bool, facts: Facts) -> Written:
    """Return whether activations are offloaded, by TRL's trainers that can."""
    if not value or facts.about_method.offloads_activations:
        return Written({"activation_offloading": True} if value else {})
    return Written(why=f"TRL cannot offload with {facts.about_method.label}.", is_lost=True)


def optimizer(value: str, facts: Facts) -> Written:
    """Return the optimizer; AdamW stands for Muon."""
    used = facts.plan.optim if facts.plan else value
    if used in MUON:
        return Written({"optim": "adamw_torch"}, NO_MUON, is_lost=True)
    why = "" if used == value else "What this computer has used in its place."
    return Written({"optim": used}, why)


ARGUMENTS: dict[str, Rule] = {
    **RULES,
    "learning_rate": learning_rate,
    "num_train_epochs": option("num_train_epochs"),
    "trainer.fractional_epochs": fractional_epochs("num_train_epochs"),
    "max_steps": steps,
    "per_device_train_batch_size": option("per_device_train_batch_size"),
    "per_device_eval_batch_size": option("per_device_eval_batch_size"),
    "gradient_accumulation_steps": option("gradient_accumulation_steps"),
    "gradient_checkpointing": option("gradient_checkpointing"),
    "max_grad_norm": option("max_grad_norm"),
    "weight_decay": option("weight_decay"),
    "optim": optimizer,
    "optimizer.beta1": option("adam_beta1"),
    "optimizer.beta2": option("adam_beta2"),
    "optimizer.epsilon": option("adam_epsilon"),
    "lr_scheduler_type": schedule,
    "warmup_ratio": warmup,
    "group_by_length": grouped,
    "data.shuffle": shuffled,
    "hardware.precision": precision,
    "hardware.device": device,
    "eval_steps": evaluated_every,
    "trainer.save_steps": saved_every,
    "trainer.save_total_limit": option("save_total_limit"),
    "evaluation.keep_best": keep_best,
    "trainer.seed": option("seed"),
    "trainer.neftune_noise_alpha": option("neftune_noise_alpha"),
    "trainer.torch_compile": option("torch_compile"),
    "hardware.torch_compile_mode": compile_mode,
    "memory.checkpoint_every_n_layers": every_n_layers,
    "data.num_workers": option("dataloader_num_workers"),
    "logging.run_name": option("run_name"),
    "logging.logging_steps": option("logging_steps"),
    "logging.report_to": trackers,
    "logging.project": option("project"),
    "adapter.start_from": left_out("The adapter that training starts from cannot be named."),
    "model.allow_hub_kernels": not_needed("A kernel of the Hub is loaded there without asking."),
    "model.response_prefix": left_out("Write the prefix into the chat template."),
    "data.use_chat_template": left_out("Conversations go through a template there.", [True]),
    "data.padding_side": left_out("Its own side of padding is used.", ["auto", "right"]),
    "model.dtype": left_out("The weights follow the precision there.", ["auto"]),
    "model.rope_type": left_out("Set rope_parameters in the config of the model.", ["none"]),
    "model.rope_factor": left_out("Set rope_parameters in the config of the model."),
    "model.max_model_len": left_out("Set rope_parameters in the config of the model."),
    "model.system_prompt": left_out("Write the system message into the rows."),
    "quantization.skip_first_layers": left_out("All layers are quantized."),
    "quantization.skip_last_layers": left_out("All layers are quantized."),
    "data.packing_strategy": not_needed("Its own way of packing is used."),
}


def split_differs(facts: Facts) -> Iterator[ExportLine]:
    """Yield the report about evaluation rows: every system draws its own."""
    if facts.config.eval_split > 0 and not facts.data:
        why = "The same share of the rows is set aside, but other rows: each program draws its own."
        yield ExportLine("eval_split", facts.config.eval_split, "converted", "", why)
