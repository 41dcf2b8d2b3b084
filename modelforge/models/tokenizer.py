"""A tokenizer of another model on this computer, in place of the one that belongs to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.architecture import ModelInfo
from modelforge.models.resolve import STARTER, has_chat_template, is_hub_id, token_count
from modelforge.paths import Home, expand_user, read_regular
from modelforge.units import MIB

SETTING = "model.tokenizer"
FILE = "tokenizer.json"
MAX_BYTES = 64 * MIB


def tokenizer_folder(name: str, home: Home, *, setting: str = SETTING) -> Path:
    """Return the folder of a tokenizer: the starter's, a folder, or a model in the Hub's cache.

    `setting` is what problems are reported at. Raises NotFoundError if it is not on this computer,
    ConfigError without a tokenizer.json.
    """
    name = name.strip()
    folder = home.starter_model if name == STARTER else expand_user(name)
    if not folder.is_dir():
        from modelforge.models import hub  # noqa: PLC0415 - importing httpx takes 0.2 s

        found = hub.cached_folder(name) if is_hub_id(name) else None
        if found is None:
            what = f"{name[:200]} is neither a folder nor a model on this computer."
            remedy = "Enter the folder of a model, or download the model first."
            raise NotFoundError(Problem(setting, what, remedy))
        folder = found
    if token_count(folder) is None:
        what = f"{folder} has no {FILE} that can be read."
        raise ConfigError(Problem(setting, what, f"Choose a model with a {FILE}."))
    return folder.absolute()


def with_tokenizer(model: ModelInfo, own: Path | None, folder: Path) -> ModelInfo:
    """Return the facts of a model that is trained with the tokenizer in `folder`.

    `own` is the folder of the model itself; None if it is not on this computer.
    """
    return replace(
        model,
        tokenizer=str(folder),
        tokens=token_count(folder),
        has_chat_template=has_chat_template(folder),
        shared_tokens=shared_tokens(own, folder) if own is not None else None,
    )


def shared_tokens(own: Path, other: Path) -> float | None:
    """Return the share of the tokens of `other` that have the same id in `own`; None if unknown."""
    ids, other_ids = _ids(own), _ids(other)
    if not ids or not other_ids:
        return None
    return sum(ids.get(token) == id_ for token, id_ in other_ids.items()) / len(other_ids)


def _ids(folder: Path) -> Mapping[str, int]:
    """Return the ids of the tokens of a tokenizer.json; empty if it cannot be read."""
    try:
        tokenizer = json.loads(read_regular(folder / FILE, MAX_BYTES))
        vocabulary: Any = tokenizer["model"]["vocab"]
        if isinstance(vocabulary, list):  # of the kind Unigram
            vocabulary = {entry[0]: id_ for id_, entry in enumerate(vocabulary)}
        added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
        return {**vocabulary, **added}
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        return {}
