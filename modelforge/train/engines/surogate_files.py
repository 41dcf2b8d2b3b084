"""What Surogate reads: its YAML and the rows of the run, written into the folder of the run."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from modelforge.config.engines import COMMANDS
from modelforge.config.exporters import surogate
from modelforge.config.exporters.facts import Facts
from modelforge.config.plan.make import Plan
from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.runs.layout import RunFolder
from modelforge.train.job import Job, WorkerContext

# How Surogate reads each kind of our rows: the options of a data set.
KINDS: dict[str, dict[str, str]] = {
    "messages": {"type": "conversation", "messages_field": "messages"},
    "text": {"type": "text", "text_field": "text"},
    "chosen": {"type": "preference"},
}
SPLITS = ("train", "eval")


@dataclass(frozen=True)
class EngineFiles:
    """The files of Surogate in a run folder."""

    folder: Path

    @classmethod
    def of(cls, run: RunFolder) -> EngineFiles:
        """Return the files of a run."""
        return cls(run.engine)

    @property
    def config(self) -> Path:
        """Its YAML."""
        return self.folder / "surogate.yaml"

    @property
    def model(self) -> Path:
        """The base model as Surogate reads it."""
        return self.folder / "model"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "log.json"

    @property
    def output(self) -> Path:
        """The folder in which it writes tokens and the result."""
        return self.folder / "output"

    @property
    def checkpoints(self) -> Path:
        """The folder in which it writes checkpoints, step_00000100 and so on."""
        return self.folder / "checkpoints"

    def rows(self, split: str, kind: str) -> Path:
        """Return the file of the rows of one kind: `split` is train or eval."""
        return self.folder / f"{split}-{kind}.jsonl"

    def begin(self) -> None:
        """Delete what an earlier worker left, and make the folders."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.folder, self.output, self.checkpoints):
            folder.mkdir()

    def remove_results(self) -> None:
        """Delete what the run has taken over: tokens, checkpoints and the result."""
        for folder in (self.output, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class WrittenRows:
    """The rows that were written: how many of each kind, by split, and which have tools."""

    counts: dict[tuple[str, str], int]
    with_tools: set[str]

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        return sum(count for (name, _kind), count in self.counts.items() if name == split)

    def datasets(self, files: EngineFiles, split: str) -> list[dict[str, Any]]:
        """Return the data sets of a split as options of Surogate."""
        entries = []
        for (name, kind), count in self.counts.items():
            if name == split and count:
                tools = {"tools_field": "tools"} if kind in self.with_tools else {}
                entries.append({"path": str(files.rows(split, kind)), **KINDS[kind], **tools})
        return entries


def write_rows(context: WorkerContext, files: EngineFiles, rows: Any) -> WrittenRows:
    """Write rows with the information whether they are for evaluation; return the counts.

    Args:
        context: The run.
        files: Where they are written.
        rows: Iterator of (canonical row, is for evaluation).

    Raises:
        WorkerError: `nothing-to-learn` if no training row is left.
    """
    written = WrittenRows({}, set())
    unusable = 0
    system = (context.job.config.model.system_prompt or "").strip()
    with ExitStack() as stack:
        open_files: dict[tuple[str, str], IO[str]] = {}
        for row, is_eval in rows:
            context.stop.check()
            kind, prepared = _prepared(row, system)
            if prepared is None:
                unusable += 1
                continue
            key = SPLITS[is_eval], kind
            if key not in open_files:
                open_files[key] = stack.enter_context(files.rows(*key).open("w", encoding="utf-8"))
            open_files[key].write(json.dumps(prepared, ensure_ascii=False) + "\n")
            written.counts[key] = written.counts.get(key, 0) + 1
            if prepared.get("tools"):
                written.with_tools.add(kind)
    if not written.count("train"):
        what = "No row has a form that Surogate trains on."
        remedy = "Use conversations, text or preference pairs, or the engine inprocess."
        raise WorkerError("nothing-to-learn", Problem("dataset", what, remedy))
    if unusable:
        text = f"{unusable:,} rows have a form that Surogate does not train on; they are left out."
        context.log.note("engine-rows", text)
    return written


def _prepared(row: Canonical, system: str) -> tuple[str, dict[str, Any] | None]:
    """Return the kind of a row and what is written of it; None if Surogate cannot train on it."""
    if "messages" in row:
        return "messages", {**row, "messages": _with_system(row["messages"], system)}
    if "text" in row:
        return "text", {"text": row["text"]}
    if "chosen" in row:
        answers = {side: _only_answer(row[side]) for side in ("chosen", "rejected")}
        if None in answers.values() or "tools" in row:
            return "chosen", None
        return "chosen", {"prompt": _with_system(row["prompt"], system), **answers}
    return "", None


def _with_system(messages: list[dict[str, Any]], system: str) -> list[dict[str, Any]]:
    if not system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]


def _only_answer(messages: list[dict[str, Any]]) -> str | None:
    """Return the text of a completion of one message; None for any other."""
    is_one = len(messages) == 1 and not messages[0].get("tool_calls")
    return str(messages[0]["content"]) if is_one else None


def write_config(job: Job, files: EngineFiles, rows: WrittenRows, *, resumes: bool) -> None:
    """Write the YAML of a run."""
    options, _report = surogate.SYSTEM.walk(Facts(job.config, job.plan, data="rows"))
    # The rows hold the system message, and the model has the template.
    for name in ("system", "template"):
        options.pop(name, None)
    validation = rows.datasets(files, "eval")
    options |= {
        "run_name": job.name,
        "model": str(files.model),
        "datasets": rows.datasets(files, "train"),
        **({"validation_datasets": validation} if validation else {}),
        "validation_split_ratio": 0.0,
        "eval_steps": _evaluated_every(job.plan),
        "output_dir": str(files.output),
        "checkpoint_dir": str(files.checkpoints),
        "log_file": str(files.log),
        "resume_from_checkpoint": resumes,
        # The run merges its adapter itself.
        "merge_adapter": False,
        "gpus": 1,
    }
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True, width=100)
    files.config.write_text(text, encoding="utf-8")


def _evaluated_every(plan: Plan) -> int:
    """Return the interval of evaluations; Surogate evaluates before a step, and not at the end."""
    if not plan.eval_steps:
        return 0
    is_at_end = plan.total_steps is not None and plan.eval_steps >= plan.total_steps
    return max(1, plan.total_steps - 1) if is_at_end and plan.total_steps else plan.eval_steps


def command_of(job: Job, program: tuple[str, ...], files: EngineFiles) -> list[str]:
    """Return the command that trains with the YAML."""
    return [*program, COMMANDS[job.plan.method], str(files.config)]
