"""nanochat: the command line of `base_train`, as of February 2026."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    coming,
    no_effect,
    renamed,
    words,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared.resuming import resumed_step
from modelforge.config.importers.system import System
from modelforge.errors import Problem

NOTHING = "training from nothing"


def _run(value: Any, _: Values) -> Outcome:
    if value == "dummy":
        return Outcome("converted", {"logging.report_to": ""}, "dummy switches W&B off there.")
    settings = {"logging.run_name": str(value), "logging.report_to": "wandb"}
    return Outcome("converted", settings, "A name switches W&B on there.")


def _steps(value: int, _: Values) -> Outcome:
    if value == -1:
        return Outcome("no-effect", why="-1 leaves the length of the training to other options.")
    return Outcome("renamed", {"max_steps": value})


def _evaluated(value: int, _: Values) -> Outcome:
    if value == -1:
        return Outcome("converted", {"eval_split": 0.0}, "-1 switches the evaluation off.")
    return Outcome("renamed", {"eval_steps": value})


def _sampled(value: int, _: Values) -> Outcome:
    if value == -1:
        return Outcome("converted", {"evaluation.samples": 0}, "-1 switches samples off.")
    why = "Samples are taken at each evaluation here."
    return Outcome("no-effect", why=why)


def _tokens(value: int, values: Values) -> Outcome:
    if value <= 0:
        why = "Its amount of tokens follows from the depth, with training from nothing."
        return Outcome("refused", why=why)
    tokens = values["device-batch-size"] * values["max-seq-len"]
    why = f"{value:,} tokens are {value // tokens:,} batches of {tokens:,}."
    return Outcome("converted", {"gradient_accumulation_steps": value // tokens}, why)


def _check(values: Values) -> Iterator[Problem]:
    if not isinstance(values["run"], (str, int)) or isinstance(values["run"], bool):
        yield Problem("run", "It has no name.", "Write one name, as in --run=first, or dummy.")
    horizon = ("num-iterations", "target-flops", "target-param-data-ratio")
    if all(values[name] <= 0 for name in horizon):
        what = "num-iterations, target-flops and target-param-data-ratio are all off."
        yield Problem(horizon[0], what, "Enter one of them, which is the length of the training.")
    rows = values["device-batch-size"] * values["max-seq-len"]
    tokens = values["total-batch-size"]
    if tokens > 0 and tokens % rows:
        what = f"{tokens:,} tokens are not a multiple of {rows:,}, the tokens of one device batch."
        yield Problem("total-batch-size", what, "Take a multiple of it, or -1.")
    if set(values["window-pattern"].upper()) - {"S", "L"} or not values["window-pattern"]:
        what = f"{values['window-pattern']!r} has other letters than S and L."
        yield Problem("window-pattern", what, "Write the windows as in SSSL.")


def _finish(_: Values, __: Any) -> dict[str, Any]:
    return {
        "task": "text-generation",
        "provider": "huggingface",
        "strategy": "sft",
        "lr_scheduler_type": "warmup_stable_decay",
        "adapter.enabled": False,
        "quantization.scheme": "none",
        "group_by_length": False,
        "max_grad_norm": 0.0,
        # What its script does without an option.
        "optim": "normuon",
        "optimizer.muon_scale": "original",
        "optimizer.epsilon": 1e-10,
    }


def _from_nothing(default: Any, kind: str, **bounds: Any) -> Option:
    return replace(coming(NOTHING, kind=kind, **bounds), default=default)


OPTIONS: dict[str, Option] = {
    "run": by(_run, "dummy"),
    "device-type": words(
        "hardware.device",
        {"": "auto", "cuda": "cuda", "cpu": "cpu", "mps": "mps"},
        "",
        "Empty is auto.",
    ),
    "fp8": renamed("quantization.fp8_training", False, kind="bool"),
    "fp8-recipe": renamed(
        "quantization.fp8_recipe", kind="text", choices=("tensorwise", "rowwise")
    ),
    "depth": _from_nothing(20, "int", least=1),
    "aspect-ratio": _from_nothing(64, "int", least=1),
    "head-dim": _from_nothing(128, "int", least=1),
    "max-seq-len": renamed("max_seq_length", 2048, kind="int", least=1),
    "window-pattern": _from_nothing("SSSL", "text"),
    "num-iterations": by(_steps, -1, kind="int"),
    "target-flops": _from_nothing(-1.0, "number"),
    "target-param-data-ratio": _from_nothing(10.5, "number"),
    "device-batch-size": renamed("per_device_train_batch_size", 32, kind="int", least=1),
    "total-batch-size": by(_tokens, -1, kind="int"),
    "embedding-lr": renamed("optimizer.embedding_lr", 0.3, kind="number", least=0),
    "unembedding-lr": renamed("optimizer.unembedding_lr", 0.004, kind="number", least=0),
    "weight-decay": renamed("weight_decay", 0.2, kind="number", least=0),
    "matrix-lr": renamed("optimizer.matrix_lr", 0.02, kind="number", least=0),
    "scalar-lr": renamed("optimizer.scalar_lr", 0.5, kind="number", least=0),
    "adam-beta1": renamed("optimizer.beta1", 0.8),
    "adam-beta2": renamed("optimizer.beta2", 0.95),
    "warmup-ratio": renamed("warmup_ratio", 0.0),
    "warmdown-ratio": renamed("schedule.decay_ratio", 0.5),
    "final-lr-frac": renamed("schedule.final_lr_fraction", 0.0),
    "resume-from-step": resumed_step(-1),
    "eval-every": by(_evaluated, 250, kind="int"),
    "eval-tokens": coming(NOTHING, kind="int"),
    "core-metric-every": coming(NOTHING, -1, kind="int"),
    "core-metric-max-per-task": coming(NOTHING, kind="int"),
    "sample-every": by(_sampled, kind="int"),
    "save-every": renamed("trainer.save_steps", -1, kind="int"),
    "model-tag": no_effect("Runs have their own folders here."),
    "help": no_effect("It prints the options."),
}


SYSTEM = System(
    name="nanochat",
    title="nanochat",
    options=OPTIONS,
    check=_check,
    finish=_finish,
    is_dashed=True,
    programs=("base_train", "nanochat"),
)
