"""The page of a growing model: the picture of its stack, its stages, and what growing gave."""

from __future__ import annotations

import re

import pytest

from modelforge.config.plan.make import make_plan
from modelforge.runs.event_types import (
    EvalEvent,
    FinishedEvent,
    PlanEvent,
    StepEvent,
    StoppedEvent,
)
from modelforge.runs.events import EventRecord
from modelforge.runs.progress.growth import growth_of
from modelforge.runs.progress.measured_events import GainEvent, GrowthEvent
from modelforge.runs.progress.whole_run import run_steps, whole_run
from modelforge.runs.timeline import Timeline
from tests.config.plan.test_growing import CONTEXT, config
from ui.pages.run import growing, page, state


def timeline(*events) -> Timeline:
    return Timeline().add_all(
        EventRecord(number, float(number), event.kind, event.as_data())
        for number, event in enumerate(events, start=1)
    )


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", str(html)).split())


def plan_of(**group):
    return make_plan(config({"stages": 3, "steps_per_stage": 10, **group}), CONTEXT)


def begins(stage, **more):
    """The events with which a stage of three begins."""
    layers = {"name": f"Stack {stage} of 3", "layers": 4 + stage, "new": [3 + stage]}
    rest = {"trained": [3 + stage], "frozen": list(range(3 + stage)), "adapters": {}}
    growth = GrowthEvent(stage=stage, stages=3, **layers, **rest)
    return growth, PlanEvent(total_steps=10, stage=stage, stages=3, **more)


@pytest.fixture
def in_second_stage():
    """A run that has done its first stage of three, and four steps of the second."""
    return timeline(
        *begins(1, stage_name="Stack 1 of 3"),
        EvalEvent(step=0, loss=2.5, stage=1),
        StepEvent(step=10, total_steps=10, loss=2.2, ram_gib=1.25, stage=1),
        EvalEvent(step=10, loss=2.25, best=True, stage=1),
        GainEvent(stage=1, before=2.5, after=2.25, low=0.2, high=0.3, batches=20),
        *begins(2, stage_name="Stack 2 of 3"),
        StepEvent(step=4, total_steps=10, loss=2.1, ram_gib=1.5, stage=2),
    )


def test_each_stage_has_its_state_and_its_evaluation_loss(in_second_stage):
    growth = growth_of(plan_of(), in_second_stage)
    assert [stage.state for stage in growth.stages] == ["done", "now", "to-come"]
    assert [stage.eval_loss for stage in growth.stages] == [2.25, None, None]
    assert (growth.base_loss, growth.gain) == (2.5, 0.25)
    html = words(growing.parts(in_second_stage, plan_of()))
    assert "Before 4 layers 2.500" in html
    assert "1 · layer 5 10 steps, 6 s 2.250 done" in html
    assert "2 · layer 6 4 of 10 steps" in html
    assert "3 · layer 7 10 steps" in html


def test_the_picture_shows_what_is_frozen_trains_and_is_to_come(in_second_stage):
    html = str(growing.parts(in_second_stage, plan_of()))
    kinds = re.findall(r'<li class="(\w+)">', html)
    assert kinds == ["later", "now", "frozen"]
    assert "6 · training now" in words(html)
    assert "1 to 5 · frozen" in words(html)
    assert html.count("<i></i>") == 7
    html = str(growing.parts(in_second_stage, plan_of(trunk="lora")))
    assert re.findall(r'<li class="(\w+)">', html) == ["later", "now", "adapter"]
    assert "head frozen" in words(html)


def test_new_layers_in_front_stand_above_the_embeddings(in_second_stage):
    html = str(growing.parts(in_second_stage, plan_of(direction="prepend")))
    assert re.findall(r'<li class="(\w+)">', html) == ["frozen", "now", "later"]
    assert "1 · training now" in words(html)


def test_what_growing_gave_is_one_sentence_with_its_interval(in_second_stage):
    html = words(growing.parts(in_second_stage, plan_of()))
    sentence = "The new layers lowered the evaluation loss by 0.250 (95 % interval 0.200 to 0.300)"
    assert sentence in html.replace(" (", " (").replace(" )", ")")
    assert "may be chance" not in html


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        ({"after": 2.45, "low": -0.02, "high": 0.12}, "The difference may be chance."),
        ({"after": 2.6, "low": -0.12, "high": -0.08}, "The model was better before."),
        ({"after": 2.4}, "Too few evaluation rows"),
    ],
)
def test_a_gain_that_may_be_none_is_called_so(gain, text):
    events = timeline(
        PlanEvent(total_steps=10, stage=1, stages=3), GainEvent(stage=1, before=2.5, **gain)
    )
    assert text in words(growing.parts(events, plan_of()))


def test_progress_counts_the_steps_of_all_stages(in_second_stage):
    assert growing.share(in_second_stage, plan_of()) == pytest.approx(14 / 30)
    assert growing.line(in_second_stage) == "stage 2 of 3"
    assert ("Layers", "6", "of 7") in growing.headline(in_second_stage, plan_of())


REPORT = {
    "at_once_gib": 3.0,
    "stages": [
        {
            "memory_gib": gib,
            "memory": [{"name": "weights", "gib": gib - 0.5}, {"name": "overhead", "gib": 0.5}],
            "seconds": 60.0,
        }
        for gib in (1.0, 1.5, 2.0)
    ],
}


def test_each_stage_has_its_planned_memory_and_what_was_measured(in_second_stage):
    html = str(growing.parts(in_second_stage, plan_of(), REPORT))
    text = words(html)
    assert "1 · layer 5 10 steps, 6 s 2.250 1.0 GiB 1.2 GiB measured done" in text
    assert "2 · layer 6 4 of 10 steps – 1.5 GiB now" in text
    assert "3 · layer 7 10 steps, about 1 min – 2.0 GiB to come" in text
    assert "All 3 layers at once would need 3.0 GiB." in text
    # The bars have the scale of the most memory.
    assert re.findall(r'<i class="c1" style="width:([\d.]+)%', html) == ["16.7", "33.3", "50.0"]
    growth = growth_of(plan_of(), in_second_stage, REPORT)
    assert growth.stages[0].memory_parts == {"weights": 0.5, "overhead": 0.5}
    assert [stage.peak_gib for stage in growth.stages] == [1.25, 1.5, None]


def test_a_report_of_other_stages_is_not_shown(in_second_stage):
    growth = growth_of(plan_of(), in_second_stage, {"stages": REPORT["stages"][:2]})
    assert {stage.memory_gib for stage in growth.stages} == {None}


def test_curves_and_steps_run_on_through_the_stages(in_second_stage):
    whole = whole_run(in_second_stage)
    assert list(whole.eval["loss"]) == [(0, 2.5), (10, 2.25)]
    assert list(whole.train["loss"]) == [(10, 2.2), (14, 2.1)]
    assert (whole.step, whole.best) == (14, (10, 2.25))
    assert run_steps(plan_of(), in_second_stage) == (10, 14, 30)
    drawn = page.charts(in_second_stage, plan_of())
    assert [(band.name, band.end) for band in drawn["loss"].bands] == [
        ("stage 1", 10),
        ("stage 2", 20),
        ("stage 3", 30),
    ]
    assert drawn["loss"].x_end == 30
    assert [(one.name, one.x) for one in drawn["by-stage"].series] == [("evaluation", [0, 10])]
    assert "stage-1-loss" not in drawn
    event = EvalEvent(step=4, loss=2.15, stage=2)
    in_second_stage.add(EventRecord(20, 20.0, event.kind, event.as_data()))
    series = page.charts(in_second_stage, plan_of())["by-stage"].series
    assert [(one.name, one.x) for one in series] == [
        ("finished stages", [0, 10]),
        ("stage 2", [10, 14]),
    ]


def test_events_that_begin_in_a_later_stage_count_the_planned_steps_before():
    tail = timeline(StepEvent(step=4, total_steps=10, loss=2.1, stage=3))
    assert run_steps(plan_of(), tail) == (20, 24, 30)


def test_a_stage_that_ends_early_counts_the_steps_that_it_made():
    events = timeline(
        *begins(1), StepEvent(step=6, loss=2.2, stage=1), *begins(2), StepEvent(step=1, stage=2)
    )
    assert run_steps(plan_of(), events) == (6, 7, 26)
    assert [band.end for band in growing.bands(events, plan_of())] == [6, 16, 26]


def test_the_verdict_counts_the_steps_of_all_stages(in_second_stage):
    steps = (StepEvent(step=10, loss=2.0, stage=number) for number in (2, 3))
    for number, event in enumerate((*begins(3), *steps, FinishedEvent(steps=10)), 20):
        in_second_stage.add(EventRecord(number, float(number), event.kind, event.as_data()))
    assert state.duration_text(in_second_stage, 60.0) == "30 steps in 1 min."
    assert growing.share(in_second_stage, plan_of()) == 1.0


def test_a_stopped_run_has_a_stopped_stage(in_second_stage):
    def states(event, **more):
        in_second_stage.add(EventRecord(20, 20.0, event.kind, event.as_data()))
        growth = growth_of(plan_of(), in_second_stage, **more)
        return [stage.state for stage in growth.stages]

    assert states(StoppedEvent(step=4, kept=True, stage=2)) == ["done", "stopped", "to-come"]
    assert "training now" not in words(growing.parts(in_second_stage, plan_of()))
    assert [band.name for band in growing.bands(in_second_stage, plan_of())][-1] == "stage 2"
    # Stopped before the first step of the third.
    assert states(StoppedEvent(step=0, kept=True, stage=3)) == ["done", "done", "to-come"]


def test_a_lost_run_does_not_train_now(in_second_stage):
    growth = growth_of(plan_of(), in_second_stage, is_over=True)
    assert [stage.state for stage in growth.stages] == ["done", "stopped", "to-come"]


def test_a_finished_run_has_done_all_its_stages():
    events = timeline(
        *(PlanEvent(total_steps=10, stage=number, stages=3) for number in (1, 2, 3)),
        FinishedEvent(steps=10),
    )
    growth = growth_of(plan_of(), events)
    assert {stage.state for stage in growth.stages} == {"done"}
    assert 'class="done"' in str(growing.parts(events, plan_of()))


def test_embeddings_and_head_train_with_all_layers_alone():
    joint = plan_of(stages=1, joint_tuning_steps=5)
    events = timeline(*(PlanEvent(total_steps=10, stage=number, stages=2) for number in (1, 2)))
    assert "head trains" in words(growing.parts(events, joint))
    assert "4 layers" not in growing.head_texts(joint.growing)


def test_the_heading_says_how_many_layers_there_are_before_and_after():
    assert growing.head_texts(plan_of().growing) == ["4 layers → 7", "3 stages"]


def test_other_runs_have_no_such_cards():
    plan = make_plan(config({"enabled": False}), CONTEXT)
    assert growing.parts(timeline(), plan) == ""
    assert growth_of(plan, timeline()) is None
