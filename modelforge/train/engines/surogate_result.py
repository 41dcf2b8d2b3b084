"""What Surogate writes: checkpoints to resume from, and the adapter that becomes the result."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.providers.huggingface import load_tokenizer
from modelforge.modeling.tokenize.template import stop_ids_of, template_of_run
from modelforge.modeling.tokenizer_files import FILES as TOKENIZER_FILES
from modelforge.modeling.tokenizer_files import save_tokenizer
from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import find_json
from modelforge.runs.checkpoints import Checkpoint
from modelforge.runs.layout import RunFolder
from modelforge.train import save
from modelforge.train.engines.surogate_files import EngineFiles
from modelforge.train.job import Job

# Written last into a checkpoint.
CHECKPOINT_DONE = "checkpoint.json"
GENERATION = "generation_config.json"
ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_STEP = re.compile(r"step_(\d{1,12})")
_MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json")


def new_checkpoints(files: EngineFiles, known: set[int]) -> Iterator[tuple[int, Path]]:
    """Yield step and folder of each complete checkpoint that is not known, the oldest first."""
    found = []
    for folder in files.checkpoints.glob("step_*"):
        match = _STEP.fullmatch(folder.name)
        if match and int(match[1]) not in known and find_json(folder / CHECKPOINT_DONE):
            found.append((int(match[1]), folder))
    yield from sorted(found)


def keep_checkpoint(run: RunFolder, folder: Path, step: int, limit: int) -> Path:
    """Register a checkpoint of Surogate as one of the run, which may then resume from it.

    Files are linked where the file system can, so that they take no space twice.
    """
    run.checkpoints.mkdir(exist_ok=True)
    staged = run.checkpoints / f"{checkpoints.STAGED}{step}"
    target = run.checkpoints / f"checkpoint-{step}"
    shutil.rmtree(staged, ignore_errors=True)
    _link_tree(folder, staged)
    checkpoints.write_manifest(staged, step=step, stage=None)
    checkpoints.move_into_place(staged, target)
    checkpoints.prune(run, limit, newest=step, best=None)
    return target


def restore_checkpoint(files: EngineFiles, checkpoint: Checkpoint) -> bool:
    """Give a checkpoint back to Surogate; False if it is not one of its own."""
    if not (checkpoint.path / CHECKPOINT_DONE).is_file():
        return False
    target = files.checkpoints / f"step_{checkpoint.step:08d}"
    _link_tree(checkpoint.path, target)
    (target / checkpoints.MANIFEST).unlink()
    return True


def _link_tree(source: Path, target: Path) -> None:
    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:  # other file systems
            shutil.copy2(old, new)

    shutil.copytree(source, target, copy_function=link)


def find_result(files: EngineFiles) -> Path | None:
    """Return the folder of the adapter or model that Surogate has written at its end."""
    for folder in (files.output, files.output / "adapter"):
        if (folder / ADAPTER).is_file() and (folder / WEIGHTS).is_file():
            return folder
    has_model = (files.output / "config.json").is_file() and any(files.output.glob("*.safetensors"))
    return files.output if has_model else None


def adopt(job: Job, source: Path, note: save.Note, *, steps: int, eval_loss: float | None) -> None:
    """Make an adapter or a model of Surogate the result of the run.

    Raises:
        WorkerError: `engine-result` if it is no adapter that PEFT can load.
    """
    staged = job.run.output_staged
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    is_adapter = (source / ADAPTER).is_file()
    if is_adapter:
        shutil.copyfile(source / WEIGHTS, staged / WEIGHTS)
        config = _checked_adapter(source) | {"base_model_name_or_path": job.plan.model_path}
        (staged / ADAPTER).write_text(json.dumps(config, indent=2), encoding="utf-8")
    else:
        for pattern in _MODEL_FILES:
            for file in source.glob(pattern):
                shutil.copyfile(file, staged / file.name)
    write_tokenizer(job, staged, note)
    with save.noting(note, "The model card"):
        card = save.make_card(job, steps, eval_loss, is_adapter=is_adapter)
        card.save(staged / "README.md")
    save.publish(job)


def link_model(job: Job, source: Path, target: Path, note: save.Note) -> None:
    """Make a folder with the files of the base model, and the tokenizer and template of the run.

    Surogate renders conversations with the template that it finds there.
    """
    target.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.name not in TOKENIZER_FILES:
            (target / file.name).symlink_to(file.resolve())
    # Its generation config is replaced too, and must not be written through the link.
    (target / GENERATION).unlink(missing_ok=True)
    write_tokenizer(job, target, note)


def write_tokenizer(job: Job, folder: Path, note: save.Note) -> None:
    """Write the tokenizer with the chat template of the run, and the generation config."""
    tokenizer, generation = load_tokenizer(job.plan)
    template = template_of_run(tokenizer, stop_ids_of(generation), job.config)
    generation.eos_token_id = sorted(template.stop_ids)
    if why := save_tokenizer(tokenizer, folder, job.plan):
        note(save.SIDE_FILE, f"The tokenizer could not be saved: {why}")
    with save.noting(note, "The generation config"):
        generation.save_pretrained(folder)


def _checked_adapter(folder: Path) -> dict[str, Any]:
    """Return the config of an adapter whose weights have the names of PEFT."""
    config = find_json(folder / ADAPTER)
    if not config or config.get("peft_type") != "LORA":
        raise _unusable(f"{ADAPTER} is not the config of a LoRA adapter")
    try:
        with safe_open(str(folder / WEIGHTS), framework="numpy") as weights:
            names = list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise _unusable(f"{WEIGHTS} cannot be read: {error}") from error
    matrices = {name for name in names if ".lora_A." in name}
    if not matrices or {name.replace(".lora_A.", ".lora_B.") for name in matrices} - set(names):
        raise _unusable(f"{WEIGHTS} lacks the two matrices of a LoRA adapter")
    return config


def _unusable(why: str) -> WorkerError:
    remedy = "The folder engine of the run has what it wrote; choose the engine inprocess."
    what = f"The result of Surogate cannot be used: {why}."
    return WorkerError("engine-result", Problem("hardware.engine", what, remedy))
