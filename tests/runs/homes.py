"""Homes with a history: runs as they lie on the disk once they are over, made without a worker."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelforge.errors import Problem
from modelforge.runs.evaluations import (
    EvaluationFolder,
    EvaluationRecord,
    EvaluationRequest,
    EvaluationResult,
)
from modelforge.runs.evaluations import write_result as write_evaluation_result
from modelforge.runs.exports import (
    ExportFile,
    ExportFolder,
    ExportFormat,
    ExportRecord,
    ExportRequest,
    ExportResult,
    write_result,
)
from modelforge.runs.jobs import JobStep
from modelforge.runs.layout import RunFolder

PASSED = {"passed": True, "prompts": 20, "same_text": 19, "kl": 0.0123, "cause": "", "details": []}
RECORD = Path(__file__).parents[1] / "stored_runs" / "run-v1" / "config.json"


def put_run(
    home: Path,
    number: int = 0,
    *,
    ending: str | None = "finished",
    losses: Sequence[float] = (3.0, 2.0, 1.0),
    held: Sequence[float] = (),
    age_s: float = 3600.0,
    settled: bool = True,
    result: bool = True,
    checkpoints: Sequence[int] = (),
    sha256: str = "1f25a0209c24",
    environment: dict[str, Any] | None = None,
    **config: Any,
) -> RunFolder:
    """Put a run into a home; with no ending its worker is gone without a word."""
    record = json.loads(RECORD.read_text("utf-8"))
    name = config.pop("name", f"run {number}")
    folder = RunFolder(home / "runs" / f"20260101-{number // 60:06d}-{number:04x}")
    folder.path.mkdir(parents=True)
    created = time.time() - age_s - number
    record |= {"id": folder.id, "name": name, "created": created, "request_id": f"r{number}"}
    record["config"] = record["config"] | config
    record["dataset"]["sha256"] = sha256
    folder.config.write_text(json.dumps(record), "utf-8")
    folder.preflight.write_text("{}", "utf-8")
    facts = environment or {"python": "3.11", "packages": {"torch": "2.13.0"}}
    folder.environment.write_text(json.dumps(facts), "utf-8")
    folder.process.write_text('{"pid": 999999, "birth": 1.0}', "utf-8")
    folder.log.write_text("loading\n", "utf-8")
    write_events(folder, ending, losses, held, created)
    if result and ending == "finished":
        folder.output.mkdir()
        (folder.output / "adapter_config.json").write_text("{}", "utf-8")
        (folder.output / "adapter_model.safetensors").write_bytes(b"x" * 2000)
    for step in checkpoints:
        place = folder.checkpoints / f"checkpoint-{step}"
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"x" * 5000)
    if settled:
        long_ago = created + 60
        os.utime(folder.path, (long_ago, long_ago))
        os.utime(home / "runs", (long_ago, long_ago))
    return folder


def write_events(
    folder: RunFolder,
    ending: str | None,
    losses: Sequence[float],
    held: Sequence[float],
    began: float,
) -> None:
    """Write what a worker would have said."""
    kinds: list[tuple[str, dict[str, Any]]] = [("started", {"pid": 999999, "birth": 1.0})]
    kinds.append(("plan", {"total_steps": len(losses), "epochs": 1.0}))
    for step, loss in enumerate(losses, start=1):
        kinds.append(("step", {
            "step": step, "total_steps": len(losses), "epoch": step / len(losses), "loss": loss,
            "tokens": 100, "tokens_per_s": 50.0, "seconds": 2.0, "learning_rate": 1e-4,
        }))  # fmt: skip
    for place, loss in enumerate(held, start=1):
        step = place * len(losses) // len(held)
        kinds.append(("eval", {"step": step, "loss": loss, "best": True}))
    if ending == "failed":
        kinds.append(("failed", {"cause": "out-of-memory", "what": "Memory ran out.",
                                "remedy": "Use a smaller batch."}))  # fmt: skip
    elif ending:
        kinds.append((ending, {"steps": len(losses), "seconds": 2.0 * len(losses), "kept": True}))
    lines = [
        json.dumps({"n": n, "t": began + n, "kind": kind, "data": data})
        for n, (kind, data) in enumerate(kinds, start=1)
    ]
    folder.events.write_text("\n".join(lines) + "\n", "utf-8")


def add_samples(folder: RunFolder, times: dict[int, list[dict[str, Any]]]) -> None:
    """Add the answers to sample prompts at these steps to the events of a run."""
    records = [json.loads(line) for line in folder.events.read_text("utf-8").splitlines()]
    ending = records.pop()
    for step, answers in times.items():
        data = {"step": step, "answers": answers, "seconds": 4.0}
        records.append({"t": ending["t"], "kind": "samples", "data": data})
    lines = [json.dumps({**each, "n": n}) for n, each in enumerate([*records, ending], start=1)]
    folder.events.write_text("\n".join(lines) + "\n", "utf-8")


def put_export(
    home: Path,
    run: RunFolder,
    number: int = 0,
    *,
    state: str = "finished",
    format: ExportFormat = "gguf",
    age_s: float = 600.0,
    file: str = "",
    self_test: dict[str, Any] | None = None,
    problem: Problem | None = None,
    address: str = "",
    steps: Sequence[JobStep] = (),
    process: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    **request: Any,
) -> ExportFolder:
    """Put an export into a home; `state` is finished, failed, stopped, lost, queued or running."""
    folder = ExportFolder(home / "exports" / f"20260102-{number:06d}-000{number:04x}")
    folder.path.mkdir(parents=True)
    name = json.loads(run.config.read_text("utf-8"))["name"]
    created = time.time() - age_s
    asked = ExportRequest(run.id, format, **request)
    sizes = {"bytes": 2**20, "disk_bytes": 2**21, "memory_bytes": 2**22, "seconds": 90.0}
    record = ExportRecord(asked, name, "stem", created, **sizes, facts=facts or {})
    folder.record_file.write_text(json.dumps(record.as_dict()), "utf-8")
    folder.log.write_text("Merging\n", "utf-8")
    lines = (json.dumps(asdict(step)) + "\n" for step in steps)
    folder.events.write_text("".join(lines), "utf-8")
    if state != "queued":
        gone = {"pid": 999999, "birth": 1.0}
        folder.process_file.write_text(json.dumps(process or gone), "utf-8")
    if state == "stopped":
        folder.stop_file.touch()
    if state in ("finished", "failed"):
        place = folder.files if state == "finished" else folder.not_usable
        place.mkdir()
        file = file or f"stem.{format}"
        (place / file).write_bytes(b"GGUF" * 100)
        files = (ExportFile(file, 400),)
        test = self_test if self_test is not None or state == "failed" else PASSED
        result = ExportResult(state, created + 60, files, test, problem, address)
        write_result(folder, result)
    return folder


def put_evaluation(
    home: Path,
    run: RunFolder,
    number: int = 0,
    *,
    state: str = "finished",
    age_s: float = 600.0,
    report: dict[str, Any] | None = None,
    problem: Problem | None = None,
    steps: Sequence[JobStep] = (),
    process: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    **request: Any,
) -> EvaluationFolder:
    """Put an evaluation into a home, in a state as `put_export` takes it."""
    folder = EvaluationFolder(home / "evaluations" / f"20260103-{number:06d}-000{number:04x}")
    folder.path.mkdir(parents=True)
    name = json.loads(run.config.read_text("utf-8"))["name"]
    created = time.time() - age_s
    asked = EvaluationRequest(run.id, **request)
    record = EvaluationRecord(asked, name, created, 90.0, 2**22, facts or {})
    folder.record_file.write_text(json.dumps(record.as_dict()), "utf-8")
    folder.log.write_text("Loading\n", "utf-8")
    lines = (json.dumps(asdict(step)) + "\n" for step in steps)
    folder.events.write_text("".join(lines), "utf-8")
    if report is not None:
        folder.report.write_text(json.dumps(report), "utf-8")
    if state != "queued":
        gone = {"pid": 999999, "birth": 1.0}
        folder.process_file.write_text(json.dumps(process or gone), "utf-8")
    if state == "stopped":
        folder.stop_file.touch()
    if state in ("finished", "failed"):
        write_evaluation_result(folder, EvaluationResult(state, created + 60, problem))
    return folder
