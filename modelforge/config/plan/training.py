"""The part of the plan about training: steps, batches, optimizer and learning rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modelforge.config.defaults import default_learning_rate
from modelforge.config.methods import METHOD_FACTS, Method, facts_of
from modelforge.config.optimizers import COOLED_SCHEDULES, OPTIMIZERS, RESULT_SCHEDULES
from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.providers import PROVIDER_FACTS
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, Problem

DECAY_SHARE = 0.2
# Completions generated together in an evaluation, where no batch size is set.
GENERATED_EVAL_BATCH = 4
# The Transformers schedule that ends above zero, for those that have one.
ENDS_ABOVE_ZERO = {
    "cosine": "cosine_with_min_lr",
    "linear": "polynomial",
    **{
        name: name
        for name in (
            "polynomial",
            "warmup_stable_decay",
            "cosine_with_min_lr",
            "cosine_warmup_with_min_lr",
            *RESULT_SCHEDULES,
        )
    },
}
# Evaluations of a training from nothing that is too short for the usual interval.
EVALUATIONS = 4
# Final share of the learning rate for the schedules that need one, where none is set.
FINAL_FRACTION = 0.1
# Automatic learning rates of an adapter, as in NeMo Safe Synthesizer.
AUTO_RATE, AUTO_RATE_MISTRAL = 5e-4, 1e-4
MISTRAL_FAMILY = ("mistral", "mixtral", "ministral")
# The default of Transformers would let greedy raise any learning rate to 1.
GREEDY_HIGHEST = 10


def with_learning_rate(
    config: TrainingConfig, context: PlanContext, log: ChangeLog
) -> TrainingConfig:
    """Return the config with the automatic learning rate, where that is chosen."""
    if not config.schedule.auto_learning_rate:
        return config
    rate, reason = auto_learning_rate(config, context)
    log.record("learning_rate", rate, f"Chosen automatically: {reason}.")
    return config.with_changes({"learning_rate": rate})


def auto_learning_rate(config: TrainingConfig, context: PlanContext) -> tuple[float, str]:
    """Return the automatic learning rate and what it follows from.

    With an adapter on rows it is that of NeMo Safe Synthesizer; otherwise the usual rate.
    """
    strategy, has_adapter = config.strategy, config.adapter.enabled
    if strategy in ("sft", "qlora") and has_adapter:
        family = context.model_type or context.model_path
        is_mistral = any(name in family.lower() for name in MISTRAL_FAMILY)
        if is_mistral:
            return AUTO_RATE_MISTRAL, f"{strategy} of an adapter on a Mistral model"
        return AUTO_RATE, f"{strategy} of an adapter on a model that is not of the Mistral family"
    with_adapter = "with an adapter" if has_adapter else "of all weights"
    rate = default_learning_rate(strategy, adapter=has_adapter)
    return rate, f"the usual rate of {strategy} {with_adapter}"


def effective_accumulation(config: TrainingConfig) -> int:
    """Return the accumulation, raised where a step must hold all completions of its prompts."""
    configured, batch = config.gradient_accumulation_steps, config.per_device_train_batch_size
    if not facts_of(config).generates:
        return configured
    return generation_batching(batch, configured, config.trainer.num_generations).accumulation


def accumulation(config: TrainingConfig, log: ChangeLog) -> int:
    """Return `effective_accumulation` and record a change."""
    used = effective_accumulation(config)
    if used != config.gradient_accumulation_steps:
        completions = config.trainer.num_generations
        reason = f"A step holds all {completions} completions of each of its prompts."
        log.record("gradient_accumulation_steps", used, reason)
    return used


def effective_eval_batch_size(config: TrainingConfig) -> int:
    """Return the evaluation batch size, raised for generated completions where it is not set."""
    configured = config.per_device_eval_batch_size
    if not facts_of(config).generates or "per_device_eval_batch_size" in config.model_fields_set:
        return configured
    completions = config.per_device_train_batch_size * effective_accumulation(config)
    return max(configured, min(completions, GENERATED_EVAL_BATCH))


def eval_batch_size(config: TrainingConfig, log: ChangeLog) -> int:
    """Return `effective_eval_batch_size` and record a change."""
    used = effective_eval_batch_size(config)
    if used != config.per_device_eval_batch_size and config.evaluates:
        log.record("per_device_eval_batch_size", used, "Completions are generated together.")
    return used


def completion_length(config: TrainingConfig, max_length: int, log: ChangeLog) -> int:
    """Return the tokens of the longest completion; half of a row unless it is set."""
    trainer = config.trainer
    configured = trainer.max_completion_length
    half = max(1, max_length // 2)
    is_set = "max_completion_length" in trainer.model_fields_set
    if not facts_of(config).generates or is_set or configured <= half:
        return configured
    reason = f"Half of the {max_length:,} tokens of a row are left for the prompt."
    return log.record("trainer.max_completion_length", half, reason)


def lora_dropout(config: TrainingConfig, log: ChangeLog) -> None:
    """Record that methods which compare completions train without dropout."""
    facts = facts_of(config)
    if config.adapter.enabled and config.lora_dropout and facts.compares and not facts.generates:
        reason = f"{facts.label} compares log-probabilities without dropout."
        log.record("lora_dropout", 0.0, reason)


def eval_interval(config: TrainingConfig, total: int | None, log: ChangeLog) -> int | None:
    """Return the steps between evaluations, at most `total`; None without evaluation.

    A short training from nothing is evaluated more often, unless the interval is set.
    """
    if not config.evaluates:
        return None
    if config.pretraining.enabled and "eval_steps" not in config.model_fields_set and total:
        quarter = max(1, total // EVALUATIONS)
        if quarter < config.eval_steps:
            reason = (
                f"The run has {total:,} steps, so its course shows in {EVALUATIONS} evaluations."
            )
            return log.record("eval_steps", quarter, reason)
    if total is None or config.eval_steps <= total:
        return config.eval_steps
    reason = f"The run has {total} steps, so it would end before the first evaluation."
    return log.record("eval_steps", total, reason)


def sample_rounds(
    config: TrainingConfig, method: Method, total: int | None, eval_steps: int | None
) -> int:
    """Return how often the sample prompts are answered.

    At step 0, at the end, and at evaluations or every `sample_every` steps.
    """
    has_no_answers = METHOD_FACTS[method].head == "span"
    if not config.evaluation.samples or has_no_answers or not total:
        return 0
    if PROVIDER_FACTS[config.provider].adds_adapter:
        return 0
    every = config.evaluation.sample_every or eval_steps
    if not every:
        return 2
    return 1 + -(-total // every)


def save_interval(config: TrainingConfig, eval_steps: int | None, log: ChangeLog) -> int:
    """Return the steps between checkpoints; -1 saves at the end only.

    With `keep_best` the interval is a multiple of `eval_steps`, since the best checkpoint is chosen
    by its evaluation.
    """
    configured = config.trainer.save_steps
    if configured is None or configured == 0:
        return eval_steps or config.eval_steps
    keeps_best = config.evaluation.keep_best
    if configured == -1 or eval_steps is None or not keeps_best or configured % eval_steps == 0:
        return configured
    multiple = -(-configured // eval_steps) * eval_steps
    reason = f"The best checkpoint is kept, so each is saved with an evaluation ({eval_steps})."
    log.record("trainer.save_steps", multiple, reason)
    return multiple


def optim(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> str:
    """Return the optimizer, or its equivalent where the device does not support it."""
    info = OPTIMIZERS[config.optim]
    if context.device == "mps" and info.on_mps:
        reason = "Optimizers of bitsandbytes need an NVIDIA GPU or a CPU."
        return log.record("optim", info.on_mps, reason)
    if context.device != "cuda" and info.without_cuda:
        reason = "Paging needs an NVIDIA GPU; the same optimizer without paging is used."
        return log.record("optim", info.without_cuda, reason)
    if info.unpaged and "optim" not in config.model_fields_set:
        return _unpaged(config, context, log, info.unpaged)
    return config.optim


def _unpaged(config: TrainingConfig, context: PlanContext, log: ChangeLog, unpaged: str) -> str:
    """Return the optimizer without paging where nothing has to be paged, or nothing can be.

    A process whose pages cannot be allocated is ended by bitsandbytes, without an exception. The
    state of an adapter in bfloat16 stays in 32 bits with the optimizers of bitsandbytes alone.
    """
    if config.adapter.enabled and config.adapter.dtype != "bfloat16":
        return log.record("optim", unpaged, "The state of an adapter is small, so it is not paged.")
    if not context.native_linux:
        reason = "The driver of Windows cannot page more than the GPU holds."
        return log.record("optim", unpaged, reason)
    return config.optim


def scheduler(config: TrainingConfig, log: ChangeLog) -> tuple[str, dict[str, Any]]:
    """Return `lr_scheduler_type` and `lr_scheduler_kwargs` for Transformers."""
    schedule = config.schedule
    name, final = config.lr_scheduler_type, schedule.final_lr_fraction
    if name == "constant" and _warms_up(config):
        reason = "The schedule constant has no warm-up."
        return log.record("lr_scheduler_type", "constant_with_warmup", reason), {}
    if name == "warmup_stable_decay" or cools_down(config):
        return name, _decay(config)
    if name in RESULT_SCHEDULES:
        return name, _by_results(config)
    if name.endswith("_with_min_lr"):
        return name, {"min_lr_rate": _final_fraction(config, log)}
    if name == "cosine_with_restarts":
        return name, {"num_cycles": schedule.cycles or max(2, config.num_train_epochs)}
    if final > 0 and name in ENDS_ABOVE_ZERO:
        used = ENDS_ABOVE_ZERO[name]
        if used != name:
            reason = f"It ends at {100 * final:g} % of the learning rate, which {name} cannot."
            log.record("lr_scheduler_type", used, reason)
        if used == "cosine_with_min_lr":
            return used, {"min_lr_rate": final}
        power = schedule.power if name == "polynomial" else 1.0
        return used, {"lr_end": final * config.learning_rate, "power": power}
    if name == "polynomial":
        # Transformers refuses a rate at or below the default lr_end of 1e-7.
        shape = {} if schedule.power == 1 else {"power": schedule.power}
        return name, {"lr_end": min(1e-7, config.learning_rate / 10), **shape}
    return name, {}


def warmup(config: TrainingConfig, total: int | None) -> float:
    """Return the warm-up: below 1 a share of the run, else a number of steps."""
    if config.lr_scheduler_type in RESULT_SCHEDULES:
        return 0.0
    if config.schedule.warmup_steps is not None:
        return float(config.schedule.warmup_steps)
    # Transformers reads a value below 1 as a share, and 1.0 as one step.
    if config.warmup_ratio < 1:
        return config.warmup_ratio
    return float(total) if total is not None else 0.999999


def _warms_up(config: TrainingConfig) -> bool:
    steps = config.schedule.warmup_steps
    return config.warmup_ratio > 0 if steps is None else steps > 0


def _by_results(config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of a schedule that follows the evaluation loss, or the reward."""
    name, rate = config.lr_scheduler_type, config.learning_rate
    return {
        "mode": "max" if facts_of(config).generates else "min",
        "patience": config.schedule.patience,
        "min_lr": config.schedule.final_lr_fraction * rate,
        # Smaller changes are left out; the default of 1e-8 is more than some learning rates.
        "eps": 0.0,
        **({"max_lr": GREEDY_HIGHEST * rate} if name == "greedy" else {}),
    }


def _final_fraction(config: TrainingConfig, log: ChangeLog) -> float:
    schedule = config.schedule
    if "final_lr_fraction" in schedule.model_fields_set:
        return schedule.final_lr_fraction
    reason = f"The schedule {config.lr_scheduler_type} ends above zero."
    return log.record("schedule.final_lr_fraction", FINAL_FRACTION, reason)


def cools_down(config: TrainingConfig) -> bool:
    """Return whether a linear or cosine schedule ends with a cooldown."""
    schedule = config.schedule
    has_length = bool(schedule.decay_steps or schedule.decay_ratio)
    return config.lr_scheduler_type in COOLED_SCHEDULES and has_length


def _decay(config: TrainingConfig) -> dict[str, Any]:
    # Below 1, num_decay_steps is a share of the run; the worker converts it to steps.
    schedule = config.schedule
    ratio = DECAY_SHARE if schedule.decay_ratio is None else schedule.decay_ratio
    return {
        "num_decay_steps": ratio if schedule.decay_steps is None else schedule.decay_steps,
        "decay_type": schedule.decay_shape,
        "min_lr_ratio": schedule.final_lr_fraction,
    }


@dataclass(frozen=True)
class GenerationBatching:
    """How the completions of one step are divided into micro-batches.

    Attributes:
        batch: Completions per micro-batch.
        accumulation: Micro-batches per step.
        generations: Completions per prompt.
    """

    batch: int
    accumulation: int
    generations: int

    @property
    def completions(self) -> int:
        """Completions per step."""
        return self.batch * self.accumulation

    @property
    def prompts(self) -> int:
        """Prompts per step."""
        return self.completions // self.generations

    def steps(self, prompts: int) -> int:
        """Return the steps of one epoch; prompts that fill no step wait for the next epoch."""
        return prompts // self.prompts


def generation_batching(
    batch: int, accumulation: int, generations: int, prompts: int | None = None
) -> GenerationBatching:
    """Return the batching nearest to the request where a step holds whole groups of completions.

    The accumulation is raised until every group fits, and lowered where a step would need more
    prompts than there are. Raises ConfigError when no accumulation does both.
    """
    unit = generations // math.gcd(batch, generations)
    wanted = -(-accumulation // unit) * unit
    if prompts is None:
        return GenerationBatching(batch, wanted, generations)
    limit = prompts * generations // batch // unit * unit
    if limit < unit:
        raise ConfigError(_too_few_prompts(batch, unit, generations, prompts))
    return GenerationBatching(batch, min(wanted, limit), generations)


def _too_few_prompts(batch: int, unit: int, generations: int, prompts: int) -> Problem:
    needed = batch * unit // generations
    return Problem(
        "per_device_train_batch_size",
        f"A batch of {batch} completions, {generations} per prompt, needs {needed} prompts for one "
        f"step; there {'is' if prompts == 1 else 'are'} {prompts}.",
        f"Set the batch size to {generations} or a divisor of it, or add more rows.",
    )
