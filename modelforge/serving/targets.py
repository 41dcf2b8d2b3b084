"""Find what is served: a run, a finished export or a base model."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from modelforge.errors import ConfigError, ForgeError, NotFoundError, Problem
from modelforge.models.fingerprint import fingerprint
from modelforge.models.resolve import STARTER
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json
from modelforge.runs.checkpoints import Checkpoint, valid_checkpoints
from modelforge.runs.exports import ExportFolder, ExportRecord
from modelforge.runs.jobs import JobState
from modelforge.runs.layout import RunFolder
from modelforge.runs.store import is_id
from modelforge.runs.trash import FOLDER as TRASH
from modelforge.services.chat import ChatService
from modelforge.services.chat_client import ChatModelSpec

Kind = Literal["gguf", "adapter", "model"]
LONGEST_NAME = 60


@dataclass(frozen=True)
class Target:
    """A model to serve.

    Args:
        id: of the run or the export, or the name of the base model.
        name: for people.
        model: name in the API.
    """

    id: str
    name: str
    model: str
    spec: ChatModelSpec

    @property
    def kind(self) -> Kind:
        """A GGUF file, an adapter on its base model, or a whole model."""
        if self.spec.model_path.endswith(".gguf"):
            return "gguf"
        return "adapter" if self.spec.adapter else "model"

    def knows(self, name: str) -> bool:
        """Return whether a request with this name of a model is for it."""
        return name in (self.id, self.name, self.model)

    def vllm(self, port: int) -> str:
        """Return a command that serves it with an installed vLLM; empty if that is impossible."""
        is_installed = shutil.which("vllm") or importlib.util.find_spec("vllm")
        if self.kind != "model" or self.spec.head != "causal" or not is_installed:
            return ""
        options = ["--served-model-name", self.model, "--host", "127.0.0.1", "--port", str(port)]
        return shlex.join(["vllm", "serve", self.spec.model_path, *options])


def find_target(what: str, home: Home, chat: ChatService) -> Target:
    """Return an export or a run by its id, a checkpoint by RUN:STEP, or a base model by its name.

    Raises NotFoundError, and ConfigError if the base model has changed since the training.
    """
    is_id = bool(what) and Path(what).name == what
    folder = ExportFolder(home.exports / what)
    record = folder.record() if is_id else None
    if record is not None:
        return _export(folder, record, chat)
    if checkpoint := _checkpoint(what, home):
        return _checkpoint_target(what, checkpoint, chat)
    try:
        spec, name = chat.find_model(what)
    except NotFoundError as error:
        if not is_id or (home.runs / what).is_dir() or what == STARTER:
            raise
        if (home.runs / TRASH / what).is_dir():
            remedy = f"Restore it first: modelforge runs restore {what}"
            problem = Problem("run", f"The run {what} was deleted.", remedy)
            raise NotFoundError(problem) from error
        # A mistyped id is far more likely than one of the few models without an owner.
        missing = f"There is no run, export or base model {what!r:.120} on this computer."
        remedy = "See `modelforge runs list` and `modelforge exports list`."
        raise NotFoundError(Problem("serving", missing, remedy)) from error
    _require_base_of_run(spec, RunFolder(home.runs / what))
    return Target(what, name, api_name(name), spec)


def _checkpoint(what: str, home: Home) -> Checkpoint | None:
    """Return the checkpoint that RUN:STEP names; None for other texts, raises NotFoundError."""
    run_id, _, step = what.rpartition(":")
    folder = RunFolder(home.runs / run_id)
    if not step.isdecimal() or not is_id(run_id) or not folder.config.is_file():
        return None
    # The first stage of a run may train a reward model, which cannot be asked.
    found = [each for each in valid_checkpoints(folder) if each.stage != 1]
    chosen = next((each for each in found if each.step == int(step)), None)
    if chosen is None:
        steps = ", ".join(str(each.step) for each in found) or "none"
        what_is_wrong = f"The run {run_id} has no intact checkpoint of step {int(step):,}."
        raise NotFoundError(Problem("checkpoint", what_is_wrong, f"Its steps are: {steps}."))
    return chosen


def _checkpoint_target(what: str, checkpoint: Checkpoint, chat: ChatService) -> Target:
    folder = RunFolder(checkpoint.path.parent.parent)
    spec, name = chat.find_model(folder.id, checkpoint.path)
    _require_base_of_run(spec, folder)
    name = f"{name} · step {checkpoint.step:,}"
    return Target(what, name, api_name(name), spec)


def _require_base_of_run(spec: ChatModelSpec, folder: RunFolder) -> None:
    if spec.adapter and Path(spec.model_path).is_absolute():
        run = find_json(folder.config) or {}
        _require_base(spec.model_path, run.get("base") or {})


def api_name(name: str) -> str:
    """Return a name for the API: lower-case letters, digits, dots and hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")[:LONGEST_NAME].rstrip("-.") or "model"


def _export(folder: ExportFolder, record: ExportRecord, chat: ChatService) -> Target:
    """Return the target of an export; raises NotFoundError for one that cannot be served."""
    state = folder.state()
    # The files of an upload that has failed are kept, because their self-test has passed.
    if state is not JobState.FINISHED and not (folder.result() and folder.files.is_dir()):
        what = f"The export {folder.id} of {record.run_name} is {state}."
        if state is JobState.FAILED:
            what = f"The export {folder.id} of {record.run_name} has failed and is not usable."
        raise NotFoundError(Problem("export", what, "Serve a finished one, or export again."))
    spec = _spec(folder, record, _trained(record, chat))
    label: str = record.request.format
    if spec.model_path.endswith(".gguf"):
        label = f"GGUF {record.request.quantization.upper()}"
    return Target(folder.id, f"{record.run_name} · {label}", api_name(record.run_name), spec)


def _trained(record: ExportRecord, chat: ChatService) -> ChatModelSpec:
    """Return the model of the exported run, for its system message; a bare one if it is deleted."""
    try:
        return chat.find_model(record.request.run)[0]
    except ForgeError:
        return ChatModelSpec("", device=str(record.facts.get("device") or "cpu"))


def _spec(folder: ExportFolder, record: ExportRecord, trained: ChatModelSpec) -> ChatModelSpec:
    """Return the model in the files of an export; raises NotFoundError."""
    if adapter := _first(folder, "adapter_config.json"):
        facts = {name: record.facts.get(f"base_{name}") for name in ("name", "hash", "path")}
        base, revision = str(facts["path"] or ""), record.facts.get("base_revision")
        _require_base(base, facts)
        return replace(trained, model_path=base, adapter=str(adapter.parent), revision=revision)
    model = _first(folder, "*.gguf")
    if model is None and (weights := _first(folder, "*.safetensors")):
        model = weights.parent
    if model is None:
        what = f"The export {folder.id} has no model on this computer."
        remedy = "Serve its run, or an export in another format."
        raise NotFoundError(Problem("export", what, remedy))
    return replace(trained, model_path=str(model), adapter=None, revision=None, run=None)


def _require_base(path: str, known: Mapping[str, Any]) -> None:
    """Raise if a base model is gone, or other weights have taken its place; see `fingerprint`."""
    folder, name = Path(path), known.get("name") or "the base model"
    if not path or not folder.is_dir():
        what = f"The base model of this adapter, {name}, is not at {path or 'its place'} any more."
        remedy = "Put it back there, or serve a merged export."
        raise NotFoundError(Problem("base model", what, remedy))
    if known.get("hash") and fingerprint(folder) != known["hash"]:
        what = f"The base model {name} in {path} is not the one of the training any more."
        remedy = "Put its files of that time back, or serve a merged export."
        raise ConfigError(Problem("base model", what, remedy))


def _first(folder: ExportFolder, pattern: str) -> Path | None:
    """Return the first file of an export with such a name."""
    return next(iter(sorted(folder.files.rglob(pattern))), None)
