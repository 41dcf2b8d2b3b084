"""Open and save a tokenizer; what prevents saving makes it copy the files of the base model."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE
from transformers import AutoTokenizer
from transformers.utils import cached_file

from modelforge.config.plan.make import Plan
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError, first_line

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
# The files that a tokenizer is loaded from.
FILES = (
    "tokenizer.json", CONFIG, TEMPLATE, "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


def open_tokenizer(source: str, **arguments: Any) -> Any:
    """Return a tokenizer of a model or adapter, without its own code.

    Raises:
        WorkerError: A file of the tokenizer has the wrong content.
        OSError, ValueError, KeyError, ImportError: As Transformers raises them.
    """
    try:
        return AutoTokenizer.from_pretrained(source, **{**arguments, "trust_remote_code": False})
    except (OSError, ValueError, KeyError, ImportError):
        raise
    except Exception as error:  # a file may hold anything
        what = f"The tokenizer of {source} cannot be read: {first_line(error)}"
        problem = Problem("model_name", what, "Download the model again, or choose another one.")
        raise WorkerError("tokenizer-unreadable", problem) from error


def save_tokenizer(tokenizer: Any, folder: Path, plan: Plan) -> str:
    """Save a tokenizer in `folder`, and return why its files were copied; empty if it was saved.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    try:
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # a file of the base model may hold anything
        names = _copy_files(folder, plan)
        _keep_pad_token(folder, tokenizer)
        copied = "the files of the base model are used" if names else "the base model has no files"
        return f"{first_line(error)} Instead, {copied}."
    return ""


def _copy_files(folder: Path, plan: Plan) -> list[str]:
    """Copy the tokenizer's files of the run's model, and return their names."""
    copied = []
    for name in FILES:
        # What was written before the error may be incomplete.
        (folder / name).unlink(missing_ok=True)
        found = cached_file(
            plan.tokenizer_path or plan.model_path,
            name,
            revision=None if plan.tokenizer_path else plan.model_revision,
            local_files_only=True,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None and _is_of_model(Path(found), plan):
            shutil.copyfile(found, folder / name)
            copied.append(name)
    return copied


def _is_of_model(file: Path, plan: Plan) -> bool:
    """Return whether a file, or what it links to, is in the model's folder or the Hub cache."""
    folder = Path(plan.tokenizer_path or plan.model_path)
    root = folder if folder.is_dir() else Path(HF_HUB_CACHE)
    return file.resolve().is_relative_to(root.resolve())


def _keep_pad_token(folder: Path, tokenizer: Any) -> None:
    """Set the padding token that was trained with, if the copied config can be read."""
    path, pad_token = folder / CONFIG, getattr(tokenizer, "pad_token", None)
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        values = dict(json.loads(path.read_text("utf-8")))
        if isinstance(pad_token, str) and values.get("pad_token") != pad_token:
            path.write_text(json.dumps(values | {"pad_token": pad_token}), "utf-8")
