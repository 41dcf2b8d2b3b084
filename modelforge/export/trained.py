"""Load the trained model, and what was exported, for the self-test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from modelforge.config.methods import Head
from modelforge.errors import Problem, RunError
from modelforge.export.job import Job
from modelforge.modeling.errors import first_line
from modelforge.modeling.generation_config import FILE, load_generation_config
from modelforge.modeling.providers.huggingface import AUTO_CLASSES, GENERATING


def load_model(folder: Path, head: Head, device: str = "cpu") -> Any:
    """Return the model in a folder, in the precision of its files."""
    arguments: dict[str, Any] = {}
    if head in GENERATING:
        generation, _notes = load_generation_config(
            str(folder), revision=None, local_files_only=True
        )
        arguments["generation_config"] = generation
    model = AUTO_CLASSES[head].from_pretrained(
        folder,
        dtype="auto",
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        **arguments,
    )
    # A quantized model is on its device already.
    return model.eval() if getattr(model, "is_quantized", False) else model.to(device).eval()


def add_adapter(model: Any, adapter: Path) -> Any:
    """Return the model with an adapter; raises RunError if they do not fit."""
    try:
        return PeftModel.from_pretrained(model, adapter).eval()
    except (RuntimeError, ValueError, KeyError) as error:
        what = f"The adapter does not fit the base model: {first_line(error)}"
        remedy = "Choose the model that it was trained on."
        raise RunError(Problem("adapter", what, remedy)) from error


@contextmanager
def trained_model(job: Job, adapter: Path | None) -> Iterator[Any]:
    """Give the base model with an adapter, or the fully trained model; free it afterwards."""
    model = load_model(job.source, job.head, job.device)
    if adapter is not None:
        model = add_adapter(model, adapter)
    if job.head in GENERATING and (job.run.output / FILE).is_file():
        # The training has set the tokens at which answers end.
        model.generation_config, _notes = load_generation_config(
            str(job.run.output), revision=None, local_files_only=True
        )
    try:
        yield model
    finally:
        del model
        gc.collect()
        if job.device == "cuda":
            torch.cuda.empty_cache()
