"""The page of a growing model: the picture of its stack, its stages, and what growing gave."""

from __future__ import annotations

import re

import pytest

from modelforge.config.plan.make import make_plan
from modelforge.runs.event_types import EvalEvent, FinishedEvent, PlanEvent, StepEvent
from modelforge.runs.events import EventRecord
from modelforge.runs.progress.growth import growth_of
from modelforge.runs.progress.measured_events import GainEvent
from modelforge.runs.timeline import Timeline
from tests.config.plan.test_growing import CONTEXT, config
from ui.pages.run import growing


def timeline(*events) -> Timeline:
    return Timeline().add_all(
        EventRecord(number, float(number), event.kind, event.as_data())
        for number, event in enumerate(events, start=1)
    )


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", str(html)).split())


def plan_of(**group):
    return make_plan(config({"stages": 3, "steps_per_stage": 10, **group}), CONTEXT)


@pytest.fixture
def in_second_stage():
    """A run that has done its first stage of three, and four steps of the second."""
    return timeline(
        PlanEvent(total_steps=10, stage=1, stages=3, stage_name="Stack 1 of 3"),
        EvalEvent(step=0, loss=2.5, stage=1),
        StepEvent(step=10, total_steps=10, loss=2.2, stage=1),
        EvalEvent(step=10, loss=2.25, best=True, stage=1),
        GainEvent(stage=1, before=2.5, after=2.25, low=0.2, high=0.3, batches=20),
        PlanEvent(total_steps=10, stage=2, stages=3, stage_name="Stack 2 of 3"),
        StepEvent(step=4, total_steps=10, loss=2.1, stage=2),
    )


def test_each_stage_has_its_state_and_its_evaluation_loss(in_second_stage):
    growth = growth_of(plan_of(), in_second_stage)
    assert [stage.state for stage in growth.stages] == ["done", "now", "to-come"]
    assert [stage.eval_loss for stage in growth.stages] == [2.25, None, None]
    assert (growth.base_loss, growth.gain) == (2.5, 0.25)
    html = words(growing.parts(in_second_stage, plan_of()))
    assert "Before 4 layers 2.500" in html
    assert "1 · layer 5 10 steps 2.250 done" in html
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
