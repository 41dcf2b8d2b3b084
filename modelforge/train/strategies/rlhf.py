"""Online training with RLOO or GRPO, with a rule or a reward model.

Unless a rule or a reward model is configured, a first stage trains the reward model on the run's
pairs. It is saved in the run folder, so a run can be stopped and resumed between the stages.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, set_seed
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from modelforge.config.plan.training import (
    GenerationBatching,
    effective_eval_batch_size,
    generation_batching,
)
from modelforge.modeling.adapters.lora import lora_config
from modelforge.modeling.generation_config import generation_config_of
from modelforge.modeling.reward_rules import PatternRule, Rule, make_rule
from modelforge.modeling.rope import scaled_config
from modelforge.modeling.tokenize.prompts import PromptDataset, build_prompts, max_prompt_length
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.modeling.tokenizer_files import open_tokenizer
from modelforge.runs.checkpoints import list_checkpoints
from modelforge.runs.event_types import SampleEvent, ScoresEvent, StoppedEvent
from modelforge.runs.layout import RunFolder
from modelforge.train import loop
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.callbacks.samples import sample_base
from modelforge.train.event_log import EventLog
from modelforge.train.finish import finish
from modelforge.train.job import Job, WorkerContext
from modelforge.train.loop import Stage
from modelforge.train.resume import remove_checkpoints_until
from modelforge.train.sample_prompts import rows_of_prompts
from modelforge.train.stop import Stop, StopRequested
from modelforge.train.strategies import reward_model
from modelforge.train.strategies.rewards import DTYPES, Reward, rule_reward
from modelforge.train.trainer.arguments import (
    cap_intervals,
    common_arguments,
    known_steps,
    make_trainer,
)
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.private import OnlineMixin

REWARD_STAGE = Stage(1, 2, "Training the reward model")
POLICY_STAGE = Stage(2, 2, "Training with rewards")
# Completions per evaluation batch unless configured: more would need the memory of a larger batch.
# Seconds between two checks for a stop request while completions are generated.
CHECK_EVERY_S = 0.5
# Samples are reported at least this often in a run, and at most every so many steps.
SAMPLES = 10
SAMPLE_CHARS = 2000


class RlooTrainer(CheckpointMixin, OnlineMixin, RLOOTrainer):
    """TRL's RLOOTrainer with checkpoints and rendered prompts."""


class GrpoTrainer(CheckpointMixin, OnlineMixin, GRPOTrainer):
    """TRL's GRPOTrainer with checkpoints and rendered prompts."""


def run(context: WorkerContext) -> None:
    """Do a whole run: train the reward model if there is none, then the policy."""
    began = time.monotonic()
    config, run_folder = context.job.config, context.job.run
    named = config.trainer.reward_model
    rule = make_rule(config) if config.trainer.reward != "model" else None
    if rule is None and named is not None:
        reward_model.require_reward_model(named)
    if rule is not None or named is not None:
        _train_policy(context, rule, None, began)
        return
    # The second stage must not be refused after the first one has trained.
    prompts = _prompts_before_loading(context)
    if not run_folder.has_reward_model:
        progress = reward_model.train_reward_model(context, REWARD_STAGE)
        if not progress.is_complete:
            _end_in_first_stage(context, progress)
            return
        remove_checkpoints_until(run_folder, REWARD_STAGE.number)
    try:
        _train_policy(context, None, POLICY_STAGE, began, prompts)
    except StopRequested:
        checkpoint = context.checkpoint
        if checkpoint is not None and checkpoint.stage == POLICY_STAGE.number:
            raise
        _end_between_stages(context)
    except Exception:
        context.log.note("reward-model-kept", _how_to_continue(run_folder))
        raise


def training_arguments(
    job: Job, layout: GenerationBatching, prompts: int, *, evaluates: bool
) -> Any:
    """Return the arguments of TRL's trainer, with batches that hold all completions of a prompt.

    The best checkpoint is the one with the highest mean reward of the evaluation prompts, with one
    completion each.
    """
    trainer = job.config.trainer
    arguments = common_arguments(job, evaluates=evaluates)
    arguments |= {
        "gradient_accumulation_steps": layout.accumulation,
        "per_device_eval_batch_size": effective_eval_batch_size(job.config),
        **cap_intervals(arguments, _total_steps(job, layout, prompts)),
        "eval_on_start": evaluates,
        "metric_for_best_model": "eval_reward" if evaluates else None,
        "greater_is_better": True if evaluates else None,
        # TRL's sampler repeats each prompt; it does not group by length.
        "train_sampling_strategy": "random",
        "shuffle_dataset": job.config.data.shuffle,
    }
    online = {
        "beta": trainer.kl_beta,
        "num_generations": trainer.num_generations,
        "num_generations_eval": 1,
        "max_completion_length": job.plan.max_completion_length,
        "temperature": trainer.generation_temperature,
        "generation_kwargs": {"use_cache": True},
        # Dropout would change log-probabilities between two passes, which these methods would
        # take for a change of the policy.
        "disable_dropout": True,
        "model_init_kwargs": _reference_arguments(job),
    }
    kind: Any = RLOOConfig if trainer.rlhf_algorithm == "rloo" else GRPOConfig
    return kind(**arguments, **online)


def _train_policy(
    context: WorkerContext,
    rule: Rule | None,
    stage: Stage | None,
    began: float,
    prompts: PromptDataset | None = None,
) -> None:
    job, settings = context.job, context.job.config.trainer
    reward = _load_reward(context, rule, stage)
    loaded = context.load("causal")
    template = loop.chat_template_for(context, loaded.tokenizer, loaded.model.generation_config)
    prompts = prompts or _prompts(context, template)
    layout = _layout(context, len(prompts.train))
    context.stop.check()
    number, rows = stage.number if stage else None, rows_of_prompts(prompts.eval or ())
    sampler = sample_base(context, loaded.model, rows, template, number)
    set_seed(settings.seed)
    trainer = make_trainer(
        RlooTrainer if settings.rlhf_algorithm == "rloo" else GrpoTrainer,
        job,
        loaded,
        prompts,
        training_arguments(job, layout, len(prompts.train), evaluates=prompts.eval is not None),
        reward_funcs=[reward],
        peft_config=lora_config(job.config, job.plan),
    )
    completions = CompletionLog(context.log, number)
    trainer.completion_log = completions
    trainer.add_callback(completions)
    stop_while_generating(trainer.accelerator.unwrap_model(trainer.model), context.stop)
    facts = _plan_facts(prompts, layout)
    progress = loop.train(context, trainer, facts, stage, {"answers": completions}, sampler=sampler)
    if isinstance(rule, PatternRule) and rule.timeouts:
        text = f"The pattern search timed out on {rule.timeouts:,} completions; their reward is 0."
        context.log.note("pattern-slow", text)
    if progress.step == 0 and stage is not None:
        raise StopRequested
    if progress.is_complete and prompts.eval is not None:
        _report_scores(context, completions, progress, len(prompts.eval))
    finish(context, trainer, progress, began)


def _load_reward(context: WorkerContext, rule: Rule | None, stage: Stage | None) -> Reward:
    settings = context.job.config.trainer
    if rule is not None:
        return rule_reward(settings.reward, rule)
    if stage is None:
        return reward_model.load_named(context, str(settings.reward_model))
    return reward_model.load_trained(context)


def _prompts_before_loading(context: WorkerContext) -> PromptDataset:
    """Return the prompts of the second stage, which refuses unusable ones before the first."""
    plan = context.job.plan
    tokenizer = open_tokenizer(
        plan.model_path,
        revision=plan.model_revision,
        local_files_only=Path(plan.model_path).is_dir(),
    )
    generation, _notes = generation_config_of(plan)
    return _prompts(context, loop.chat_template_for(context, tokenizer, generation))


def _how_to_continue(run: RunFolder) -> str:
    return (
        "The reward model of the first stage is kept. Resume the run to train with it, or start "
        f"another one with its folder as trainer.reward_model: {run.reward_model}"
    )


def _prompts(context: WorkerContext, template: ChatTemplate) -> PromptDataset:
    job, config = context.job, context.job.config
    prompts = build_prompts(
        loop.iter_split_rows(context),
        template,
        max_prompt_length(job.plan.max_length, job.plan.max_completion_length),
        wants_answer=config.trainer.reward == "exact-match",
        max_eval_prompts=config.evaluation.generated_rows,
    )
    for code, text in (*template.notes, *prompts.notes):
        context.log.note(code, text)
    return prompts


def _layout(context: WorkerContext, prompts: int) -> GenerationBatching:
    config = context.job.config
    batch, configured = config.per_device_train_batch_size, config.gradient_accumulation_steps
    layout = generation_batching(batch, configured, config.trainer.num_generations, prompts)
    if layout.accumulation != configured:
        text = (
            f"Gradient accumulation is {layout.accumulation} instead of {configured}, so that a "
            f"step holds all {layout.generations} completions of each of its prompts, and not "
            "more prompts than the dataset."
        )
        context.log.note("batch-laid-out", text)
    return layout


def _total_steps(job: Job, layout: GenerationBatching, prompts: int) -> int:
    return known_steps(job, max(1, layout.steps(prompts)) * job.config.num_train_epochs)


def _reference_arguments(job: Job) -> dict[str, Any] | None:
    """Return how TRL loads the reference model; None with an adapter, which needs no copy."""
    plan = job.plan
    if plan.trains == "adapter":
        return None
    dtype = DTYPES.get(plan.precision, "float32")
    arguments = {"dtype": dtype, "use_safetensors": True, "revision": plan.model_revision}
    scaled = scaled_config(plan.model_path, plan, revision=plan.model_revision)
    return arguments if scaled is None else {**arguments, "config": scaled}


def _plan_facts(prompts: PromptDataset, layout: GenerationBatching) -> dict[str, Any]:
    return {
        "train_rows": len(prompts.train),
        "eval_rows": len(prompts.eval) if prompts.eval is not None else 0,
        "all_tokens": prompts.tokens,
        "truncated_rows": 0,
        "steps_per_epoch": max(1, layout.steps(len(prompts.train))),
        "prompts_per_update": layout.prompts,
        "answers_per_update": layout.completions,
    }


def _report_scores(
    context: WorkerContext, completions: CompletionLog, progress: TrainingProgress, rows: int
) -> None:
    """Report the mean evaluation reward before the first step and of the saved weights."""
    kept = progress.best_step if progress.best_step is not None else progress.eval_step
    after = completions.evaluations.get(kept) if kept else None
    before = completions.evaluations.get(0)
    if after is not None:
        scores = None if before is None else {"reward": before}
        context.log.write(ScoresEvent(rows=rows, before=scores, after={"reward": after}))


def _end_in_first_stage(context: WorkerContext, progress: TrainingProgress) -> None:
    run, resumable = context.job.run, ""
    if context.stop.mode == "discard" or progress.step == 0:
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    elif list_checkpoints(run):
        resumable = "; the run can be resumed"
    text = (
        f"Stopped at step {progress.step:,} of the first stage, which trains the reward model; "
        f"there is no model to chat with{resumable}."
    )
    context.log.end(StoppedEvent(step=progress.step, kept=False, stage=REWARD_STAGE.number), text)


def _end_between_stages(context: WorkerContext) -> None:
    """End before the first step of the second stage; the reward model is kept unless discarded."""
    run = context.job.run
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    if context.stop.mode == "discard":
        shutil.rmtree(run.reward_model, ignore_errors=True)
        text = "Stopped before the second stage; nothing is kept."
    else:
        text = (
            "Stopped before the second stage; there is no model to chat with. The reward model is "
            "kept in the run folder, and the run can be resumed."
        )
    context.log.end(StoppedEvent(step=0, kept=False, stage=POLICY_STAGE.number), text)


class CompletionLog(TrainerCallback):
    """Reports the best and the worst completion of a prompt at intervals, and all evaluations.

    `evaluations` holds the mean reward of the evaluation prompts by step; 0 is before the first.
    """

    def __init__(self, log: EventLog, stage: int | None) -> None:
        self.evaluations: dict[int, float] = {}
        self._log = log
        self._stage = stage
        self._newest: tuple[str, list[tuple[float, str]]] | None = None
        self._sampled_at = 0

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"checks": self.evaluations, "told": self._sampled_at}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.evaluations.update({int(step): reward for step, reward in state["checks"].items()})
        self._sampled_at = state["told"]

    def record(self, prompt: str, completions: list[str], rewards: list[float]) -> None:
        """Keep the newest completions of one prompt, best first."""
        self._newest = prompt, sorted(zip(rewards, completions, strict=True), reverse=True)

    def on_step_end(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Report a sample at the first step, at the last, and at intervals between them."""
        interval = max(1, min(SAMPLES, state.max_steps // SAMPLES))
        step = state.global_step
        is_due = step in (1, state.max_steps) or step - self._sampled_at >= interval
        if self._newest is None or not is_due:
            return
        prompt, ranked = self._newest
        self._newest, self._sampled_at = None, step
        best, worst = ranked[0], ranked[-1]
        for reward, completion in [best] if best[0] == worst[0] else [best, worst]:
            event = SampleEvent(
                step=step,
                prompt=prompt[:SAMPLE_CHARS],
                completion=completion[:SAMPLE_CHARS],
                reward=round(reward, 4),
                stage=self._stage,
            )
            self._log.write(event)

    def on_evaluate(
        self, _args: Any, state: TrainerState, *_rest: Any, metrics: Any, **_kwargs: Any
    ) -> None:
        """Keep the mean reward of the evaluation prompts."""
        if "eval_reward" in metrics:
            self.evaluations[state.global_step] = float(metrics["eval_reward"])


def stop_while_generating(model: Any, stop: Stop) -> None:
    """Check for a stop request at every forward pass: a completion may take minutes on a CPU."""
    checked_at = 0.0

    def check(*_call: Any) -> None:
        nonlocal checked_at
        now = time.monotonic()
        if now - checked_at >= CHECK_EVERY_S:
            checked_at = now
            stop.check()

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.register_forward_pre_hook(check)
