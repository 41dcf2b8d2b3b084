"""What an export is made from: the run, its base model and its adapters; and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.errors import (
    ConfigError,
    ForgeError,
    MissingPackageError,
    Problem,
    merge_errors,
)
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.disk_usage import folder_bytes
from modelforge.runs.exports import (
    GGUF_MODEL_TYPES,
    IN_GGUF,
    WHOLE,
    ExportFolder,
    ExportRecord,
    ExportRequest,
)
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import Store, is_id
from modelforge.services.exports.wrong_values import wrong_values
from modelforge.services.jobs.trained_run import (
    BaseModel,
    TrainedRunFinder,
    base_name,
    collect_error,
    gpu_with,
)
from modelforge.services.machine import MachineService

GGUF_PACKAGE, GGUF_EXTRA = "xllamacpp", "gguf"
# Names a llama.cpp checkout with a converter: see modelforge.export.gguf.convert.
CONVERTER = "MODELFORGE_LLAMA_CPP"
_NEEDS_CONVERSATION = (*IN_GGUF, "mlx")


@dataclass(frozen=True)
class ExportSources:
    """What an export reads; `weights` is the model whose files it starts from.

    `adapters` are plain data as the exporter reads them, the run's own first; empty if every weight
    was trained.
    """

    run: RunFolder
    name: str
    head: str
    base: BaseModel | None
    base_name: str
    weights: ModelInfo
    adapters: tuple[dict[str, Any], ...]
    output_bytes: int
    adapter_bytes: int
    # The GPU that has room for the model; None for the processor.
    gpu: int | None = None
    # The record and the files of a finished export that is uploaded as it is.
    pushed: tuple[ExportRecord, Path] | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the exporter needs, as plain data."""
        if self.pushed:
            record, files = self.pushed
            return record.facts | {"from_export": str(files), "gpu_index": None}
        base = self.base
        return {
            "run_folder": str(self.run.path),
            "base_path": str(base.folder) if base else None,
            "base_name": self.base_name,
            "base_revision": base.revision if base else None,
            "base_hash": base.hash if base else "",
            "adapters": list(self.adapters),
            "device": "cpu" if self.gpu is None else "cuda",
            "gpu_index": self.gpu,
        }


class SourceFinder:
    """Finds what an export is made from, and collects everything that is wrong with a request."""

    def __init__(
        self, home: Home, store: Store, supervisor: Supervisor, machine: MachineService
    ) -> None:
        self.home = home
        self._store = store
        self._finder = TrainedRunFinder(home, store, supervisor, verb="export")
        self._machine = machine

    def find(self, request: ExportRequest, *, refresh: bool = False) -> ExportSources:
        """Return the sources. Raises one error with all problems.

        With `refresh`, the free memory of the GPUs is that of this moment.
        """
        errors: list[ForgeError] = []
        problems = list(wrong_values(request))
        if problems:
            errors.append(ConfigError(problems))
        elif request.source:
            return self._pushed(request)
        run = collect_error(errors, lambda: self._finder.run_with_result(request.run))
        if run is None or problems:
            raise merge_errors(errors)
        sources: ExportSources | None
        sources = collect_error(errors, lambda: self._sources(run, request, errors))
        if sources is None or errors:
            raise merge_errors(errors)
        if problems := list(_wrong_formats(request, sources)):
            raise ConfigError(problems)
        machine = self._machine.current(refresh=refresh)
        return replace(sources, gpu=gpu_with(sources.weights.weights_gib, machine))

    def _sources(
        self, run: RunFolder, request: ExportRequest, errors: list[ForgeError]
    ) -> ExportSources | None:
        record = read_json(run.config)
        plan = Plan.from_dict(record["plan"], record["config"])
        has_adapter = run.has_adapter
        base = (
            collect_error(errors, lambda: self._finder.base(record, plan)) if has_adapter else None
        )
        adapters = [self._part(run, request.weight)] if has_adapter else []
        for run_id, weight in request.adapters:
            part = collect_error(errors, partial(self._other, run_id, weight, base, request))
            adapters += [part] if part else []
        if has_adapter and base is None:
            return None
        folder = base.folder if base else run.output
        weights = collect_error(errors, lambda: self._finder.model(str(folder)))
        if weights is None:
            return None
        return ExportSources(
            run=run,
            name=run_name(run),
            head=plan.facts.head,
            base=base,
            base_name=base.name if base else base_name(record, plan),
            weights=weights,
            adapters=tuple(adapters),
            output_bytes=folder_bytes(run.output),
            adapter_bytes=folder_bytes(run.output) * len(adapters),
        )

    def _pushed(self, request: ExportRequest) -> ExportSources:
        """Return a tested export as the source of an upload; raises ConfigError for another.

        It may be one whose own upload has failed.
        """
        folder = ExportFolder(self.home.exports / request.source)
        record = folder.record() if is_id(request.source) else None
        if record is None or folder.result() is None or not folder.files.is_dir():
            what = f"There is no finished export {request.source[:80]!r}."
            remedy = "Upload an export whose self-test has passed."
            raise ConfigError(Problem("source", what, remedy))
        name = str(record.facts.get("base_name") or "")
        return ExportSources(
            run=RunFolder(self.home.runs / record.request.run),
            name=record.run_name,
            head="causal",
            base=None,
            base_name=name,
            weights=ModelInfo(name, "", None, None, 0.0, has_chat_template=True, local=True),
            adapters=(),
            output_bytes=folder_bytes(folder.files),
            adapter_bytes=0,
            pushed=(record, folder.files),
        )

    def _other(
        self, run_id: str, weight: float, base: BaseModel | None, request: ExportRequest
    ) -> dict[str, Any]:
        """Return a further adapter; raises if it does not fit the run's own one."""
        run = self._finder.run_with_result(run_id)
        name = run_name(run)
        if not run.has_adapter:
            what = f"“{name}” has no adapter: every weight was trained."
            raise ConfigError(Problem("adapters", what, "Leave this run out."))
        record = read_json(run.config)
        other = self._finder.base(record, Plan.from_dict(record["plan"], record["config"]))
        if base is not None and other.identity != base.identity:
            what = f"The adapter of “{name}” was trained on {other.name}, not on {base.name}."
            remedy = "Combine adapters of the same base model."
            raise ConfigError(Problem("adapters", what, remedy))
        mine, theirs = (_rank(each) for each in (self._store.get(request.run), run))
        if request.combination != "cat" and mine != theirs:
            what = f"The adapter of “{name}” has the rank {theirs}, that of the run {mine}."
            remedy = f"The combination {request.combination} needs equal ranks; choose cat."
            raise ConfigError(Problem("combination", what, remedy))
        return self._part(run, weight)

    def _part(self, run: RunFolder, weight: float) -> dict[str, Any]:
        return {"run": run.id, "name": run_name(run), "path": str(run.output), "weight": weight}


def require_packages(request: ExportRequest) -> None:
    """Raise MissingPackageError if a package that the format needs is not installed."""
    if request.written in IN_GGUF and not request.source and find_spec(GGUF_PACKAGE) is None:
        what = f"The package {GGUF_PACKAGE}, which contains llama.cpp, is not installed."
        remedy = f"Run `python launch.py setup --with {GGUF_EXTRA}`."
        raise MissingPackageError(Problem(request.format, what, remedy))


def _rank(run: RunFolder) -> object:
    return (find_json(run.output / "adapter_config.json") or {}).get("r")


def _wrong_formats(request: ExportRequest, sources: ExportSources) -> Iterator[Problem]:
    """Yield why this run cannot have the format."""
    written = request.written
    if sources.head != "causal" and written in _NEEDS_CONVERSATION:
        what = "It is not a model that generates text from left to right."
        yield Problem("format", what, "Choose adapter, merged or hub.")
    elif written in IN_GGUF and not _can_be_gguf(sources.weights.model_type):
        kind = sources.weights.model_type
        what = f"Models of the type {kind} cannot be written as GGUF."
        remedy = (
            f"Export the merged model, or name the folder of a llama.cpp checkout in {CONVERTER}, "
            f"whose converter is used then. Known types: {', '.join(GGUF_MODEL_TYPES)}."
        )
        yield Problem("format", what, remedy)
    if not sources.adapters and (written == "adapter" or request.adapters):
        what = "The run has no adapter: every weight was trained."
        remedy = "Export the whole model: choose merged, gguf, ollama or mlx."
        if request.adapters:
            remedy = "Export it without adapters of other runs."
        elif request.format == "hub":
            remedy = "Upload the whole model: choose merged or gguf as the content."
        yield Problem("format", what, remedy)
    if not sources.adapters and request.precision != "base":
        what = "The run has no adapter: its weights are exported as they were trained."
        yield Problem("precision", what, "Leave the precision out.")
    if sources.weights.quantization and (written in WHOLE or len(sources.adapters) > 1):
        how = sources.weights.quantization
        what = f"The weights of {sources.base_name} are stored quantized ({how})."
        remedy = "Merging would round them again. Export the adapter, or train on 16-bit weights."
        yield Problem("base model", what, remedy)
    if len(sources.adapters) > 1 and sources.head != "causal":
        what = "Adapters are combined for models that generate text from left to right."
        yield Problem("adapters", what, "Export the run without further adapters.")


def _can_be_gguf(model_type: str) -> bool:
    return model_type in GGUF_MODEL_TYPES or bool(os.environ.get(CONVERTER))
