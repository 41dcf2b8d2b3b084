"""The adapter, or the fully trained model, as PEFT and Transformers load it anywhere.

Also the files beside the weights of every export: model card and identity of the base model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelforge.export.job import Job
from modelforge.runs.jobs import StepWriter
from modelforge.runs.portable.base_model import base_model_of
from modelforge.runs.portable.files import own_files, side_files, write_files
from modelforge.runs.portable.model_card import Form


def write(job: Job, target: Path, steps: StepWriter) -> None:
    """Write the adapter, or the model of a run that trained all weights, into `target`.

    Raises:
        RunError: Adapters cannot be combined.
    """
    folder = job.adapter_folder(steps)
    steps.begin("write", "Writing the adapter" if job.adapters else "Writing the model")
    files = own_files(job.run, base_model_of(job.plan, job.base), folder)
    write_files(files, target, steps.share)


def write_card(job: Job, target: Path) -> None:
    """Write the model card and the identity of the base model into the folder of an export."""
    base = base_model_of(job.plan, job.base)
    write_files(side_files(job.run, form_of(job, target), base), target)


def form_of(job: Job, target: Path) -> Form:
    """Return the form of an export for its model card."""
    written = job.request.written
    # A run that trained all weights has nothing to merge.
    kind: Any = "model" if not job.adapters and written in ("adapter", "merged") else written
    several = job.adapters if job.has_several_adapters else ()
    return Form(
        kind=kind,
        file=next((path.name for path in sorted(target.glob("*.gguf"))), ""),
        model=job.record.stem.lower(),
        quantization=job.request.quantization,
        adapters=tuple((part.name, part.weight) for part in several),
        combination=job.request.combination,
    )
