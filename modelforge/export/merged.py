"""The merged model: a folder that transformers, vLLM and llama.cpp's converter take."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import AutoConfig

from modelforge.export.job import Job
from modelforge.modeling.merging.model import MergeSource, write_merged
from modelforge.modeling.merging.old_names import write_old_names
from modelforge.modeling.merging.weights import WeightPrecision
from modelforge.runs.jobs import StepWriter

# Files of a trained model that are not copied: they describe the run's own folder.
_LEFT_OUT = ("README.md",)


def write(
    job: Job, target: Path, steps: StepWriter, *, precision: WeightPrecision | None = None
) -> None:
    """Write weights, config, tokenizer and generation config into `target`.

    A fully trained model is copied in the precision that it was saved in. `precision` is that of
    `merge`, if it is not the one of the request.
    """
    adapter = job.adapter_folder(steps)
    if adapter is None:
        steps.begin("copy", "Copying the trained model")
        _copy(job.run.output, target, steps)
        return
    steps.begin("merge", f"Merging the adapter into {job.base_name}")
    source = MergeSource(job.source, adapter, job.run.output, job.plan)
    write_merged(source, target, steps.share, precision or job.request.precision)


def weights_folder(job: Job, steps: StepWriter) -> Path:
    """Return a folder with the whole model, merged into the job's temporary folder if needed.

    Merged weights are more precise there than in an export: they are encoded again for GGUF.
    """
    if not job.adapters:
        return job.run.output
    folder = job.work / "merged"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        write(job, folder, steps, precision="float16")
    return folder


def _copy(source: Path, target: Path, steps: StepWriter) -> None:
    files = [path for path in source.iterdir() if path.is_file() and path.name not in _LEFT_OUT]
    total, done = sum(path.stat().st_size for path in files) or 1, 0
    for path in files:
        shutil.copyfile(path, target / path.name)
        done += path.stat().st_size
        steps.share(done / total)
    # Training leaves the cache off in some configs, and generation needs it.
    config = AutoConfig.from_pretrained(target, trust_remote_code=False)
    if getattr(config, "use_cache", True) is False:
        config.use_cache = True
        config.save_pretrained(target)
    write_old_names(target)
