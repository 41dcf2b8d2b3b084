"""The self-test of an export: what was written answers like the model that was trained."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modelforge.export.job import Job
from modelforge.export.other_heads import compare_outputs, outputs_of
from modelforge.export.prompts import held_out
from modelforge.export.self_test import SelfTest, compare_gguf, compare_merged, compare_model
from modelforge.export.trained_answers import answers_of, round_answers
from modelforge.modeling.tokenizer_files import open_tokenizer
from modelforge.modeling.trained_run import add_adapter, load_model, trained_model
from modelforge.runs.exports import IN_GGUF, WITH_PRECISION
from modelforge.runs.jobs import StepWriter

_REFERENCE, _EXPORT = "Self-test: the trained model answers", "Self-test: the export answers"


def self_test(job: Job, folder: Path, steps: StepWriter) -> SelfTest:
    """Compare the export in `folder` with base model and adapter of the run.

    Raises:
        RunError: The trained model cannot be loaded, or its chat template not be rendered.
    """
    tokenizer = job.tokenizer()
    adapter = job.adapter_folder(steps)
    if job.head != "causal":
        return _test_other_head(job, folder, tokenizer, adapter, steps)
    answers_folder = job.work / "answers"
    answers_folder.mkdir(parents=True)
    rows = held_out(job, tokenizer)
    steps.begin("reference", _REFERENCE)
    with _trained(job, adapter) as model:
        answers = answers_of(model, tokenizer, rows, answers_folder, steps.share)
        if adapter is not None and _is_rounded(job):
            answers = round_answers(model, answers)
        del model
    steps.begin("self-test", _EXPORT)
    if job.request.written in IN_GGUF:
        path = next(folder.glob("*.gguf"))
        return compare_gguf(path, job.request.quantization, answers, steps.share)
    if job.request.written == "adapter":
        model, own = _exported(job, folder)
        return compare_model(model, own, answers, steps.share)
    return compare_merged(folder, answers, job.device, steps.share)


def _trained(job: Job, adapter: Path | None) -> AbstractContextManager[Any]:
    return trained_model(job.source, adapter, job.run.output, job.head, job.device, plan=job.plan)


def _is_rounded(job: Job) -> bool:
    """Return whether merged weights are written in the 16 bits of the base model."""
    if job.request.written in IN_GGUF:
        return job.request.quantization == "bf16"
    return job.request.written in WITH_PRECISION and job.request.precision == "base"


def _test_other_head(
    job: Job, folder: Path, tokenizer: Any, adapter: Path | None, steps: StepWriter
) -> SelfTest:
    steps.begin("reference", _REFERENCE)
    with _trained(job, adapter) as model:
        known = outputs_of(model, tokenizer, job.head, steps.share)
        del model
    steps.begin("self-test", _EXPORT)
    return compare_outputs(*_exported(job, folder), job.head, known, steps.share)


def _exported(job: Job, folder: Path) -> tuple[Any, Any]:
    """Load what was written, freshly, with the base model for an adapter; and its tokenizer."""
    has_tokenizer = any(folder.glob("tokenizer*"))
    tokenizer = open_tokenizer(str(folder)) if has_tokenizer else job.tokenizer()
    if job.request.written != "adapter":
        return load_model(folder, job.head, job.device), tokenizer
    model = add_adapter(load_model(job.source, job.head, job.device, plan=job.plan), folder)
    return model, tokenizer
