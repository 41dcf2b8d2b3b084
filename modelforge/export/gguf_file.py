"""A GGUF file of the whole model, for llama.cpp and the programs that are built on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelforge.export.gguf import convert
from modelforge.export.job import Job
from modelforge.export.merged import weights_folder
from modelforge.runs.jobs import StepWriter


def file_name(job: Job) -> str:
    """Return the name of the file: the run and the quantization."""
    return f"{job.record.stem}-{job.request.quantization.upper()}.gguf"


def write(job: Job, target: Path, steps: StepWriter) -> None:
    """Write the file into `target`."""
    folder = weights_folder(job, steps)
    name = file_name(job)
    steps.begin("gguf", f"Writing {name}")
    request = job.request
    convert.write(folder, target / name, request.quantization, job.record.run_name, steps.share)
    # Only the file is compared with the trained model.
    shutil.rmtree(job.work / "merged", ignore_errors=True)
