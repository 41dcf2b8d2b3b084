"""Names, tags and notes: tidied, bounded, and never trusted when read."""

from __future__ import annotations

import json

import pytest

from modelforge.errors import ConfigError, NotFoundError
from modelforge.runs.notes import LONGEST_NOTE, MOST_TAGS, Notes, read_notes, short_model_name


def test_notes_are_written_and_read_again(stage, run):
    assert read_notes(run) == Notes()
    stage.store.annotate(run.id, name=" The  good\none ", tags=["#Keep", "keep", " a b ", ""])
    stage.store.annotate(run.id, note="line one\nline two\x1b[31m")
    assert read_notes(run) == Notes("The good one", ("keep", "a b"), "line one\nline two[31m")
    stage.store.annotate(run.id, name="", tags=[])
    assert read_notes(run) == Notes(note="line one\nline two[31m")


def test_the_result_of_a_run_is_called_like_the_run(stage, run, tmp_path):
    stage.store.annotate(run.id, name="my first model")
    assert short_model_name(str(run.output)) == "my first model"
    assert short_model_name(f"{run.output}/") == "my first model"
    other = tmp_path / "elsewhere" / "output"
    assert short_model_name(str(other)) == "output"
    names = {"Qwen/Qwen3-0.6B": "Qwen3-0.6B", r"C:\models\mine": "mine", "output": "output", "": ""}
    assert [short_model_name(name) for name in names] == list(names.values())
    assert short_model_name("x" * 5000 + "/output") == "output"


def test_everything_that_is_too_long_is_reported_at_once(stage, run):
    tags = [f"tag {number}" for number in range(MOST_TAGS + 1)]
    with pytest.raises(ConfigError) as caught:
        stage.store.annotate(run.id, name="x" * 121, note="x" * (LONGEST_NOTE + 1), tags=tags)
    assert [problem.where for problem in caught.value.problems] == ["name", "note", "tags"]
    assert not run.about.exists()


def test_a_run_that_is_not_there_has_no_notes(stage):
    with pytest.raises(NotFoundError):
        stage.store.annotate("20260101-000000-none", note="x")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"name": 3, "tags": "x", "note": []}', '{"tags": [1, null]}']
)
def test_a_file_that_is_none_says_nothing(run, text):
    run.about.write_text(text)
    assert read_notes(run) == Notes()


def test_a_file_beyond_all_bounds_is_cut(run):
    text = {"name": "n" * 10**5, "tags": ["t" * 1000] * 1000, "note": "x" * 10**6}
    run.about.write_text(json.dumps(text))
    notes = read_notes(run)
    assert len(notes.name) == 120
    assert len(notes.tags) == MOST_TAGS
    assert len(notes.note) == LONGEST_NOTE
