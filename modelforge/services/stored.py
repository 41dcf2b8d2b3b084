"""Uploaded and downloaded data files and models: list them with the runs that use them, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from modelforge.config.schema.base import about
from modelforge.errors import NotFoundError, Problem
from modelforge.runs.run_uses import RunUses, UsingRun
from modelforge.services.chat import ChatService
from modelforge.services.datasets import DatasetService
from modelforge.services.downloads import DownloadService

StoredKind = Literal["data", "model"]
MAX_RUNS_NAMED = 20


@dataclass(frozen=True)
class StoredItem:
    """A data file that was uploaded or downloaded, or a model in the cache of the Hub."""

    kind: StoredKind
    name: str
    bytes: int
    changed: Annotated[float, about("Modification time in Unix seconds.")]
    uses: Annotated[int, about("The number of runs that use it.")]
    runs: Annotated[list[UsingRun], about(f"The newest {MAX_RUNS_NAMED} of these runs.")]


class StoredService:
    """List and delete what was uploaded and downloaded. Thread-safe."""

    def __init__(
        self,
        datasets: DatasetService,
        uses: RunUses,
        chat: ChatService,
        downloads: DownloadService,
    ) -> None:
        self._datasets = datasets
        self._uses = uses
        self._chat = chat
        self._downloads = downloads

    def items(self) -> list[StoredItem]:
        """Return all data files and models, data first, each kind with the largest first."""
        from modelforge.models.hub_cache import cached_models  # noqa: PLC0415 - imports httpx

        uses = self._uses.read()
        data = [
            self._item("data", each.name, each.size_bytes, each.changed, uses.files[each.path])
            for each in self._datasets.available()
            if each.kind != "sample"
        ]
        models = [
            self._item("model", each.name, each.bytes, each.changed, uses.models[each.name])
            for each in cached_models()
        ]
        return sorted(data, key=lambda item: -item.bytes) + models

    def delete(self, kind: StoredKind, names: Sequence[str]) -> int:
        """Delete data files or models, all or none, and return their bytes.

        Raises NotFoundError, and BusyError for one that a run in progress or in the queue uses.
        """
        from modelforge.models.hub_cache import delete_cached_model  # noqa: PLC0415 - imports httpx

        known = {item.name: item for item in self.items() if item.kind == kind}
        chosen = list(dict.fromkeys(names))
        for name in chosen:
            if name not in known:
                what = f"There is no {kind} of the name {name[:120]!r}."
                raise NotFoundError(Problem("name", what, "Reload the list."))
        uses = self._uses.read()
        files = {each.name: each.path for each in self._datasets.available()}
        for name in chosen:
            using = uses.models[name] if kind == "model" else uses.files[files[name]]
            self._uses.require_unneeded(name, using)
        if kind == "model":
            self._downloads.require_none_of(chosen)
        for name in chosen:
            if kind == "data":
                self._datasets.delete(name)
            else:
                self._chat.unload(name)
                delete_cached_model(name)
        return sum(known[name].bytes for name in chosen)

    def _item(
        self, kind: StoredKind, name: str, size: int, changed: float, runs: Sequence[str]
    ) -> StoredItem:
        named = self._uses.describe(runs[:MAX_RUNS_NAMED])
        return StoredItem(kind, name, size, changed, len(runs), named)
