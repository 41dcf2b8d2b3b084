"""The adapter, or the fully trained model, as PEFT and Transformers load it anywhere."""

from __future__ import annotations

from pathlib import Path

from modelforge.export.job import Job
from modelforge.runs.exports import StepWriter
from modelforge.runs.portable.base_model import base_model_of
from modelforge.runs.portable.files import own_files, write_files


def write(job: Job, target: Path, steps: StepWriter) -> None:
    """Write the adapter, or the model of a run that trained all weights, into `target`.

    Raises:
        RunError: Adapters cannot be combined.
    """
    folder = job.adapter_folder(steps)
    steps.begin("write", "Writing the adapter" if job.adapters else "Writing the model")
    files = own_files(job.run, base_model_of(job.plan, job.base), folder)
    write_files(files, target, steps.share)
