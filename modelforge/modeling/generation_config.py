"""The generation config of a model, without the fields that Transformers refuses to save."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import cached_file

from modelforge.config.plan.make import Plan

Note = tuple[str, str]
FILE = "generation_config.json"
# Fields that others depend on.
SWITCHES = ("do_sample", "num_beams", "use_cache", "return_dict_in_generate")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_REFUSALS = (ValueError, TypeError, AttributeError, KeyError, ImportError)


def load_generation_config(
    path: str, *, revision: str | None, local_files_only: bool
) -> tuple[GenerationConfig, list[Note]]:
    """Return the generation config of a model, and a note if fields are left out.

    As in Transformers, a model without a readable file gets one from its config.json.
    """
    known = vars(GenerationConfig())
    for name in (FILE, "config.json"):
        values = _read(path, name, revision=revision, local_files_only=local_files_only)
        if values is None:
            continue
        if name != FILE:
            values = {key: value for key, value in values.items() if key in known}
        generation, dropped = keep_valid(values)
        text = f"Left out, as Transformers refuses to save them: {', '.join(dropped)} of {name}."
        return generation, [("generation-fields-dropped", text)] if dropped else []
    return GenerationConfig(), []


def generation_config_of(plan: Plan) -> tuple[GenerationConfig, list[Note]]:
    """Return the generation config of the run's model, as `load_generation_config` does.

    With the tokenizer of another model it names no tokens: their ids have other meanings.
    """
    is_folder = Path(plan.model_path).is_dir()
    generation, notes = load_generation_config(
        plan.model_path, revision=plan.model_revision, local_files_only=is_folder
    )
    if plan.tokenizer_path is not None:
        for name in TOKENS:
            setattr(generation, name, None)
    return generation, notes


def keep_valid(values: Mapping[str, Any]) -> tuple[GenerationConfig, list[str]]:
    """Return a generation config that can be saved, and the names of the values left out.

    Every field is tried with those before it; the ones that switch others on come first.
    """
    kept: dict[str, Any] = {}
    dropped = []
    generation = GenerationConfig()
    for name in sorted(values, key=lambda name: (name not in SWITCHES, name)):
        if values[name] is None:
            continue
        try:
            tried = GenerationConfig.from_dict({**kept, name: values[name]})
            tried.validate(strict=True)
            tried.to_json_string()
        except _REFUSALS:
            dropped.append(name)
        else:
            kept[name] = values[name]
            generation = tried
    return generation, sorted(dropped)


def _read(
    path: str, name: str, *, revision: str | None, local_files_only: bool
) -> dict[str, Any] | None:
    """Return the object in a file of the model; None if it is missing or unreadable."""
    try:
        file = cached_file(
            path,
            name,
            revision=revision,
            local_files_only=local_files_only,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        values = json.loads(Path(file).read_text("utf-8")) if file else None
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
