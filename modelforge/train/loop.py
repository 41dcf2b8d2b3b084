"""The training itself, and what becomes of it: finished, or stopped and kept or not."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from modelforge.data.chat_templates import template_text
from modelforge.errors import ForgeError
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate, load_chat_template, stop_ids_of
from modelforge.runs.layout import RunFolder
from modelforge.train import save
from modelforge.train.callbacks import monitors, trackers
from modelforge.train.callbacks.gpu_limits import Ceilings, card_meter, ceilings_of
from modelforge.train.callbacks.reporter import Course, Reporter
from modelforge.train.callbacks.system_stats import Pulse
from modelforge.train.event_log import Teller
from modelforge.train.generate import GenerationEvaluator
from modelforge.train.job import Job, Work
from modelforge.train.stop import StopAsked
from modelforge.train.trainer import batch_size
from modelforge.train.trainer.checkpointing import Part, Terms
from modelforge.train.trainer.oom_recovery import live_with_memory, why_it_ends
from modelforge.train.trial_run import run as rehearsing


@dataclass(frozen=True)
class Stage:
    """One of several trainings of a run: its number from 1, how many there are, and its name."""

    number: int
    of: int
    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the plan event says of it."""
        return {"stage": self.number, "stages": self.of, "stage_name": self.name}


def speak(work: Work, loaded: Any, generation: Any = None) -> ChatTemplate:
    """Return how turns become text for this model, and teach it where its answers end.

    `generation` is the generation config of a model that has none of its own: one that judges.
    """
    config = work.job.config
    generation = generation or loaded.model.generation_config
    dialect = load_chat_template(
        loaded.tokenizer,
        stop_ids_of(generation),
        template=template_text(config.model.chat_template),
        system_prompt=config.model.system_prompt,
    )
    generation.eos_token_id = sorted(dialect.stop_ids)
    return dialect


def tokenize(work: Work, dialect: ChatTemplate) -> dataset.Tokenized:
    """Turn the data into tokens."""
    job, teller = work.job, work.teller
    config = job.config
    manner = TokenizeOptions.from_plan(config, job.plan)
    keep = config.evaluation.generated_rows if config.task != "text-generation" else 0
    order = dataset.DatasetRequest(
        job.dataset, config.eval_split, config.trainer.seed, manner, keep
    )
    tokenized = dataset.tokenize(order, dialect, tokenizing(work))
    for code, text in (*dialect.notes, *tokenized.notes):
        teller.note(code, text)
    return tokenized


def tokenizing(work: Work) -> Callable[[int, int], None]:
    """Tell that rows become tokens, and which files have changed; return what hears how far."""
    teller, text = work.teller, "Turning the rows into tokens"
    teller.phase("tokenizing", text)
    for name in dataset.changed_files(work.job.dataset):
        teller.note("data-changed", f"{name} has changed since the run was checked.")

    def progress(done: int, total: int) -> None:
        work.stop.check()
        teller.phase("tokenizing", text, done=done, total=total)

    return progress


def learn(
    work: Work, trainer: Any, facts: dict[str, Any], score: Callable[[], None] | None = None
) -> None:
    """Train, save what is to be kept, and tell how it ended: the whole of a run of one stage.

    `score` tells in between what the answers of the trained model are worth.
    """
    began = time.monotonic()
    answers = score if isinstance(score, GenerationEvaluator) else None
    course = train(work, trainer, facts, answers=answers)
    if course.is_whole and score is not None:
        _scored(work, course, score)
    close(work, trainer, course, began)


def _scored(work: Work, course: Course, score: Callable[[], None]) -> None:
    """Score, and lose nothing that was learned if that is stopped or fails."""
    try:
        score()
    except StopAsked:
        course.is_whole = work.stop.wish != "discard"
    except (RuntimeError, ValueError) as error:  # out of memory is one of these
        first = str(error).strip().split("\n", 1)[0]
        work.teller.note("not-scored", f"The held-out rows could not be answered: {first}")


def train(
    work: Work,
    trainer: Any,
    facts: dict[str, Any],
    stage: Stage | None = None,
    parts: dict[str, Part] | None = None,
    answers: GenerationEvaluator | None = None,
) -> Course:
    """Train and return how far it came; `course.is_whole` is false when it was stopped.

    `facts` are what the plan event says besides the number of updates; `parts` have a state that
    belongs to a checkpoint. `answers` follow, of which a rehearsal tries a few.
    """
    job = work.job
    number = stage.number if stage else None
    found = work.checkpoint
    begun = str(found.path) if found is not None and found.stage == number else None
    sized = batch_size.settle(work, trainer, Path(begun) if begun else None)
    told = plan_facts(job, trainer) | facts | (stage.facts if stage else {})
    if job.is_rehearsal:
        made = rehearsing.rehearse(work, trainer, told, answers)
        return Course(step=made, checked_step=made, is_whole=True)
    reporter = Reporter(work.teller, work.stop, Pulse(job.plan.device), told, number)
    trainer.add_callback(reporter)
    living = live_with_memory(trainer, work.teller.adjusted) if _goes_on(work) else {}
    _keep(work, trainer, number, {"reporter": reporter, **(parts or {}), **living, **sized})
    course = reporter.course
    _attach(work, trainer, reporter, stage)
    try:
        trainer.train(resume_from_checkpoint=begun)
        course.is_whole = course.is_early or course.step >= trainer.state.max_steps
    except StopAsked:
        course.is_whole = False
    except (RuntimeError, MemoryError) as error:
        why = why_it_ends(trainer, error) if _goes_on(work) else None
        if why is not None:
            work.teller.note(*why)
        raise
    _settle(work, trainer, course)
    return course


def _keep(work: Work, trainer: Any, stage: int | None, states: dict[str, Part]) -> None:
    """Have the trainer keep checkpoints as the settings say."""
    job, note = work.job, work.teller.note
    limit = job.config.trainer.save_total_limit
    trainer.keep_checkpoints(Terms(job.run, limit, stage, note, states))


def _settle(work: Work, trainer: Any, course: Course) -> None:
    """Save where it was stopped, and see to it that what is best is what is told."""
    keeps_best = work.job.config.evaluation.keep_best
    if course.step and work.stop.wish == "keep" and not trainer.is_saved:
        _save_place(work, trainer)
        if course.is_whole and keeps_best:
            take_best(trainer)  # the wish came with the last update, and kept it from being taken
    if trainer.best_is_lost or not keeps_best:
        # It is the newest weights that are kept.
        course.best_step, course.best_loss = None, course.eval_loss


def _goes_on(work: Work) -> bool:
    return work.job.config.memory.autopilot


def _save_place(work: Work, trainer: Any) -> None:
    """Save where the run was stopped; if that fails, its output is still to be saved."""
    work.teller.phase("saving", "Saving a checkpoint")
    try:
        trainer.save_now()
    except (OSError, RuntimeError, SafetensorError, ForgeError) as error:
        first = str(error).strip().split("\n", 1)[0]
        text = f"No checkpoint could be saved, so the run cannot go on from here: {first}"
        work.teller.note("not-saved", text)


def _attach(work: Work, trainer: Any, reporter: Reporter, stage: Stage | None) -> None:
    """Add all that watches a training beside the reporter."""
    job = work.job
    watch_ceilings(work, trainer, reporter)
    monitors.attach(trainer, job.config, work.teller, reporter.course)
    name = f"{job.name} {stage.name}" if stage is not None else job.name
    trackers.attach(trainer, job.config, job.run, work.teller, name)


def watch_ceilings(work: Work, trainer: Any, reporter: Reporter) -> None:
    """Let the training pause while the GPU is above what the settings allow."""
    if work.job.plan.device != "cuda":
        return
    ceilings = ceilings_of(work.job.config.hardware, card_meter())
    if ceilings:
        trainer.add_callback(Ceilings(ceilings, work.teller, work.stop, reporter.went_on))


def close(work: Work, trainer: Any, course: Course, began: float) -> None:
    """Save what is to be kept and tell how the run ended."""
    job, teller = work.job, work.teller
    if not course.is_whole:
        _end_early(work, trainer, course)
        return
    _save(job, trainer, course, teller)
    teller.say(f"Finished after {course.step:,} updates.")
    teller.end(
        "finished",
        steps=course.step,
        seconds=round(time.monotonic() - began, 1),
        output=job.run.output.name,
        loss=course.loss,
        eval_loss=course.best_loss,
        best_step=course.best_step,
    )


def abandon(run: RunFolder, teller: Teller, *, step: int = 0) -> None:
    """Tell that the run was stopped and nothing of it is kept; its checkpoints go.

    So does what it had left when it was stopped earlier, before it went on.
    """
    for folder in (run.checkpoints, run.output):
        shutil.rmtree(folder, ignore_errors=True)
    teller.say(f"Stopped at update {step:,}; nothing is kept.")
    teller.end("stopped", step=step, kept=False, best_step=None)


def take_best(trainer: Any) -> None:
    """Put the weights of the best checkpoint back into the model, if one was saved."""
    if trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def _end_early(work: Work, trainer: Any, course: Course) -> None:
    job, teller = work.job, work.teller
    if work.stop.wish == "discard" or course.step == 0:
        abandon(job.run, teller, step=course.step)
        return
    # While the held-out loss still falls the newest weights are the best; after that, those of
    # the check that was best.
    best_step = None if course.best_step == course.checked_step else course.best_step
    if best_step is not None:
        take_best(trainer)
    _save(job, trainer, course, teller)
    teller.say(f"Stopped at update {course.step:,}; what it has learned is kept.")
    teller.end("stopped", step=course.step, kept=True, best_step=best_step)


def _save(job: Job, trainer: Any, course: Course, teller: Teller) -> None:
    teller.phase("saving", "Saving the adapter" if job.plan.trains == "adapter" else "Saving")
    save.save(job.run, trainer.model, trainer.processing_class, name=job.name, steps=course.step)


def tell_best_metrics(work: Work, trainer: Any, rows: int, names: Sequence[str]) -> None:
    """Tell what the weights that are kept scored at their evaluation."""
    best = trainer.state.best_global_step
    told = [log for log in trainer.state.log_history if f"eval_{names[0]}" in log]
    if not told:
        return
    chosen = next((log for log in told if log["step"] == best), told[-1])
    work.teller.scores(rows=rows, after={name: chosen[f"eval_{name}"] for name in names})


def token_facts(tokenized: dataset.Tokenized) -> dict[str, Any]:
    """Return what the plan event says of rows and tokens."""
    return {
        "train_rows": len(tokenized.train),
        "eval_rows": len(tokenized.eval) if tokenized.eval is not None else 0,
        "trained_tokens": tokenized.trained_tokens,
        "all_tokens": tokenized.all_tokens,
        "truncated_rows": tokenized.truncated_rows,
    }


def plan_facts(job: Job, trainer: Any) -> dict[str, Any]:
    """Return what the plan event says of the model and the machine."""
    plan = job.plan
    sizes = [(each.numel(), each.requires_grad) for each in trainer.model.parameters()]
    if hasattr(trainer.model, "get_nb_trainable_parameters"):
        trainable, total = trainer.model.get_nb_trainable_parameters()
    else:
        trainable = sum(size for size, learns in sizes if learns)
        total = sum(size for size, _ in sizes)
    args = trainer.args
    batches = math.ceil(len(trainer.train_dataset) / args.per_device_train_batch_size)
    return {
        "steps_per_epoch": math.ceil(batches / args.gradient_accumulation_steps),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "max_length": plan.max_length,
        "device": plan.device,
        "precision": plan.precision,
        "quantization": plan.quantization,
        "method": plan.method,
    }
