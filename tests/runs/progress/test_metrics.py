"""Curves: read off the events, thinned without losing a peak, cut where a run went on."""

from __future__ import annotations

import json
import math

import pytest

from modelforge.runs.progress.downsample import KEPT, DownsampledCurve, decimate
from modelforge.runs.progress.metrics import read_metrics


@pytest.fixture
def fold(tmp_path):
    """Write events, each as (kind, data), and return their file."""
    path = tmp_path / "events.jsonl"

    def say(*events):
        with path.open("a", encoding="utf-8") as file:
            for n, (kind, data) in enumerate(events, 1):
                file.write(json.dumps({"n": n, "t": 1.0, "kind": kind, "data": data}) + "\n")
        return path

    return say


def step(number, loss, **more):
    return "step", {"step": number, "loss": loss, "tokens": 100, "seconds": 2.0, **more}


def test_points_carry_update_epoch_tokens_and_seconds(fold):
    curves = read_metrics(
        fold(
            ("plan", {"total_steps": 4}),
            step(1, 3.0, epoch=0.5),
            step(2, 2.0, epoch=1.0, metrics={"entropy": 0.5}),
            ("eval", {"step": 2, "loss": 2.5, "metrics": {"entropy": 0.7}}),
            step(4, 1.0, epoch=2.0),
        )
    )
    (stage,) = curves.stages
    loss = stage.train["loss"]
    assert stage.points(loss) == [(1, 3.0), (2, 2.0), (4, 1.0)]
    assert stage.points(loss, "tokens") == [(100, 3.0), (200, 2.0), (300, 1.0)]
    # A report of two updates counts the seconds of both.
    assert stage.points(loss, "seconds") == [(2, 3.0), (4, 2.0), (8, 1.0)]
    assert stage.points(stage.eval["loss"], "tokens") == [(200, 2.5)]
    assert stage.points(stage.eval["entropy"]) == [(2, 0.7)]
    record = curves.as_dict()
    assert record["columns"] == ["step", "epoch", "tokens", "seconds", "value"]
    assert record["stages"][0]["trained"]["loss"][-1] == [4, 2.0, 300, 8, 1.0]


def test_what_came_after_the_checkpoint_is_forgotten(fold):
    path = fold(
        *(step(number, 9.0) for number in range(1, 5)),
        ("eval", {"step": 4, "loss": 3.0}),
        *(step(number, 9.0) for number in range(5, 8)),
        ("eval", {"step": 7, "loss": 9.0}),
        ("started", {"pid": 1, "birth": 1.0}),
        ("resumed", {"step": 5, "stage": 1, "checkpoint": "checkpoint-5", "damaged": []}),
        step(6, 1.0),
    )
    (stage,) = read_metrics(path).stages
    assert [x for x, _ in list(stage.train["loss"])] == [1, 2, 3, 4, 5, 6]
    assert stage.points(stage.train["loss"], "tokens")[-1] == (600, 1.0)
    assert list(stage.eval["loss"]) == [(4, 3.0)]


def test_later_stages_go_when_an_earlier_one_goes_on(fold):
    path = fold(
        ("plan", {"stage": 1, "stage_name": "reward model", "total_steps": 2}),
        step(1, 1.0, stage=1),
        step(2, 1.0, stage=1),
        step(1, 1.0, stage=2),
        ("resumed", {"step": 1, "stage": 1}),
    )
    (stage,) = read_metrics(path).stages
    assert (stage.name, list(stage.table.column("step"))) == ("reward model", [1.0])


def test_lines_that_are_no_events_are_passed_over(fold):
    path = fold(step(1, 1.0))
    with path.open("ab") as file:
        file.write(b'nonsense\n[]\n{"kind": 3, "data": {}}\n{"kind": "step"}\n\xff\n')
        file.write(json.dumps({"kind": "step", "data": {"step": 2, "loss": "x"}}).encode() + b"\n")
        file.write(b'{"kind": "step", "data": {"step": 3, "lo')  # still being written
    (stage,) = read_metrics(path).stages
    assert list(stage.train["loss"]) == [(1, 1.0)]
    assert not read_metrics(path.with_name("absent")).stages[0].train["loss"]


def test_thinned_points_keep_ends_peaks_and_dips():
    points = [(float(x), math.sin(x / 50)) for x in range(10_000)]
    points[4321] = (4321.0, 50.0)
    points[6543] = (6543.0, -50.0)
    kept = decimate(points, 100)
    assert len(kept) <= 100
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert points[4321] in kept
    assert points[6543] in kept
    assert kept == sorted(kept)
    assert decimate(points[:50], 100) == points[:50]


def test_a_trace_of_any_length_stays_small_and_loses_no_peak():
    trace, points = DownsampledCurve(), []
    for x in range(50_000):
        y = 90.0 if x == 777 else -90.0 if x == 40_001 else math.sin(x / 900)
        trace.append((x, y))
        points.append((x, y))
        if x in (5, 511, 513, 9999):
            assert trace[0] == points[0]
            assert trace[-1] == points[-1]
    assert len(trace) <= 4 * KEPT + 2
    assert {(777, 90.0), (40_001, -90.0), points[0], points[-1]} <= set(trace)
    assert list(trace) == sorted(trace)
    trace.cut(1000)
    assert max(trace)[0] <= 1000
    assert (777, 90.0) in list(trace)
    trace.append((1001, 0.0))
    assert trace[-1] == (1001, 0.0)


def test_a_short_trace_is_all_of_its_points():
    points = [(x, float(-x)) for x in range(2 * KEPT)]
    curve = DownsampledCurve()
    for point in points:
        curve.append(point)
    assert list(curve) == points
    assert curve[:3] == points[:3]
    assert not DownsampledCurve()


def test_a_continued_run_counts_its_own_time_alone(fold):
    curves = read_metrics(fold(("resumed", {"step": 14}), step(15, 2.0), step(16, 1.9)))
    assert list(curves.stages[0].table.column("seconds")) == [2.0, 4.0]
