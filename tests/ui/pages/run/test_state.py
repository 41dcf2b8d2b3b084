"""Pictures of runs that went on, and of runs that are long."""

from __future__ import annotations

from modelforge.runs.event_types import StepEvent
from modelforge.runs.events import EventRecord, EventWriter, read_events
from ui.pages.run.state import LOG_LINES, RunPicture, RunWatcher


def picture(*said):
    made = RunPicture()
    for n, (t, kind, data) in enumerate(said, start=1):
        made.add(EventRecord(n, t, kind, data))
    return made


def step(t, number, loss=1.0, **more):
    return t, "step", {"step": number, "loss": loss, "seconds": 1.0, **more}


WENT_ON = {"step": 2, "stage": None, "checkpoint": "checkpoint-2",
           "damaged": [{"name": "checkpoint-4", "why": "a file is cut short"}]}  # fmt: skip


def test_a_run_that_went_on_shows_no_point_twice():
    seen = picture(
        (0.0, "started", {}),
        (0.0, "plan", {"total_steps": 6}),
        *(step(float(n), n, metrics={"reward": float(n)}) for n in range(1, 5)),
        (4.0, "eval", {"step": 4, "loss": 0.1, "best": True}),
        (4.0, "sample", {"step": 1, "prompt": "early"}),
        (4.0, "sample", {"step": 4, "prompt": "late"}),
        (5.0, "failed", {"what": "Out of memory."}),
        (1000.0, "started", {}),
        (1001.0, "resumed", WENT_ON),
        step(1002.0, 3),
        step(1003.0, 4),
    )
    assert [x for x, _ in seen.now.series["loss"]] == [1, 2, 3, 4]
    assert [x for x, _ in seen.now.metrics["reward"]] == [1, 2]
    assert not seen.now.evals
    assert seen.now.best is None
    assert [one["prompt"] for one in seen.samples] == ["early"]
    assert seen.ending is None
    assert any("resumed from step 2" in line for line in seen.log)
    assert any("checkpoint-4" in line and "cut short" in line for line in seen.log)
    # The pace is that of the updates made since, and the night in between was no work.
    assert seen.seconds_left == 2.0


def test_a_later_stage_goes_when_the_first_goes_on():
    seen = picture(
        (0.0, "plan", {"stage": 1, "stages": 2}), step(1.0, 1, stage=1),
        (2.0, "plan", {"stage": 2, "stages": 2}), step(3.0, 1, stage=2),
        (9.0, "started", {}), (9.0, "resumed", {"step": 1, "stage": 1}),
    )  # fmt: skip
    assert [one.number for one in seen.stretches] == [1]


def test_a_long_file_is_read_in_parts_and_kept_small(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        for number in range(1, 3001):
            writer.write(StepEvent(step=number, loss=1.0 / number))
    parts = []

    def read(after):
        events, cursor = read_events(path, after, 20_000)
        parts.append(len(events))
        return events, cursor

    watcher = RunWatcher(read)
    while watcher.picture.step < 3000:
        watcher.poll()
    assert len(parts) > 5
    assert watcher.picture.now.series["loss"][0] == (1, 1.0)
    assert watcher.picture.now.series["loss"][-1] == (3000, 1 / 3000)
    assert len(watcher.picture.now.series["loss"]) < 1100
    assert len(watcher.picture.log) == LOG_LINES
    assert "step 3000" in watcher.picture.log[-1]
