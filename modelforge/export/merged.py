"""The merged model: a folder that transformers, vLLM and llama.cpp's converter take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from modelforge.errors import Problem, RunError
from modelforge.export.job import Job
from modelforge.export.merge import UnknownNamesError, WeightPrecision, merge
from modelforge.export.old_names import write_old_names
from modelforge.modeling.generation_config import FILE, load_generation_config
from modelforge.modeling.providers.huggingface import GENERATING
from modelforge.modeling.rope import scale_rope
from modelforge.modeling.tokenizer_files import FILES
from modelforge.modeling.trained_run import add_adapter, load_model
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
    require_plain(job.source)
    steps.begin("merge", f"Merging the adapter into {job.base_name}")
    _merge(job, adapter, target, steps, precision or job.request.precision)
    write_old_names(target)
    _write_generation_config(job, target)
    _write_tokenizer(job, target)


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


def require_plain(base: Path) -> None:
    """Raise RunError if the weights of a base model are stored quantized."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        what = (
            f"The weights of {base.name} are stored quantized; merging into them loses precision."
        )
        remedy = "Train on the model with 16-bit weights, or export the adapter alone."
        raise RunError(Problem("base model", what, remedy))


def _merge(
    job: Job, adapter: Path, target: Path, steps: StepWriter, precision: WeightPrecision
) -> None:
    if job.head == "causal":
        try:
            merge(
                job.source, adapter, target, steps.share, precision=precision, config=_config(job)
            )
        except UnknownNamesError:
            shutil.rmtree(target)
            target.mkdir()
        else:
            return
    # Files with other names than the model's own, and small models with other heads.
    _merge_whole(job, adapter, target, precision)


def _config(job: Job) -> Any:
    """Return the config of the base model with the rope scaling of the run."""
    return scale_rope(AutoConfig.from_pretrained(job.source, trust_remote_code=False), job.plan)


def _merge_whole(job: Job, adapter: Path, target: Path, precision: WeightPrecision) -> None:
    """Merge with all weights in memory, in float32; write them so, or as precise as the base."""
    model = load_model(job.source, job.head, plan=job.plan)
    stored: torch.dtype = model.dtype
    merged: Any = add_adapter(model.float(), adapter).merge_and_unload(safe_merge=True)
    merged = merged.to(stored) if precision == "base" else merged
    merged.save_pretrained(target, safe_serialization=True)


def _write_generation_config(job: Job, target: Path) -> None:
    """Write the generation config of the run, whose stop tokens were set by the training."""
    if job.head not in GENERATING:
        return
    has_own = (job.run.output / FILE).is_file()
    source = str(job.run.output if has_own else job.source)
    generation, _notes = load_generation_config(source, revision=None, local_files_only=True)
    generation.save_pretrained(target)


def _write_tokenizer(job: Job, target: Path) -> None:
    """Copy the tokenizer of the run; one without a chat template gets that of the training."""
    source, tokenizer = job.tokenizer_folder, job.tokenizer()
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    has_template = any((target / name).is_file() for name in ("chat_template.jinja",))
    if tokenizer.chat_template and not has_template:
        tokenizer.save_pretrained(target)


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
