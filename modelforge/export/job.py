"""One export as the exporter sees it: what was asked for, the run, its base model and adapters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.errors import Problem, RunError
from modelforge.modeling.trained_run import open_run_tokenizer, tokenizer_folder
from modelforge.runs.atomic_files import read_json
from modelforge.runs.exports import ExportFolder, ExportRecord, ExportRequest
from modelforge.runs.jobs import StepWriter
from modelforge.runs.layout import RunFolder


@dataclass(frozen=True)
class AdapterPart:
    """An adapter that is merged: its run, the name of that run, its folder and its weight."""

    run: str
    name: str
    path: Path
    weight: float = 1.0


@dataclass(frozen=True)
class Job:
    """An export. Every format module has `write(job: Job, target: Path, steps: StepWriter)`.

    Attributes:
        base: The folder of the base model on this computer; None if every weight was trained,
            when the base model is not needed.
        base_name: The Hub id of the base model, or the name of its folder.
        base_hash: `modelforge.models.fingerprint` of a base model that is not from the Hub.
        device: Where the trained model answers in the self-test: cpu, cuda or mps.
        adapters: The run's own adapter first; empty if every weight was trained.
    """

    folder: ExportFolder
    record: ExportRecord
    run: RunFolder
    base: Path | None
    base_name: str
    base_revision: str | None
    base_hash: str
    device: str
    adapters: tuple[AdapterPart, ...]

    @classmethod
    def read(cls, folder: ExportFolder) -> Job:
        """Return the job of an export's folder; raises RunError if its record is damaged."""
        try:
            record = ExportRecord.from_dict(read_json(folder.record_file))
            facts = record.facts
            base = facts.get("base_path")
            parts = [{**part, "path": Path(part["path"])} for part in facts.get("adapters", ())]
            return cls(
                folder=folder,
                record=record,
                run=RunFolder(Path(facts["run_folder"])),
                base=Path(base) if base else None,
                base_name=facts["base_name"],
                base_revision=facts.get("base_revision"),
                base_hash=facts.get("base_hash") or "",
                device=facts.get("device") or "cpu",
                adapters=tuple(AdapterPart(**part) for part in parts),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"The record of the export is damaged: {error!r}."
            raise RunError(Problem("export", what, "Export the run again.")) from error

    @property
    def request(self) -> ExportRequest:
        """What was asked for."""
        return self.record.request

    @property
    def work(self) -> Path:
        """A folder for temporary files, which is removed at the end."""
        return self.folder.work

    @property
    def adapter(self) -> Path | None:
        """The folder of the run's own adapter; None if every weight was trained."""
        return self.adapters[0].path if self.adapters else None

    @property
    def has_several_adapters(self) -> bool:
        """Whether adapters of several runs are combined."""
        return len(self.adapters) > 1

    @cached_property
    def run_record(self) -> dict[str, Any]:
        """The record of the run: its name, settings, plan and dataset."""
        return read_json(self.run.config)

    @cached_property
    def plan(self) -> Plan:
        """The plan of the run."""
        return Plan.from_dict(self.run_record["plan"], self.run_record["config"])

    @property
    def head(self) -> Head:
        """The kind of model: causal, seq2seq or span."""
        return self.plan.facts.head

    @property
    def source(self) -> Path:
        """The folder with the weights that the export starts from: the base model, or the run's."""
        return self.run.output if self.base is None or not self.adapters else self.base

    def adapter_folder(self, steps: StepWriter) -> Path | None:
        """Return the folder of the adapter to export, combined first if there are several."""
        if not self.has_several_adapters:
            return self.adapter
        folder = self.work / "adapter"
        if not folder.is_dir():
            steps.begin("combine", f"Combining {len(self.adapters)} adapters")
            folder.mkdir(parents=True)
            import_module("modelforge.export.combine").combine(self, folder)
        return folder

    def tokenizer(self) -> Any:
        """Return the tokenizer of the run, with the chat template that it was trained with."""
        return open_run_tokenizer(self.tokenizer_folder, self.head)

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the tokenizer: the run's own, or that of the base model."""
        return tokenizer_folder(self.run.output, self.base)
