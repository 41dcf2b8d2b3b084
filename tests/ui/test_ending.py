"""The head of a run that is over, as markup: foreign words escaped, a button where one helps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from modelforge.diagnosis.classify import Cause
from modelforge.runs.events import EventRecord
from modelforge.runs.states import RunState
from modelforge.services.diagnosis import Change
from ui.pages.run.result import KINDS, ending, in_a_sentence
from ui.pages.run.state import RunPicture


def seen(state, *said, cause=None, changes=()):
    picture = RunPicture()
    for n, (kind, data) in enumerate(said, start=1):
        picture.add(EventRecord(n, float(n), kind, data))
    run = SimpleNamespace(state=RunState(state), id="20260101-000000-0000")
    return SimpleNamespace(run=run, picture=picture, cause=cause, changes=list(changes))


STEPS = [("step", {"step": n, "loss": 3 - n / 10}) for n in range(1, 21)]
FINISHED = ("finished", {"steps": 20, "seconds": 5.0})
PATCH = {"label": "Apply and start again", "settings": {"per_device_train_batch_size": 2}}


def trouble(action=PATCH, *, certain=True, changes=()):
    cause = Cause(
        "out-of-memory", "memory", "The <b>GPU</b> is full.", "Halve it.", action, certain
    )
    return ending(seen("failed", cause=cause, changes=changes))


def test_nothing_stands_there_while_the_run_goes_on():
    assert ending(seen("running", *STEPS)) == ""
    assert in_a_sentence(seen("running", *STEPS)) == ""


def test_a_finished_run_has_its_verdict_with_the_numbers_folded():
    drawn = ending(seen("finished", *STEPS, FINISHED))
    assert "20 updates in 5 s. The loss fell from 2.80 to 1.10." in drawn
    assert KINDS["better"][0] in drawn
    assert "<details" in drawn
    assert "Loss at last" in drawn


def test_what_the_monitors_said_stands_with_the_numbers():
    note = ("note", {"code": "early-stop", "text": "Stopped <early>."})
    other = ("note", {"code": "data-changed", "text": "rows have changed"})
    drawn = ending(seen("finished", *STEPS, note, other, FINISHED))
    assert "Stopped &lt;early&gt;." in drawn
    assert "rows have changed" not in drawn


def test_what_was_thrown_away_is_not_judged():
    gone = ending(seen("stopped", *STEPS, ("stopped", {"step": 20, "kept": False})))
    kept = ending(seen("stopped", *STEPS, ("stopped", {"step": 20, "kept": True})))
    assert "Nothing is kept." in gone
    assert "The loss" not in gone
    assert "The loss fell" in kept


def test_trouble_is_told_escaped_with_cause_remedy_button_and_bundle():
    changes = [Change("per_device_train_batch_size", "Batch size", 4, 2)]
    drawn = trouble(changes=changes)
    assert "The &lt;b&gt;GPU&lt;/b&gt; is full." in drawn
    assert "Halve it." in drawn
    assert "Batch size 4 → 2" in drawn
    assert 'data-do="aid-apply"' in drawn
    assert "/api/runs/20260101-000000-0000/bundle" in drawn
    assert "inferred" not in drawn
    assert "inferred" in trouble(certain=False)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (None, None),
        ({"label": "Go on from the checkpoint", "kind": "resume"}, None),
        ({"label": "Free some disk space", "kind": "link", "href": "/machine"}, 'href="/machine"'),
        ({"label": "Start again", "settings": {}}, "The same settings, once more."),
    ],
)
def test_a_button_stands_only_where_it_does_something(action, expected):
    drawn = trouble(action)
    assert ("aid-apply" in drawn) == bool(action and "settings" in action)
    assert expected is None or expected in drawn
