"""How a run ended: the verdict, or the cause with a fix; all text is escaped."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from modelforge.diagnosis.classify import Cause
from modelforge.runs.events import EventRecord
from modelforge.runs.states import RunState
from modelforge.runs.timeline import Timeline
from modelforge.services.diagnosis import Change
from modelforge.services.resume import ResumeOption, ResumeOptions
from ui.html import format as fmt
from ui.pages.run.result import ending, ending_text


def snapshot(state, *events, cause=None, changes=(), offers=None):
    timeline = Timeline()
    for n, (kind, data) in enumerate(events, start=1):
        timeline.add(EventRecord(n, float(n), kind, data))
    run = SimpleNamespace(state=RunState(state), id="20260101-000000-0000", duration=22.0)
    return SimpleNamespace(
        run=run, timeline=timeline, cause=cause, changes=list(changes), offers=offers
    )


STEPS = [("step", {"step": n, "loss": 3 - n / 10}) for n in range(1, 21)]
FINISHED = ("finished", {"steps": 20, "seconds": 5.0})
PATCH = {"label": "Apply and start again", "settings": {"per_device_train_batch_size": 2}}


def failure(action=PATCH, *, certain=True, changes=()):
    cause = Cause(
        "out-of-memory", "memory", "The <b>GPU</b> is full.", "Halve it.", action, certain
    )
    return ending(snapshot("failed", cause=cause, changes=changes))


def test_an_active_run_has_no_ending():
    assert ending(snapshot("running", *STEPS)) == ""
    assert ending_text(snapshot("running", *STEPS)) == ""


def test_a_finished_run_has_a_verdict_with_its_numbers():
    drawn = ending(snapshot("finished", *STEPS, FINISHED))
    assert "20 steps in 22 s. The loss fell from 2.80 to 1.10." in drawn
    assert fmt.VERDICTS["better"][0] in drawn
    assert "<details" in drawn
    assert "Loss at the end" in drawn


def test_notes_of_the_monitors_explain_the_verdict():
    note = ("note", {"code": "early-stop", "text": "Stopped <early>."})
    other = ("note", {"code": "data-changed", "text": "rows have changed"})
    drawn = ending(snapshot("finished", *STEPS, note, other, FINISHED))
    assert "Stopped &lt;early&gt;." in drawn
    assert "rows have changed" not in drawn


def test_a_discarded_model_has_no_verdict():
    gone = ending(snapshot("stopped", *STEPS, ("stopped", {"step": 20, "kept": False})))
    kept = ending(snapshot("stopped", *STEPS, ("stopped", {"step": 20, "kept": True})))
    assert "Nothing is kept." in gone
    assert "The loss" not in gone
    assert "The loss fell" in kept


def test_what_a_run_without_a_model_has_kept_is_said():
    none = ResumeOption("continue")
    kept = ResumeOptions(ResumeOption("resume", stage=2), none, none, [])
    cause = Cause("unexpected", "run", "It broke.", "Read the log.", None, certain=True)
    text = "The model of stage 1 is kept; resuming continues with stage 2."
    failed = snapshot("failed", cause=cause, offers=kept)
    assert text in ending(failed)
    assert ending_text(failed).endswith(text)
    between = ("stopped", {"step": 0, "kept": False, "stage": 2})
    stopped = snapshot("stopped", *STEPS, between, offers=kept)
    assert f"Stopped after 0 steps of stage 2. {text}" in ending(stopped)
    assert "Nothing is kept" not in ending_text(stopped)
    checkpoint = ResumeOptions(ResumeOption("resume", 8, 1), none, none, [])
    early = snapshot("stopped", ("stopped", {"step": 9, "stage": 1}), offers=checkpoint)
    assert "The checkpoint of step 8 is kept; resuming continues from it." in ending(early)
    later = ResumeOption("resume", 1200, 3)
    assert (
        later.kept == "The checkpoint of step 1,200 of stage 3 is kept; resuming continues from it."
    )
    assert ResumeOption("resume", stage=3).kept.startswith("The model of stage 2 is kept;")
    nothing = ResumeOptions(ResumeOption("resume"), none, none, [])
    gone = snapshot("stopped", ("stopped", {"step": 9, "stage": 1}), offers=nothing)
    assert "Stopped after 9 steps of stage 1. Nothing is kept." in ending(gone)


def test_a_failure_has_cause_remedy_fix_and_bundle():
    changes = [Change("per_device_train_batch_size", "Batch size", 4, 2)]
    drawn = failure(changes=changes)
    assert "The &lt;b&gt;GPU&lt;/b&gt; is full." in drawn
    assert "Halve it." in drawn
    assert "Batch size 4 → 2" in drawn
    assert 'data-action="apply-fix"' in drawn
    assert "/api/runs/20260101-000000-0000/bundle" in drawn
    assert "Inferred" not in drawn
    assert "Inferred" in failure(certain=False)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (None, None),
        ({"label": "Resume from the checkpoint", "kind": "resume"}, None),
        ({"label": "Free some disk space", "kind": "link", "href": "/machine"}, 'href="/machine"'),
        ({"label": "Start again", "settings": {}}, "with the same settings"),
    ],
)
def test_only_a_possible_action_has_a_button(action, expected):
    drawn = failure(action)
    assert ("apply-fix" in drawn) == bool(action and "settings" in action)
    assert expected is None or expected in drawn
