"""One export as the exporter sees it: what was asked for, the run, its base model and adapters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.modeling.tokenize.template import set_default_template
from modelforge.modeling.tokenizer_files import open_tokenizer
from modelforge.runs.atomic_files import read_json
from modelforge.runs.exports import ExportFolder, ExportRecord, ExportRequest
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
    """An export. Every format module has `write(job: Job, target: Path, steps: StepWriter)`."""

    folder: ExportFolder
    record: ExportRecord
    run: RunFolder
    # The folder of the base model on this computer. None if every weight was trained, when the
    # base model is not needed.
    base: Path | None
    # The Hub id of the base model, or the name of its folder.
    base_name: str
    base_revision: str | None
    # Device of the trained model in the self-test: cpu, cuda or mps.
    device: str
    # The run's own adapter first; empty if every weight was trained.
    adapters: tuple[AdapterPart, ...]

    @classmethod
    def read(cls, folder: ExportFolder) -> Job:
        """Return the job of an export's folder; raises RunError if its record is damaged."""
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
            device=facts.get("device", "cpu"),
            adapters=tuple(AdapterPart(**part) for part in parts),
        )

    @property
    def request(self) -> ExportRequest:
        """What was asked for."""
        return self.record.request

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

    def tokenizer(self) -> Any:
        """Return the tokenizer of the run, with the chat template that it was trained with."""
        source = self.run.output
        if not any(source.glob("tokenizer*")) and self.base is not None:
            source = self.base
        tokenizer = open_tokenizer(str(source))
        if not tokenizer.chat_template:
            set_default_template(tokenizer)
        return tokenizer
