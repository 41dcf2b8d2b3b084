"""nanochat: the command line of `base_train`, as of February 2026."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.exporters.every_system import REPORTS
from modelforge.config.exporters.every_system import RULES as EVERYWHERE
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.exporters.rules import Rule, elsewhere, left_out, not_needed, option
from modelforge.config.exporters.system import TargetSystem
from modelforge.config.fields import specs_by_name
from modelforge.errors import Problem

PROGRAM = "python -m scripts.base_train"
# The tokens of the tokenizer that its script trains.
VOCABULARY = 32_768
# More steps than any training has: only at the end.
NEVER = 10**9
# Options that stand first.
FIRST = ("depth", "aspect-ratio", "head-dim", "window-pattern", "max-seq-len")
SHAPE = "Its model has this shape alone."
NO_ROWS = "Its text is one stream of tokens, without rows."
OF_ADAPTERS = "All weights are trained."
FIXED = "It is fixed there."
TEXT = (
    "It reads Parquet files with a column text in its own folder base_data, and trains its "
    "tokenizer before with scripts.tok_train."
)
# Groups of settings that change no model from nothing.
_WITHOUT_EFFECT = {
    "adapter.": OF_ADAPTERS,
    "quantization.": OF_ADAPTERS,
    "trainer.preference_": OF_ADAPTERS,
    "data.": NO_ROWS,
    "model.": "The model is made there.",
}


def _architecture(value: str, facts: Facts) -> Written:
    pattern = facts.config.pretraining.window_pattern if value == "qwen3" else "L"
    options = {"window-pattern": pattern}
    if value == "nanochat":
        return Written(options, "Its own model; every layer has the whole context.")
    if "S" in pattern:
        return Written(options, "Its own model, which has the same windows.")
    return Written(options, f"It trains its own model, not {value}.", is_lost=True)


def _batch(value: int, _: Facts) -> Written:
    if value > 0:
        return Written({"total-batch-size": value})
    why = "The same law chooses them there, whatever the text and the steps."
    return Written({"total-batch-size": -1}, why)


def _weight_rate(name: str) -> Rule:
    def write(value: float | None, facts: Facts) -> Written:
        if value is not None:
            return Written({name: value})
        return Written({name: facts.config.learning_rate}, "The rate of all weights.")

    return write


def _optimizer(value: str, facts: Facts) -> Written:
    if value != "normuon":
        return Written(why=f"It has NorMuon and AdamW together, not {value}.", is_lost=True)
    if facts.config.optimizer.muon_scale != "original":
        return Written(why="Updates have the size of the first paper on Muon.", is_lost=True)
    return Written(why="Its only optimizer.")


def _schedule(value: str, _: Facts) -> Written:
    if value == "warmup_stable_decay":
        return Written(why="Its only schedule.")
    if value.startswith("constant"):
        return Written({"warmdown-ratio": 0.0}, "Its schedule without a decay.")
    return Written(why="Rates are constant there, and fall at the end.", is_lost=True)


def _warmup(value: float, facts: Facts) -> Written:
    steps = facts.config.schedule.warmup_steps
    if steps is None:
        return Written({"warmup-ratio": value})
    return _share("warmup-ratio", steps, facts)


def _decay(value: float | None, facts: Facts) -> Written:
    if value is not None:
        return Written({"warmdown-ratio": value})
    steps = facts.config.schedule.decay_steps
    if steps is None:
        return Written({"warmdown-ratio": facts.decay_steps}, "The usual share.")
    return _share("warmdown-ratio", steps, facts)


def _share(name: str, steps: int, facts: Facts) -> Written:
    total = facts.total_steps
    if not total:
        why = "It is a share of the steps there, whose number is not set: give max_steps."
        return Written(why=why, is_lost=True)
    return Written({name: steps / total}, "A share of the steps there.")


def _length(value: int | None, facts: Facts) -> Written:
    why = "" if value == facts.max_length else "What the profile gives."
    return Written({"max-seq-len": facts.max_length}, why)


def _split(_value: float, facts: Facts) -> Written:
    if facts.evaluates:
        return Written(why="Its last file of text is evaluated.")
    return Written({"eval-every": -1}, "-1 switches the evaluation off.")


def _eval_tokens(value: int | None, _: Facts) -> Written:
    if value is None:
        return Written(why="Its own number: 20,971,520.")
    return Written({"eval-tokens": value})


def _core_bundle(value: str | None, facts: Facts) -> Written:
    """Write what counts without a folder: -1 is off, unless an interval is set."""
    if value is not None:
        return Written(why="It downloads the bundle.")
    ours = facts.config.evaluation
    options = {
        "core-metric-every": ours.core_every if ours.core_every > 0 else -1,
        "core-metric-max-per-task": ours.core_max_per_task,
    }
    return Written(options, "It downloads the bundle unless the interval is -1.")


def _core_every(value: int, _: Facts) -> Written:
    if value > 0:
        return Written({"core-metric-every": value})
    return Written({"core-metric-every": NEVER}, "At the end alone: more steps than there are.")


def _samples(value: int, _: Facts) -> Written:
    if value == 0:
        return Written({"sample-every": -1}, "-1 switches samples off.")
    return Written(why="It continues seven texts.")


def _sample_every(value: int, facts: Facts) -> Written:
    if value:
        return Written({"sample-every": value})
    return Written({"sample-every": facts.config.eval_steps}, "At every evaluation.")


def _trackers(value: str, facts: Facts) -> Written:
    if "wandb" not in value:
        lost = value not in ("", "none")
        return Written({"run": "dummy"}, "It knows W&B alone, which dummy switches off.", lost)
    name = facts.config.logging.run_name or facts.config.model_name
    return Written({"run": name}, "A name switches W&B on there.")


def _precision(_value: str, facts: Facts) -> Written:
    if facts.precision in ("auto", "bf16"):
        return Written(why="bf16 on a GPU there.")
    if facts.precision == "fp32" and facts.config.hardware.device == "cpu":
        return Written(why="fp32 on the CPU there.")
    return Written(why="It trains in bf16 on a GPU.", is_lost=True)


def _check(facts: Facts) -> Iterator[Problem]:
    if facts.method != "pretraining":
        what = "base_train trains from nothing; these settings train a model further."
        yield Problem("pretraining.enabled", what, "Export them to trl, axolotl or llama-factory.")


def _ungrouped() -> dict[str, Rule]:
    """Return rules of settings without effect, by the beginning of their names."""
    return {
        name: not_needed(why)
        for name in specs_by_name()
        for beginning, why in _WITHOUT_EFFECT.items()
        if name.startswith(beginning)
    }


RULES: dict[str, Rule] = {
    **_ungrouped(),
    **EVERYWHERE,
    **dict.fromkeys(
        ("lora_r", "lora_alpha", "lora_dropout", "use_4bit", "use_8bit", "use_nested_quant"),
        not_needed(OF_ADAPTERS),
    ),
    **dict.fromkeys(("bnb_4bit_compute_dtype", "bnb_4bit_quant_type"), not_needed(OF_ADAPTERS)),
    **dict.fromkeys(("packing", "group_by_length", "data.padding_free"), not_needed(NO_ROWS)),
    "task": not_needed("Its only task."),
    "strategy": not_needed("Its script for models from nothing."),
    "model_name": option("model-tag"),
    "data.sources": left_out(TEXT, [None]),
    "data.validation_sources": left_out("Its last file of text is evaluated.", [[]]),
    "data.shuffle": left_out("Its text is read in order.", [True]),
    "eval_split": _split,
    "max_seq_length": _length,
    "pretraining.enabled": not_needed("It trains from nothing alone."),
    "pretraining.arch": _architecture,
    "pretraining.depth": option("depth"),
    "pretraining.aspect_ratio": option("aspect-ratio"),
    "pretraining.head_dim": option("head-dim"),
    "pretraining.window_pattern": elsewhere("pretraining.arch"),
    "pretraining.vocab_size": left_out("Its tokenizer has 32,768 tokens.", [VOCABULARY]),
    "pretraining.tokenizer": left_out("It has a tokenizer of its own.", ["train"]),
    **{
        f"pretraining.{name}": left_out(SHAPE, [None])
        for name in ("d_model", "n_heads", "n_kv_heads", "d_ff", "n_layers")
    },
    "pretraining.rope_theta": left_out("It is 10,000 there.", [10_000.0]),
    "pretraining.tie_embeddings": left_out(SHAPE),
    "pretraining.dropout": left_out("There is no dropout.", [0.0]),
    "pretraining.embedding_adapter_dim": left_out("It borrows no embeddings.", [None]),
    "pretraining.freeze_embeddings": left_out("All weights are trained there."),
    "pretraining.init_projections_to_zero": left_out("They are zero at the start.", [True]),
    "pretraining.total_batch_tokens": _batch,
    "pretraining.target_flops": option("target-flops"),
    "pretraining.target_param_data_ratio": option("target-param-data-ratio"),
    "max_steps": option("num-iterations"),
    "num_train_epochs": not_needed("Tokens, FLOPs or steps are the length."),
    "trainer.fractional_epochs": not_needed("Tokens, FLOPs or steps are the length."),
    "per_device_train_batch_size": option("device-batch-size"),
    "per_device_eval_batch_size": not_needed("It changes no result."),
    "gradient_accumulation_steps": not_needed("It follows from the tokens of a step."),
    "gradient_checkpointing": not_needed("It changes no result; activations are kept there."),
    "optim": _optimizer,
    "optimizer.matrix_lr": _weight_rate("matrix-lr"),
    "optimizer.embedding_lr": _weight_rate("embedding-lr"),
    "optimizer.unembedding_lr": _weight_rate("unembedding-lr"),
    "optimizer.scalar_lr": _weight_rate("scalar-lr"),
    "optimizer.beta1": option("adam-beta1"),
    "optimizer.beta2": option("adam-beta2"),
    "optimizer.epsilon": left_out(FIXED, [1e-10]),
    "optimizer.muon_momentum": left_out(FIXED, [0.95]),
    "optimizer.muon_beta2": left_out(FIXED, [0.95]),
    "optimizer.cautious_weight_decay": left_out(FIXED, [True]),
    "learning_rate": not_needed("Each kind of weight has a rate."),
    "weight_decay": option("weight-decay"),
    "max_grad_norm": left_out("Gradients are not clipped there.", [0.0]),
    "lr_scheduler_type": _schedule,
    "warmup_ratio": _warmup,
    "schedule.warmup_steps": elsewhere("warmup_ratio"),
    "schedule.decay_ratio": _decay,
    "schedule.decay_steps": elsewhere("schedule.decay_ratio"),
    "schedule.decay_shape": left_out("The decay is linear there.", ["linear"]),
    "schedule.final_lr_fraction": option("final-lr-frac"),
    "eval_steps": option("eval-every"),
    "evaluation.eval_tokens": _eval_tokens,
    "evaluation.core_bundle": _core_bundle,
    "evaluation.core_every": _core_every,
    "evaluation.core_max_per_task": option("core-metric-max-per-task"),
    "evaluation.samples": _samples,
    "evaluation.sample_every": _sample_every,
    "evaluation.keep_best": left_out("The last weights are kept, not the best."),
    "hardware.device": lambda value, _: Written({} if value == "auto" else {"device-type": value}),
    "hardware.precision": _precision,
    "quantization.fp8_training": lambda value, _: Written({"fp8": True} if value else {}),
    "quantization.fp8_recipe": option("fp8-recipe"),
    "trainer.save_steps": lambda value, facts: Written(
        {"save-every": facts.save_steps}, "" if value == facts.save_steps else "At evaluations."
    ),
    "trainer.save_total_limit": not_needed("It keeps all checkpoints."),
    "trainer.seed": left_out("It is 42 there.", [42]),
    "trainer.neftune_noise_alpha": left_out("There is no noise on the embeddings."),
    "trainer.torch_compile": not_needed("It always compiles the model."),
    "trainer.precompute_ref_log_probs": not_needed(OF_ADAPTERS),
    "logging.run_name": elsewhere("logging.report_to"),
    "logging.report_to": _trackers,
    "logging.project": not_needed(REPORTS),
    "logging.logging_steps": not_needed(REPORTS),
}  # fmt: skip


def command_line(options: Mapping[str, Any]) -> str:
    """Return the command with its options, one on a line."""
    first = [name for name in FIRST if name in options]
    names = dict.fromkeys([*first, *options])
    parts = [PROGRAM, *(_argument(name, options[name]) for name in names)]
    return " \\\n    ".join(parts) + "\n"


def _argument(name: str, value: Any) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


SYSTEM = TargetSystem(
    name="nanochat",
    title="nanochat",
    file_name="nanochat.sh",
    rules=RULES,
    check=_check,
    finish=lambda _: {},
    command=lambda _: "bash FILE",
    layout=command_line,
    is_from_nothing=True,
)
