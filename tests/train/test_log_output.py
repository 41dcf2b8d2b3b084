"""What the log of a run contains, and the copy of it."""

from __future__ import annotations

import logging
import re

import pytest

from modelforge.runs.event_types import StepEvent
from modelforge.runs.events import EventWriter
from modelforge.train.event_log import EventLog

pytestmark = pytest.mark.torch
STEP, PHASE, NOTE, ENDING = "step 2", "Tokenizing the rows", "cannot be copied", "Finished after"


def lines_of(bench, capsys, **settings):
    """Return what one short run writes to its log."""
    run = bench.prepare(max_steps=2, logging=settings)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    return capsys.readouterr().out, run, events


@pytest.mark.parametrize(
    ("level", "present", "absent"),
    [
        ("info", (STEP, PHASE, NOTE, ENDING), ("trl", "transformers.trainer:")),
        ("warning", (NOTE, ENDING), (STEP, PHASE)),
        ("error", (ENDING,), (STEP, PHASE, NOTE)),
        ("debug", (STEP, PHASE, NOTE, ENDING, "transformers.trainer:"), ()),
    ],
)
def test_the_log_has_the_lines_of_its_level(bench, capsys, tmp_path, level, present, absent):
    folder = tmp_path / "no-folder" / "x.log"
    text, _run, events = lines_of(bench, capsys, log_level=level, log_file=str(folder))
    for part in present:
        assert part in text
    for part in absent:
        assert part not in text
    # Pages and charts do not depend on the level.
    assert [event.data["step"] for event in events if event.kind == "step"] == [1, 2]
    assert "log-copy-failed" in [event.data.get("code") for event in events]


def test_libraries_are_as_quiet_as_before_after_a_run_in_detail(bench, capsys):
    library = logging.getLogger("trl")
    library.setLevel(logging.ERROR)
    before = (library.level, list(library.handlers), library.propagate)
    lines_of(bench, capsys, log_level="debug")
    assert (library.level, list(library.handlers), library.propagate) == before


def test_the_lines_are_appended_to_the_copy_too(bench, capsys, tmp_path):
    copy = tmp_path / "all.log"
    copy.write_text("earlier\n", encoding="utf-8")
    text, run, _ = lines_of(bench, capsys, log_file=str(copy))
    first, which, *rest = copy.read_text("utf-8").splitlines()
    assert first == "earlier"
    assert run.id in which
    assert rest == [line for line in text.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert any(STEP in line for line in rest)


def test_a_copy_that_becomes_unwritable_is_given_up_with_a_note(tmp_path, capsys):
    class Full:
        def write(self, _text):
            raise OSError(28, "No space left on device")

    with EventWriter(tmp_path / "events.jsonl") as events:
        log = EventLog(events)
        log.copy = Full()
        log.write(StepEvent(step=1, loss=1.0, learning_rate=0.1, tokens_per_s=1.0))
        log.line("later")
    shown = capsys.readouterr().out
    assert "The copy of the log ends here" in shown
    assert shown.index("ends here") < shown.index("later")
    assert log.copy is None
