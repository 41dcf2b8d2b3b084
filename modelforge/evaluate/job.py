"""One evaluation as its process sees it: request, run, base model and adapter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem, RunError
from modelforge.modeling.generation_config import load_generation_config
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import (
    ChatTemplate,
    seq2seq_template,
    stop_ids_of,
    template_of_run,
)
from modelforge.modeling.trained_run import open_run_tokenizer, tokenizer_folder
from modelforge.paths import Home
from modelforge.runs.atomic_files import read_json
from modelforge.runs.evaluations import EvaluationFolder, EvaluationRecord, EvaluationRequest
from modelforge.runs.layout import RunFolder


@dataclass(frozen=True)
class Job:
    """An evaluation.

    Attributes:
        base: The folder of the base model; None if every weight was trained and it is gone.
        adapter: The folder of the run's adapter; None if every weight was trained.
        device: Where the models answer: cpu, cuda or mps.
        earlier: Results of earlier evaluations of the run, which are not computed again.
    """

    folder: EvaluationFolder
    record: EvaluationRecord
    run: RunFolder
    base: Path | None
    adapter: Path | None
    device: str
    earlier: tuple[Path, ...]

    @classmethod
    def read(cls, folder: EvaluationFolder) -> Job:
        """Return the job of an evaluation's folder; raises RunError if its record is damaged."""
        try:
            record = EvaluationRecord.from_dict(read_json(folder.record_file))
            facts = record.facts
            base, adapter = facts.get("base_path"), facts.get("adapter_path")
            return cls(
                folder=folder,
                record=record,
                run=RunFolder(Path(facts["run_folder"])),
                base=Path(base) if base else None,
                adapter=Path(adapter) if adapter else None,
                device=facts.get("device") or "cpu",
                earlier=tuple(map(Path, facts.get("earlier", ()))),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"The record of the evaluation is damaged: {error!r}."
            raise RunError(Problem("evaluation", what, "Evaluate the run again.")) from error

    @property
    def request(self) -> EvaluationRequest:
        """What was asked for."""
        return self.record.request

    @property
    def home(self) -> Home:
        """The home of the evaluation."""
        return Home(self.folder.path.resolve().parents[1])

    @cached_property
    def run_record(self) -> dict[str, Any]:
        """The record of the run: its name, settings, plan and dataset."""
        return read_json(self.run.config)

    @cached_property
    def plan(self) -> Plan:
        """The plan of the run."""
        return Plan.from_dict(self.run_record["plan"], self.run_record["config"])

    @cached_property
    def config(self) -> TrainingConfig:
        """The settings of the run."""
        return TrainingConfig.from_record(self.run_record["config"])

    @property
    def head(self) -> Head:
        """The kind of model: causal, seq2seq or span."""
        return self.plan.facts.head

    @cached_property
    def options(self) -> TokenizeOptions:
        """How the rows of the run are tokenized."""
        return TokenizeOptions.from_plan(self.config, self.plan)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the run, with the chat template that it was trained with."""
        return open_run_tokenizer(tokenizer_folder(self.run.output, self.base), self.head)

    def template(self, prefix: str = "") -> ChatTemplate:
        """Return the chat template of the run; `prefix` stands before every document.

        Raises:
            DataError: The template cannot be rendered, or the tokenizer has no end token.
        """
        folder = self.base or self.run.output
        generation, _notes = load_generation_config(
            str(folder), revision=None, local_files_only=True
        )
        stops = stop_ids_of(generation)
        if self.head == "seq2seq":
            return seq2seq_template(self.tokenizer, stops, prefix)
        return template_of_run(self.tokenizer, stops, self.config, may_be_gone=True)
