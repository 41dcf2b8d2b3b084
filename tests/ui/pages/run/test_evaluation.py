"""The Evaluation tab: its states, what is started, and the side panel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelforge.errors import Problem
from modelforge.runs.evaluations import EvaluationFolder, EvaluationRequest
from tests.runs.homes import put_evaluation, put_run
from tests.services.exports.conftest import put_from_nothing, put_model
from tests.ui.pages.run.reports import report
from ui.pages.run import evaluation


@pytest.fixture
def run(forge):
    return put_run(forge.home.root, held=[1.5, 0.9], name="captain")


@pytest.fixture
def show(forge):
    functions = {each.__name__: each for each in evaluation.functions(forge)}
    return functions["show_evaluation"]


def put(forge: Any, run: Any, number: int = 1, **more: Any) -> EvaluationFolder:
    return put_evaluation(forge.home.root, run, number, age_s=600.0 - number, **more)


def test_a_run_without_an_evaluation_offers_one(show, run):
    reply = show({"run": run.id})
    assert reply.is_first
    assert not reply.is_active
    assert "Not evaluated yet" in reply.parts["evaluation-start"]
    assert 'data-action="evaluate"' in reply.parts["evaluation-start"]
    assert not reply.parts["evaluation-report"]
    side = reply.parts["evaluation-side"]
    assert "Verdict" not in side
    assert "0.90" in side
    # One filled button per page: Evaluate.
    assert "btn go" not in side


def test_a_run_without_a_model_says_why(show, forge):
    failed = put_run(forge.home.root, 1, ending="failed")
    reply = show({"run": failed.id})
    assert not reply.parts["evaluation-start"]
    assert "This run kept no model." in reply.parts["evaluation-report"]


def test_a_model_from_nothing_is_not_compared_with_a_base_model(show, forge, tmp_path):
    new = put_from_nothing(forge.home.root, put_model(tmp_path / "tiny"), 1)
    reply = show({"run": new.id})
    assert not reply.parts["evaluation-start"]
    assert "there is no base model to compare it with" in reply.parts["evaluation-report"]
    assert "prompted" not in reply.parts["evaluation-report"]


def test_a_finished_evaluation_shows_its_report(show, forge, run):
    folder = put(forge, run, report=report())
    reply = show({"run": run.id})
    assert reply.shown == folder.id
    assert "Better than the base model" in reply.parts["evaluation-report"]
    assert "2.29" in reply.parts["evaluation-side"]
    assert "102 rows" in reply.parts["evaluation-side"]
    assert "256 tokens" in reply.parts["evaluation-measured"]
    assert "| Perplexity |" in reply.parts["evaluation-measured"]
    assert not reply.parts["evaluation-progress"]
    assert "Evaluate again" in reply.parts["evaluation-start"]


def test_an_earlier_evaluation_can_be_chosen(show, forge, run):
    newest = put(forge, run, 2, report=report())
    older_verdict = {"kind": "worse", "sentence": "Worse than the base model."}
    older = put(forge, run, 1, report=report(verdict=older_verdict))
    assert show({"run": run.id}).shown == newest.id
    reply = show({"run": run.id, "evaluation": older.id})
    assert reply.shown == older.id
    assert "Worse than the base model." in reply.parts["evaluation-report"]
    assert f'value="{older.id}" selected' in reply.parts["evaluation-measured"]
    assert show({"run": run.id, "evaluation": "gone"}).shown == newest.id


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("stopped", "What was computed is kept"),
        ("failed", "The &lt;GPU&gt; is full. Close it."),
        ("lost", "ended unexpectedly"),
    ],
)
def test_how_it_ended_is_shown_above_the_earlier_report(show, forge, run, state, text):
    put(forge, run, 1, report=report())
    problem = Problem("evaluation", "The <GPU> is full.", "Close it.")
    put(forge, run, 2, state=state, problem=problem if state == "failed" else None)
    reply = show({"run": run.id})
    assert text in reply.parts["evaluation-progress"]
    assert "report of an earlier evaluation" in reply.parts["evaluation-progress"]
    assert "Better than the base model" in reply.parts["evaluation-report"]
    assert 'data-action="evaluate-again"' in reply.parts["evaluation-progress"]


def test_a_stopped_evaluation_shows_what_it_has(show, forge, run):
    put(forge, run, state="stopped", report=report(forgetting=None, examples=[]))
    reply = show({"run": run.id})
    assert "stopped" in reply.parts["evaluation-progress"]
    assert "earlier evaluation" not in reply.parts["evaluation-progress"]
    assert "Better than the base model" in reply.parts["evaluation-report"]


def test_one_that_waits_says_for_what(show, forge, run):
    put(forge, run, state="queued")
    reply = show({"run": run.id})
    assert reply.is_active
    assert "Waiting for its evaluation" in reply.parts["evaluation-progress"]
    assert not reply.parts["evaluation-start"]


def test_the_stamp_changes_with_each_evaluation(show, forge, run):
    stamps = {show({"run": run.id}).stamp}
    put(forge, run, 1, report=report())
    stamps.add(show({"run": run.id}).stamp)
    put(forge, run, 2, state="stopped")
    stamps.add(show({"run": run.id}).stamp)
    assert len(stamps) == 3


def test_foreign_names_and_problems_are_text(show, forge, run):
    payload = "<img src=x onerror=alert(1)>"
    put(forge, run, state="failed", problem=Problem("x", payload, payload))
    reply = show({"run": run.id})
    assert payload not in json.dumps(reply.parts)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"run": "r"}, EvaluationRequest("r")),
        (
            {"run": "r", "rows": "1,000", "answers": False, "tasks": "arc_easy, hellaswag",
             "prompts": " /p.jsonl ", "general": False, "prompted": False},
            EvaluationRequest("r", 1000, False, False, False, "/p.jsonl",
                              ("arc_easy", "hellaswag")),
        ),
        ({"run": "r", "rows": "many", "answers": "no", "tasks": 4}, EvaluationRequest("r")),
    ],
)  # fmt: skip
def test_fields_become_a_request(request_, expected):
    assert evaluation.read_request(request_) == expected
