"""Find what is served: a run, a finished export or a base model."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modelforge.errors import ForgeError, NotFoundError, Problem
from modelforge.paths import Home
from modelforge.runs.exports import ExportFolder, ExportRecord, ExportState
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
    """Return an export or a run by its id, or a base model by its name; raises NotFoundError."""
    folder = ExportFolder(home.exports / what)
    record = folder.record() if what and Path(what).name == what else None
    if record is not None:
        return _export(folder, record, chat)
    spec, name = chat.find_model(what)
    return Target(what, name, api_name(name), spec)


def api_name(name: str) -> str:
    """Return a name for the API: lower-case letters, digits, dots and hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")[:LONGEST_NAME].rstrip("-.") or "model"


def _export(folder: ExportFolder, record: ExportRecord, chat: ChatService) -> Target:
    """Return the target of an export; raises NotFoundError for one that cannot be served."""
    state = folder.state()
    if state is not ExportState.FINISHED:
        what = f"The export {folder.id} of {record.run_name} is {state}."
        if state is ExportState.FAILED:
            what = f"{what} It did not pass its self-test and is not usable."
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
        base = _base_path(record)
        revision = record.facts.get("base_revision")
        return replace(trained, model_path=base, adapter=str(adapter.parent), revision=revision)
    model = _first(folder, "*.gguf")
    if model is None and (weights := _first(folder, "*.safetensors")):
        model = weights.parent
    if model is None:
        what = f"The export {folder.id} has no model on this computer."
        remedy = "Serve its run, or an export in another format."
        raise NotFoundError(Problem("export", what, remedy))
    return replace(trained, model_path=str(model), adapter=None, revision=None, run=None)


def _base_path(record: ExportRecord) -> str:
    base = record.facts.get("base_path")
    if not base or not Path(base).is_dir():
        name = record.facts.get("base_name") or "The base model"
        what = f"{name}, the base model of this adapter, is not on this computer any more."
        raise NotFoundError(Problem("export", what, "Download it again, or serve a merged export."))
    return str(base)


def _first(folder: ExportFolder, pattern: str) -> Path | None:
    """Return the first file of an export with such a name."""
    return next(iter(sorted(folder.files.rglob(pattern))), None)
