"""Event types: what is written is read back; old names, unknown kinds and wrong values."""

from __future__ import annotations

import pytest

from modelforge.api.openapi_docs import events_markdown
from modelforge.api.schemas import event_schemas
from modelforge.runs.event_types import (
    KINDS,
    EvalEvent,
    FinishedEvent,
    PhaseEvent,
    StepEvent,
    TrialRunEvent,
    UnknownEvent,
    field_specs,
    parse,
    with_current_names,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_documented(kind):
    assert KINDS[kind].__doc__
    assert all(spec.info.text.endswith(".") for spec in field_specs(KINDS[kind]))


def test_the_page_on_events_has_every_field():
    page = events_markdown()
    for kind, event in KINDS.items():
        assert f"## {kind}" in page
        assert all(f"`{spec.name}`" in page for spec in field_specs(event))


def test_the_schema_has_every_kind():
    assert [schema["title"] for schema in event_schemas()] == list(KINDS)


def test_a_written_event_is_read_back():
    event = StepEvent(step=3, loss=0.5, metrics={"entropy": 1.0})
    assert parse("step", event.as_data()) == event
    assert "stage" not in event.as_data()
    assert event.as_data()["epoch"] is None


def test_old_names_are_read_as_the_new_ones():
    numbers = {"peak_gib": 1.0, "seconds_per_update": 2.0}
    assert isinstance(parse(*with_current_names("rehearsed", numbers)), TrialRunEvent)
    finished = parse(*with_current_names("finished", {"steps": 7, "rehearsal": True}))
    assert finished == FinishedEvent(steps=7, trial_run=True)
    phase = parse(*with_current_names("phase", {"name": "rehearsing", "text": "x"}))
    assert phase == PhaseEvent(name="trial_run", text="x")


def test_events_of_newer_versions_lose_only_what_is_unknown():
    assert parse("dream", {"text": "x"}) == UnknownEvent()
    assert parse("eval", {"step": 2, "loss": 1.0, "new": [1]}) == EvalEvent(step=2, loss=1.0)


def test_values_of_the_wrong_type_are_ignored():
    assert parse("step", {"step": 1, "loss": "high", "metrics": None}) == StepEvent(step=1)
    assert parse("step", {"loss": 1.0}) == UnknownEvent()
