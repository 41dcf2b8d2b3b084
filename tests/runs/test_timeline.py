"""The timeline of runs that were resumed, and of long runs; its readers."""

from __future__ import annotations

from modelforge.runs import events, timeline
from modelforge.runs.event_types import PhaseEvent, StartedEvent, StepEvent
from modelforge.runs.events import EventRecord, EventWriter
from modelforge.runs.timeline import Timeline, TimelineReader, tail_timeline, timeline_reader
from ui.pages.run.state import log_lines, stage_seconds_left


def timeline_of(*events):
    records = (EventRecord(n, *event) for n, event in enumerate(events, start=1))
    return Timeline().add_all(records)


def step(t, number, loss=1.0, **more):
    return t, "step", {"step": number, "loss": loss, "seconds": 1.0, **more}


WENT_ON = {"step": 2, "stage": None, "checkpoint": "checkpoint-2",
           "damaged": [{"name": "checkpoint-4", "why": "a file is cut short"}]}  # fmt: skip


def test_a_run_that_went_on_shows_no_point_twice():
    seen = timeline_of(
        (0.0, "started", {"pid": 1, "birth": 1.0}),
        (0.0, "plan", {"total_steps": 6}),
        *(step(float(n), n, metrics={"reward": float(n)}) for n in range(1, 5)),
        (4.0, "eval", {"step": 4, "loss": 0.1, "best": True}),
        (4.0, "sample", {"step": 1, "prompt": "early"}),
        (4.0, "sample", {"step": 4, "prompt": "late"}),
        (5.0, "failed", {"what": "Out of memory."}),
        (1000.0, "started", {"pid": 1, "birth": 1.0}),
        (1001.0, "resumed", WENT_ON),
        step(1002.0, 3),
        step(1003.0, 4),
    )
    assert [x for x, _ in seen.stage.train["loss"]] == [1, 2, 3, 4]
    assert [x for x, _ in seen.stage.train["reward"]] == [1, 2]
    assert not seen.stage.eval["loss"]
    assert seen.stage.best is None
    assert [sample.prompt for sample in seen.samples] == ["early"]
    assert seen.ending is None
    assert any("resumed from step 2" in line for line in log_lines(seen))
    assert any("checkpoint-4" in line and "cut short" in line for line in log_lines(seen))
    # The pace is that of the updates made since, and the night in between was no work.
    assert stage_seconds_left(seen) == 2.0


def test_a_later_stage_goes_when_the_first_goes_on():
    seen = timeline_of(
        (0.0, "plan", {"total_steps": 1, "stage": 1, "stages": 2}), step(1.0, 1, stage=1),
        (2.0, "plan", {"total_steps": 1, "stage": 2, "stages": 2}), step(3.0, 1, stage=2),
        (9.0, "started", {"pid": 1, "birth": 1.0}), (9.0, "resumed", {"step": 1, "stage": 1}),
    )  # fmt: skip
    assert [stage.number for stage in seen.stages] == [1]


def test_a_long_file_is_read_in_parts_and_kept_small(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        for number in range(1, 3001):
            writer.write(StepEvent(step=number, loss=1.0 / number))
    monkeypatch.setattr(events, "READ_BYTES", 20_000)
    reader = TimelineReader(path)
    assert reader.poll() > 5
    loss = reader.timeline.stage.train["loss"]
    assert loss[0] == (1, 1.0)
    assert loss[-1] == (3000, 1 / 3000)
    assert len(loss) < 1100
    assert len(reader.timeline.recent) == timeline.RECENT
    assert "step 3000" in log_lines(reader.timeline)[-1]


def test_a_reader_reads_each_byte_once_and_counts_news(tmp_path):
    path = tmp_path / "events.jsonl"
    reader = TimelineReader(path)
    assert reader.poll() == 0
    with EventWriter(path) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        assert reader.poll() == 1
        assert reader.poll() == 1
        events.write(StepEvent(step=1, loss=2.0))
    assert reader.poll() == 2
    assert reader.timeline.stage.step == 1


def test_readers_are_shared_and_the_oldest_is_dropped(tmp_path):
    paths = [tmp_path / str(number) / "events.jsonl" for number in range(timeline.READERS + 1)]
    first = timeline_reader(paths[0])
    assert timeline_reader(paths[0]) is first
    for path in paths[1:]:
        timeline_reader(path)
    assert timeline_reader(paths[0]) is not first


def test_the_tail_of_a_run_has_its_newest_values(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write(StepEvent(step=1, loss=2.0))
        for done in range(2000):
            writer.write(PhaseEvent(name="evaluating", text="x" * 50, done=done, total=2000))
    assert tail_timeline(path).newest(StepEvent).step == 1
