"""What an export is made from: the run, its base model and its adapters; and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.errors import (
    BusyError,
    ConfigError,
    ForgeError,
    MissingPackageError,
    NotFoundError,
    Problem,
    merge_errors,
)
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.models.fingerprint import fingerprint
from modelforge.models.resolve import STARTER, model_stamp, resolve_model
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
from modelforge.services.machine import MachineService

GGUF_PACKAGE, GGUF_EXTRA = "xllamacpp", "gguf"
# Names a llama.cpp checkout with a converter: see modelforge.export.gguf.convert.
CONVERTER = "MODELFORGE_LLAMA_CPP"
# On a GPU, the largest layer is converted to float32 beside the weights.
GPU_SPARE_GIB = 2.0
_NEEDS_CONVERSATION = (*IN_GGUF, "mlx")


@dataclass(frozen=True)
class BaseModel:
    """A base model on this computer. `hash` is that of its files if it is not from the Hub."""

    name: str
    revision: str | None
    folder: Path
    hash: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What is equal for two runs on the same base model."""
        return (self.name, self.revision) if self.revision else ("", self.hash)


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
        self._supervisor = supervisor
        self._machine = machine
        self._models: dict[str, tuple[object, ModelInfo]] = {}

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
        run = _collect(errors, lambda: self._run_with_result(request.run))
        if run is None or problems:
            raise merge_errors(errors)
        sources: ExportSources | None
        sources = _collect(errors, lambda: self._sources(run, request, errors))
        if sources is None or errors:
            raise merge_errors(errors)
        if problems := list(_wrong_formats(request, sources)):
            raise ConfigError(problems)
        machine = self._machine.current(refresh=refresh)
        return replace(sources, gpu=_gpu_with(sources.weights.weights_gib, machine))

    def _sources(
        self, run: RunFolder, request: ExportRequest, errors: list[ForgeError]
    ) -> ExportSources | None:
        record = read_json(run.config)
        plan = Plan.from_dict(record["plan"], record["config"])
        has_adapter = run.has_adapter
        base = _collect(errors, lambda: self._base(record, plan)) if has_adapter else None
        adapters = [self._part(run, request.weight)] if has_adapter else []
        for run_id, weight in request.adapters:
            part = _collect(errors, partial(self._other, run_id, weight, base, request))
            adapters += [part] if part else []
        if has_adapter and base is None:
            return None
        folder = base.folder if base else run.output
        weights = _collect(errors, lambda: self._model(str(folder)))
        if weights is None:
            return None
        return ExportSources(
            run=run,
            name=run_name(run),
            head=plan.facts.head,
            base=base,
            base_name=base.name if base else _base_name(record, plan),
            weights=weights,
            adapters=tuple(adapters),
            output_bytes=folder_bytes(run.output),
            adapter_bytes=folder_bytes(run.output) * len(adapters),
        )

    def _model(self, folder: str) -> ModelInfo:
        """Return what is known of a model; its files are read again once they have changed."""
        stamp = model_stamp(folder, self.home)
        known = self._models.get(folder)
        if known is None or known[0] != stamp:
            known = self._models[folder] = stamp, resolve_model(folder, self.home)
        return known[1]

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

    def _run_with_result(self, run_id: str) -> RunFolder:
        """Return a run that has a result and is not in progress."""
        if not self._store.exists(run_id) and (self.home.runs / ".deleted" / run_id).is_dir():
            what = f"The run {run_id} was deleted."
            remedy = f"Restore it first: modelforge runs restore {run_id}"
            raise NotFoundError(Problem("run", what, remedy))
        run = self._store.get(run_id)
        state = self._supervisor.state(run)
        if state.is_active:
            what = f"“{run_name(run)}” is in progress."
            raise BusyError(Problem("run", what, "Export it when it is over."), run.id)
        if not run.has_result:
            what = f"“{run_name(run)}” has no model: it is {state}."
            raise NotFoundError(Problem("run", what, "Choose a run that has finished."))
        return run

    def _base(self, record: dict[str, Any], plan: Plan) -> BaseModel:
        """Return the base model of a run; raises if it is gone, or another one than then."""
        name = str(record["config"].get("model_name", "")).strip()
        if plan.model_revision:
            return _hub_base(name, plan.model_revision)
        folder = self.home.starter_model if name == STARTER else Path(plan.model_path)
        shown = _base_name(record, plan)
        if not (folder / "config.json").is_file():
            what = f"The base model {shown} is not at {folder} any more."
            remedy = "Put the folder back. Without its base model, an adapter cannot be exported."
            if name == STARTER:
                remedy = "Run `python launch.py setup`, which makes it again."
            raise NotFoundError(Problem("base model", what, remedy))
        known, now = (record.get("base") or {}).get("hash"), fingerprint(folder)
        if known and known != now:
            what = f"The base model {shown} in {folder} is not the one of the training any more."
            remedy = "Put its files of that time back, or train again."
            raise ConfigError(Problem("base model", what, remedy))
        return BaseModel(shown, None, folder, now)

    def _other(
        self, run_id: str, weight: float, base: BaseModel | None, request: ExportRequest
    ) -> dict[str, Any]:
        """Return a further adapter; raises if it does not fit the run's own one."""
        run = self._run_with_result(run_id)
        name = run_name(run)
        if not run.has_adapter:
            what = f"“{name}” has no adapter: every weight was trained."
            raise ConfigError(Problem("adapters", what, "Leave this run out."))
        record = read_json(run.config)
        other = self._base(record, Plan.from_dict(record["plan"], record["config"]))
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


def _gpu_with(weights_gib: float, machine: Machine) -> int | None:
    """Return the GPU with the most free memory if it has enough; None without one."""
    free = {gpu.index: gpu.free_gib or 0.0 for gpu in machine.gpus}
    best = max(free, key=free.__getitem__, default=None)
    return best if best is not None and free[best] >= weights_gib + GPU_SPARE_GIB else None


def _hub_base(name: str, revision: str) -> BaseModel:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - importing httpx

    from modelforge.models import hub  # noqa: PLC0415 - importing httpx takes 0.2 s

    path = try_to_load_from_cache(name, "config.json", revision=revision)
    folder = Path(path).parent if isinstance(path, str) else None
    if folder is not None:
        files = {entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}
        if hub.is_complete(folder, files):
            return BaseModel(name, revision, folder)
    other = hub.cached_folder(name)
    if other is not None and other.name != revision:
        what = f"The base model {name} is here as {other.name[:7]}; the run used {revision[:7]}."
        remedy = f"Download that one: hf download {name} --revision {revision}"
        raise ConfigError(Problem("base model", what, remedy))
    what = f"The base model {name} is not on this computer."
    remedy = f"Download it: modelforge storage download {name}"
    raise NotFoundError(
        Problem("base model", what, f"{remedy} (a gated model needs `hf auth login` first)")
    )


def _base_name(record: dict[str, Any], plan: Plan) -> str:
    """Return the Hub id of a run's base model, or the last part of its path."""
    name = str(record["config"].get("model_name", "")).strip() or plan.model_path
    if plan.model_revision:
        return name
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


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


def _collect(errors: list[ForgeError], find: Callable[[], Any]) -> Any:
    """Return what `find` returns; None, with the error in `errors`, if it raises one."""
    try:
        return find()
    except ForgeError as error:
        errors.append(error)
        return None
