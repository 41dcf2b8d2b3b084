"""Learning from rewards: a reward model from pairs first, then TRL's RLOO or GRPO with it.

A rule or a reward model that is named takes the place of the first stage. Between the stages the
run can be ended and begun again: what judges is kept whole in the run's folder.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from modelforge.config.plan.training import GenerationBatching, generation_batching
from modelforge.modeling.adapters.lora import lora_config, prepare_trainer
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.prompts import PromptDataset, PromptLimits, build_prompts
from modelforge.runs.checkpoints import listed
from modelforge.runs.event_types import ScoresEvent, StoppedEvent
from modelforge.train import loop
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.job import Job, WorkerContext
from modelforge.train.loop import Stage
from modelforge.train.resume import remove_first_stage_checkpoints
from modelforge.train.stop import StopRequested
from modelforge.train.strategies import reward_model
from modelforge.train.strategies.online import CompletionLog, OnlineMixin, watch
from modelforge.train.strategies.rewards import (
    DTYPES,
    ModelReward,
    Pattern,
    Rule,
    RuleReward,
    make_rule,
)
from modelforge.train.trainer.arguments import shared, within
from modelforge.train.trainer.checkpointing import CheckpointMixin

PREFERENCES = Stage(1, 2, "Learning what people prefer")
REWARDS = Stage(2, 2, "Learning from rewards")
# Answers checked at once where nothing is said: more would ask for the memory of a larger batch.
CHECKED_AT_ONCE = 4


class Rloo(CheckpointMixin, OnlineMixin, RLOOTrainer):
    """TRL's RLOOTrainer as this house has it answer."""


class Grpo(CheckpointMixin, OnlineMixin, GRPOTrainer):
    """TRL's GRPOTrainer as this house has it answer."""


def run(context: WorkerContext) -> None:
    """Do the whole of a run: the stage that learns to judge if there is one, then the policy."""
    began = time.monotonic()
    config, run_folder = context.job.config, context.job.run
    named = config.trainer.reward_model
    rule = make_rule(config) if config.trainer.reward != "model" else None
    if rule is None and named is not None:
        reward_model.require_reward_model(named)
    if rule is not None or named is not None:
        _learn_from_rewards(context, rule, None, began)
        return
    if not run_folder.has_reward_model:
        course = reward_model.learn(context, PREFERENCES)
        if not course.is_whole:
            _stopped_while_judging(context, course)
            return
        remove_first_stage_checkpoints(run_folder)
    try:
        _learn_from_rewards(context, None, REWARDS, began)
    except StopRequested:
        if context.checkpoint is not None and context.checkpoint.stage == REWARDS.number:
            raise
        _stopped_between(context)


def build(
    loaded: Any,
    prompts: PromptDataset,
    judge: ModelReward | RuleReward,
    *,
    job: Job,
    layout: GenerationBatching,
) -> Any:
    """Return RLOO's or GRPO's trainer with the adapter on the model."""
    held_out = prompts.eval
    kind: Any = Rloo if job.config.trainer.rlhf_algorithm == "rloo" else Grpo
    trainer = kind(
        model=loaded.model,
        reward_funcs=[judge],
        args=arguments(job, layout, len(prompts.train), evaluates=held_out is not None),
        train_dataset=prompts.train,
        eval_dataset=held_out,
        processing_class=loaded.tokenizer,
        peft_config=lora_config(job.config, job.plan),
    )
    return prepare_trainer(trainer, job.config, job.plan)


def arguments(job: Job, layout: GenerationBatching, prompts: int, *, evaluates: bool) -> Any:
    """Return the settings as TRL takes them, with batches that keep a prompt's answers together.

    The best checkpoint is the one with the highest reward on held-out prompts, one answer each.
    """
    config, own = job.config, job.config.trainer
    settings = shared(config, job.plan, job.run.checkpoints, evaluates=evaluates)
    settings |= {
        "gradient_accumulation_steps": layout.accumulation,
        "per_device_eval_batch_size": _checked_at_once(job, layout),
        **within(settings, _updates(job, layout, prompts)),
        "eval_on_start": evaluates,
        "metric_for_best_model": "eval_reward" if evaluates else None,
        "greater_is_better": True if evaluates else None,
        # Its sampler puts the answers to one prompt together; grouping by length is not for it.
        "train_sampling_strategy": "random",
    }
    answering = {
        "beta": own.kl_beta,
        "num_generations": own.num_generations,
        "num_generations_eval": 1,
        "max_completion_length": own.max_completion_length,
        "temperature": own.generation_temperature,
        "generation_kwargs": {"use_cache": True},
        # With dropout the same answer is likely at one moment and unlikely at the next, which
        # these methods take for a change of the model.
        "disable_dropout": True,
        "model_init_kwargs": _reference(job),
    }
    kind: Any = RLOOConfig if own.rlhf_algorithm == "rloo" else GRPOConfig
    return kind(**settings, **answering)


def _learn_from_rewards(
    context: WorkerContext, rule: Rule | None, stage: Stage | None, began: float
) -> None:
    job, trainer_settings = context.job, context.job.config.trainer
    judge: ModelReward | RuleReward
    if rule is not None:
        judge = RuleReward(trainer_settings.reward, rule)
    elif stage is None:
        judge = reward_model.load_named(context, str(trainer_settings.reward_model))
    else:
        judge = reward_model.load_trained(context)
    loaded = context.load("causal")
    prompts = _prompts(context, loaded)
    layout = _layout(context, len(prompts.train))
    context.stop.check()
    set_seed(trainer_settings.seed)
    trainer = build(loaded, prompts, judge, job=job, layout=layout)
    answers = CompletionLog(context.log, stage.number if stage else None)
    trainer.answers = answers
    trainer.add_callback(answers)
    watch(trainer.accelerator.unwrap_model(trainer.model), context.stop)
    facts = _facts(prompts, layout)
    course = loop.train(context, trainer, facts, stage, {"answers": answers})
    if isinstance(rule, Pattern) and rule.slow:
        text = f"{rule.slow:,} answers took too long to search for the pattern and were worth 0."
        context.log.note("pattern-slow", text)
    if course.step == 0 and stage is not None:
        raise StopRequested
    if course.is_whole and prompts.eval is not None:
        _tell_scores(context, answers, course, len(prompts.eval))
    loop.close(context, trainer, course, began)


def _prompts(context: WorkerContext, loaded: Any) -> PromptDataset:
    job, config = context.job, context.job.config
    dialect = loop.chat_template_for(context, loaded)
    manner = TokenizeOptions.from_plan(config, job.plan)
    order = dataset.DatasetRequest(job.dataset, config.eval_split, config.trainer.seed, manner)
    progress = loop.tokenize_progress(context)
    prompts = build_prompts(
        dataset.iter_split_rows(order, progress),
        dialect,
        PromptLimits(job.plan.max_length, config.trainer.max_completion_length),
        wants_answer=config.trainer.reward == "exact-match",
        max_eval_prompts=config.evaluation.generated_rows,
    )
    for code, text in (*dialect.notes, *prompts.notes):
        context.log.note(code, text)
    return prompts


def _layout(context: WorkerContext, prompts: int) -> GenerationBatching:
    config = context.job.config
    batch, asked = config.per_device_train_batch_size, config.gradient_accumulation_steps
    layout = generation_batching(batch, asked, config.trainer.num_generations, prompts)
    if layout.accumulation != asked:
        text = (
            f"Accumulation is {layout.accumulation} instead of {asked}, so that an update holds "
            f"all {layout.generations} answers to each of its prompts, and no more prompts than "
            f"there are."
        )
        context.log.note("batch-laid-out", text)
    return layout


def _updates(job: Job, layout: GenerationBatching, prompts: int) -> int:
    if job.config.max_steps > 0:
        return job.config.max_steps
    return max(1, layout.steps(prompts)) * job.config.num_train_epochs


def _checked_at_once(job: Job, layout: GenerationBatching) -> int:
    config = job.config
    if "per_device_eval_batch_size" in config.model_fields_set:
        return config.per_device_eval_batch_size
    return max(config.per_device_eval_batch_size, min(layout.completions, CHECKED_AT_ONCE))


def _reference(job: Job) -> dict[str, Any] | None:
    """Return how the start model is loaded once more; with an adapter it is there already."""
    plan = job.plan
    if plan.trains == "adapter":
        return None
    dtype = DTYPES.get(plan.precision, "float32")
    return {"dtype": dtype, "use_safetensors": True, "revision": plan.model_revision}


def _facts(prompts: PromptDataset, layout: GenerationBatching) -> dict[str, Any]:
    return {
        "train_rows": len(prompts.train),
        "eval_rows": len(prompts.eval) if prompts.eval is not None else 0,
        "all_tokens": prompts.tokens,
        "truncated_rows": 0,
        "steps_per_epoch": max(1, layout.steps(len(prompts.train))),
        "prompts_per_update": layout.prompts,
        "answers_per_update": layout.completions,
    }


def _tell_scores(
    context: WorkerContext, answers: CompletionLog, course: TrainingProgress, count: int
) -> None:
    """Tell the reward on held-out prompts before the first update, and of what is kept."""
    kept = course.best_step if course.best_step is not None else course.checked_step
    after = answers.checks.get(kept) if kept else None
    before = answers.checks.get(0)
    if after is not None:
        told = None if before is None else {"reward": before}
        context.log.scores(ScoresEvent(rows=count, before=told, after={"reward": after}))


def _stopped_while_judging(context: WorkerContext, course: TrainingProgress) -> None:
    run, log = context.job.run, context.log
    kept = ""
    if context.stop.mode == "discard" or course.step == 0:
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    elif listed(run):
        kept = "; it can go on from here"
    log.say(
        f"Stopped at update {course.step:,} of the first stage, which only learns to judge; "
        f"there is nothing to chat with{kept}."
    )
    log.end(StoppedEvent(step=course.step, kept=False, stage=PREFERENCES.number))


def _stopped_between(context: WorkerContext) -> None:
    """End before the first update of the second stage; the reward model stays unless unwanted."""
    run, log = context.job.run, context.log
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    if context.stop.mode == "discard":
        shutil.rmtree(run.reward_model, ignore_errors=True)
        log.say("Stopped before the second stage; nothing is kept.")
    else:
        log.say(
            "Stopped before the second stage; there is nothing to chat with. The reward model is "
            "kept in the run's folder, and the run can go on from it."
        )
    log.end(StoppedEvent(step=0, kept=False, stage=REWARDS.number))
