"""nanochat: the command line of `base_train`, as of February 2026."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    no_effect,
    renamed,
    words,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared.resuming import resumed_step
from modelforge.config.importers.system import System
from modelforge.errors import Problem

# The tokens of its own tokenizer.
VOCABULARY = 32_768
ALL_ROWS = 1_000_000


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
    return Outcome("renamed", {"evaluation.sample_every": value})


def _windows(value: str, _: Values) -> Outcome:
    pattern = value.upper()
    if "S" not in pattern:
        return Outcome("renamed", {"pretraining.window_pattern": pattern})
    settings = {"pretraining.window_pattern": pattern, "pretraining.arch": "qwen3"}
    why = "Transformers has sliding windows in the architecture qwen3, and not in nanochat."
    return Outcome("converted", settings, why)


def _core(value: int, _: Values) -> Outcome:
    if value <= 0:
        return Outcome("no-effect", why="Without evaluation.core_bundle there is no CORE here.")
    return Outcome("renamed", {"evaluation.core_every": value})


def _core_rows(value: int, _: Values) -> Outcome:
    if value <= 0:
        settings = {"evaluation.core_max_per_task": ALL_ROWS}
        return Outcome("converted", settings, "All rows there: more than any task has.")
    return Outcome("renamed", {"evaluation.core_max_per_task": value})


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


def _finish(values: Values, _: Any) -> dict[str, Any]:
    has_windows = "S" in values["window-pattern"].upper()
    return {
        "pretraining.enabled": True,
        "pretraining.arch": "qwen3" if has_windows else "nanochat",
        "pretraining.vocab_size": VOCABULARY,
        "gradient_checkpointing": False,
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
        "evaluation.keep_best": False,
    }


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
    "depth": renamed("pretraining.depth", 20, kind="int", least=1),
    "aspect-ratio": renamed("pretraining.aspect_ratio", 64, kind="int", least=1),
    "head-dim": renamed("pretraining.head_dim", 128, kind="int", least=1),
    "max-seq-len": renamed("max_seq_length", 2048, kind="int", least=1),
    "window-pattern": by(_windows, "SSSL", kind="text"),
    "num-iterations": by(_steps, -1, kind="int"),
    "target-flops": renamed("pretraining.target_flops", -1.0, kind="number"),
    "target-param-data-ratio": renamed("pretraining.target_param_data_ratio", 10.5, kind="number"),
    "device-batch-size": renamed("per_device_train_batch_size", 32, kind="int", least=1),
    "total-batch-size": renamed("pretraining.total_batch_tokens", -1, kind="int"),
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
    "eval-tokens": renamed("evaluation.eval_tokens", 40 * 524_288, kind="int", least=1),
    "core-metric-every": by(_core, 2000, kind="int"),
    "core-metric-max-per-task": by(_core_rows, 500, kind="int"),
    "sample-every": by(_sampled, 2000, kind="int"),
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
