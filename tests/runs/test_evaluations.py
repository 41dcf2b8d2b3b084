"""The record, the result and the report of an evaluation are read as they were written."""

from __future__ import annotations

from pathlib import Path

from modelforge.errors import Problem
from modelforge.runs.atomic_files import write_json
from modelforge.runs.evaluations import (
    EvaluationFolder,
    EvaluationRecord,
    EvaluationRequest,
    EvaluationResult,
    write_result,
)
from modelforge.runs.jobs import JobState, StepWriter, job_folders, queue_again, unfinished

REQUEST = EvaluationRequest("20260101-000001", rows=50, tasks=("arc_easy",), prompts="/p.jsonl")
RECORD = EvaluationRecord(REQUEST, "Support desk", 7.0, 60.0, 900, {"device": "cpu"})


def put(parent: Path, name: str = "one") -> EvaluationFolder:
    folder = EvaluationFolder(parent / name)
    folder.path.mkdir(parents=True)
    write_json(folder.record_file, RECORD.as_dict())
    return folder


def test_a_record_and_a_result_are_read_as_they_were_written(tmp_path):
    folder = put(tmp_path)
    assert folder.record() == RECORD
    assert folder.state() is JobState.QUEUED
    result = EvaluationResult("failed", 8.0, Problem("run", "It is gone.", "Restore it."))
    write_result(folder, result)
    assert folder.result() == result
    assert folder.state() is JobState.FAILED


def test_damaged_files_are_none(tmp_path):
    folder = put(tmp_path)
    for damaged in ("[", "{}", '{"request": 3}', '{"request": {"run": "a", "tasks": 3}}'):
        folder.record_file.write_text(damaged, "utf-8")
        folder.result_file.write_text(damaged, "utf-8")
        folder.report.write_text("[", "utf-8")
        assert (folder.record(), folder.result(), folder.read_report()) == (None, None, None)


def test_an_evaluation_that_is_queued_again_keeps_what_was_computed(tmp_path):
    folder = put(tmp_path)
    StepWriter(folder.events).begin("base", "The base model answers")
    folder.answers.write_text("{}\n", "utf-8")
    folder.work.mkdir()
    write_json(folder.process_file, {"pid": 1, "started": 1.0})
    assert folder.state() is JobState.LOST
    assert unfinished(tmp_path, EvaluationFolder) == []
    queue_again(folder)
    assert folder.state() is JobState.QUEUED
    assert unfinished(tmp_path, EvaluationFolder) == [(folder, RECORD)]
    assert folder.steps() == []
    assert folder.answers.exists()
    assert not folder.work.exists()


def test_folders_without_a_record_are_not_jobs(tmp_path):
    put(tmp_path, "b")
    put(tmp_path, "a")
    put(tmp_path, ".staged")
    (tmp_path / "c").mkdir()
    assert [folder.id for folder in job_folders(tmp_path, EvaluationFolder)] == ["a", "b"]
    assert job_folders(tmp_path / "none", EvaluationFolder) == []
