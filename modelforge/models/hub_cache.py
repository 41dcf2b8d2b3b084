"""Models in the cache of the Hugging Face Hub: their sizes, and their deletion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import CacheNotFound

from modelforge.errors import NotFoundError, Problem, RunError

if TYPE_CHECKING:
    from huggingface_hub.utils import HFCacheInfo


@dataclass(frozen=True)
class CachedModel:
    """A downloaded model: its Hub id, its size, and when it was changed last (Unix seconds)."""

    name: str
    bytes: int
    changed: float


def cached_models(cache: Path | None = None) -> list[CachedModel]:
    """Return the downloaded models, the largest first."""
    info = _scan(cache)
    models = [
        CachedModel(repo.repo_id, repo.size_on_disk, repo.last_modified)
        for repo in (info.repos if info else ())
        if repo.repo_type == "model"
    ]
    return sorted(models, key=lambda model: -model.bytes)


def delete_cached_model(name: str, cache: Path | None = None) -> None:
    """Delete all revisions of a downloaded model. Raises NotFoundError and RunError."""
    info = _scan(cache)
    for repo in info.repos if info else ():
        if info and repo.repo_type == "model" and repo.repo_id == name:
            # Two models may have revisions of the same name, so only this one is given.
            only = replace(info, repos=frozenset({repo}))
            only.delete_revisions(*(each.commit_hash for each in repo.revisions)).execute()
            # The client only logs what it could not delete.
            if repo.repo_path.exists():
                what = f"{name} cannot be deleted from {repo.repo_path}."
                remedy = "Check the permissions of this folder."
                raise RunError(Problem("model", what, remedy))
            return
    what = f"There is no downloaded model {name[:120]!r}."
    raise NotFoundError(Problem("model", what, "`modelforge storage stored` lists them."))


def _scan(cache: Path | None) -> HFCacheInfo | None:
    try:
        return huggingface_hub.scan_cache_dir(cache or constants.HF_HUB_CACHE)
    except (CacheNotFound, OSError, ValueError):
        return None
