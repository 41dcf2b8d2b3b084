"""nanochat: the command line of `base_train`, as of February 2026."""

from __future__ import annotations

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
from modelforge.config.importers.system import System

NOTHING = "training from nothing"
# Its options of a model from nothing and of the optimizer Muon, each with nanochat's own default.
FROM_NOTHING = (
    "fp8",
    "fp8-recipe",
    "depth",
    "aspect-ratio",
    "head-dim",
    "window-pattern",
    "target-flops",
    "target-param-data-ratio",
    "total-batch-size",
    "embedding-lr",
    "unembedding-lr",
    "weight-decay",
    "matrix-lr",
    "scalar-lr",
    "eval-tokens",
    "core-metric-every",
    "core-metric-max-per-task",
    "sample-every",
    "model-tag",
)


def _run(value: Any, _: Values) -> Outcome:
    if value == "dummy":
        return Outcome("converted", {"logging.report_to": ""}, "dummy switches W&B off there.")
    settings = {"logging.run_name": str(value), "logging.report_to": "wandb"}
    return Outcome("converted", settings, "A name switches W&B on there.")


def _steps(value: int, _: Values) -> Outcome:
    if value == -1:
        return Outcome("no-effect", why="-1 leaves the length of the training to other options.")
    return Outcome("renamed", {"max_steps": value})


def _resume(value: int, _: Values) -> Outcome:
    if value == -1:
        return Outcome("no-effect", why="-1 asks for nothing.")
    return Outcome("no-effect", why="A stopped run is resumed by its button.")


OPTIONS: dict[str, Option] = {
    "run": by(_run, "dummy"),
    "device-type": words(
        "hardware.device",
        {"": "auto", "cuda": "cuda", "cpu": "cpu", "mps": "mps"},
        "",
        "Empty is auto.",
    ),
    **{name: coming(NOTHING) for name in FROM_NOTHING},
    "max-seq-len": renamed("max_seq_length", 2048),
    "num-iterations": by(_steps, -1, kind="int"),
    "device-batch-size": renamed("per_device_train_batch_size", 32),
    "adam-beta1": renamed("optimizer.beta1", 0.8),
    "adam-beta2": renamed("optimizer.beta2", 0.95),
    "warmup-ratio": renamed("warmup_ratio", 0.0),
    "warmdown-ratio": renamed("schedule.decay_ratio", 0.5),
    "final-lr-frac": renamed("schedule.final_lr_fraction", 0.0),
    "resume-from-step": by(_resume, -1, kind="int"),
    "eval-every": renamed("eval_steps", 250),
    "save-every": renamed("trainer.save_steps", -1),
    "help": no_effect("It prints the options."),
}


def _finish(_: Values, __: Any) -> dict[str, Any]:
    return {
        "task": "text-generation",
        "provider": "huggingface",
        "strategy": "sft",
        "lr_scheduler_type": "warmup_stable_decay",
        "adapter.enabled": False,
        "quantization.scheme": "none",
    }


SYSTEM = System(
    name="nanochat",
    title="nanochat",
    options=OPTIONS,
    finish=_finish,
    programs=("base_train", "nanochat"),
)
