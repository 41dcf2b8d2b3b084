"""The model that a training from nothing begins with: random weights and a tokenizer, on disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from modelforge.config.pretraining.settings import shape_of
from modelforge.data.chat_templates import CHATML, template_text
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError, first_line
from modelforge.modeling.pretraining.build import SpecialIds, build_model, take_embeddings
from modelforge.modeling.pretraining.tokenizer import train_tokenizer
from modelforge.modeling.tokenize.template import end_of_turn
from modelforge.modeling.tokenizer_files import open_tokenizer
from modelforge.train.job import Job, WorkerContext
from modelforge.train.pretraining.corpus import document_token, documents, with_progress


def start_model(context: WorkerContext) -> Path:
    """Return the folder of the start model; it is made where it is missing.

    A run that resumes from a checkpoint of another run takes the start model of that run, whose
    tokenizer its weights belong to.
    """
    run = context.job.run
    if run.start_model.is_dir():
        return run.start_model
    staged = run.start_model_staged
    shutil.rmtree(staged, ignore_errors=True)
    source = _folder_of_source(context)
    if source is not None:
        shutil.copytree(source, staged)
    else:
        staged.mkdir()
        _make(context, staged)
    staged.rename(run.start_model)
    return run.start_model


def _folder_of_source(context: WorkerContext) -> Path | None:
    """Return the start model of the run whose checkpoint is continued, else the checkpoint."""
    if context.checkpoint is None:
        return None
    resumed = context.job.plan.resume_from
    start = Path(resumed).parent.parent / context.job.run.start_model.name if resumed else None
    return start if start is not None and start.is_dir() else context.checkpoint.path


def _make(context: WorkerContext, folder: Path) -> None:
    """Write a model of random weights with its tokenizer."""
    job = context.job
    group, plan = job.config.pretraining, job.plan
    tokenizer = _trained(context) if group.trains_tokenizer else _borrowed(job)
    context.stop.check()
    context.log.phase("loading", "Making the model")
    model = build_model(
        shape_of(group, context=plan.max_length, vocab_size=vocabulary(tokenizer)),
        special_ids(tokenizer),
        seed=job.config.trainer.seed,
        zero_projections=group.init_projections_to_zero,
        rope_theta=group.rope_theta,
        dropout=group.dropout,
    )
    if group.freeze_embeddings and group.embedding_adapter_dim is None:
        take_embeddings(model, Path(plan.tokenizer_path or group.tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    generation_config(tokenizer).save_pretrained(folder)


def vocabulary(tokenizer: Any) -> int:
    """Return the rows that an embedding needs for the ids of a tokenizer."""
    return max(tokenizer.get_vocab().values()) + 1


def special_ids(tokenizer: Any) -> SpecialIds:
    """Return the ids of the document token, the end of a turn, and padding."""
    document = document_token(tokenizer)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else document
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    return SpecialIds(bos=document, eos=int(end), pad=int(pad))


def generation_config(tokenizer: Any) -> GenerationConfig:
    """Return how the model generates: it ends at the document token and at the end of a turn."""
    special = special_ids(tokenizer)
    stops = {special.bos, special.eos}
    if tokenizer.chat_template and (end := end_of_turn(tokenizer)) is not None:
        stops.add(end)
    return GenerationConfig(
        bos_token_id=special.bos, eos_token_id=sorted(stops), pad_token_id=special.pad
    )


def _trained(context: WorkerContext) -> Any:
    """Return a tokenizer that is trained on the documents to train on."""
    job = context.job
    texts = with_progress(context, documents(job, held_out=False), "Training the tokenizer")
    return train_tokenizer(
        texts,
        job.config.pretraining.vocab_size,
        context=job.plan.max_length,
        chat_template=str(template_text(job.config.model.chat_template or CHATML)),
    )


def _borrowed(job: Job) -> Any:
    """Return the tokenizer of another model, for the context of this one."""
    source = job.plan.tokenizer_path or job.config.pretraining.tokenizer
    try:
        tokenizer = open_tokenizer(source)
    except (OSError, ValueError, KeyError, ImportError) as error:
        what = f"The tokenizer of {source} cannot be read: {first_line(error)}"
        remedy = "Choose another model, or train a tokenizer on your text (train)."
        problem = Problem("pretraining.tokenizer", what, remedy)
        raise WorkerError("tokenizer-unreadable", problem) from error
    tokenizer.model_max_length = job.plan.max_length
    return tokenizer
