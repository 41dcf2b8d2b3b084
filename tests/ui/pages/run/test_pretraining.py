"""The page of a training from nothing: bits per byte, what it writes, CORE, the next step."""

from __future__ import annotations

import json
import re
from html import unescape
from types import SimpleNamespace

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.preflight.report import Report
from modelforge.runs.event_types import EvalEvent, PlanEvent, SamplesEvent, StepEvent
from modelforge.runs.events import EventRecord
from modelforge.runs.progress.measured_events import CoreEvent
from modelforge.runs.states import RunState
from modelforge.runs.timeline import Timeline
from ui.pages.run import metrics, pretraining, samples

NEW, OTHER = SimpleNamespace(method="pretraining"), SimpleNamespace(method="sft")
PROMPTS = ("The capital of France is", "The opposite of hot is", "My favorite color is", "Gold:")


def timeline(*events) -> Timeline:
    return Timeline().add_all(
        EventRecord(number, float(number), event.kind, event.as_data())
        for number, event in enumerate(events, start=1)
    )


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", str(html)).split())


def written(step, text):
    return SamplesEvent(step=step, answers=[{"prompt": p, "text": f"{text}."} for p in PROMPTS])


def test_what_it_writes_is_shown_at_the_first_a_middle_and_the_last_step():
    events = timeline(*(written(step, f"words of {step}") for step in (0, 10, 20, 30, 40)))
    html = pretraining.writes(events, NEW)
    assert re.findall(r"step \d+", words(html)) == ["step 10", "step 30", "step 40"]
    assert 'href="/?run=r1&amp;tab=samples"' in str(
        pretraining.writes(events, NEW, samples="/?run=r1&tab=samples")
    )
    assert "words of 40." in html
    assert "words of 20." not in html
    assert "3 of 4 prompts" in words(html)
    assert pretraining.writes(events, OTHER) == ""


def test_a_run_without_samples_shows_no_card():
    assert pretraining.writes(timeline(), NEW) == ""
    assert pretraining.core(timeline()) == ""


def test_core_lists_the_tasks_with_a_bar_from_guessing():
    tasks = [{"name": "boolq", "score": -0.1}, {"name": "arc_easy", "score": 0.2}]
    html = str(pretraining.core(timeline(
        CoreEvent(step=5, score=0.01, tasks=tasks),
        CoreEvent(step=9, score=0.05, low=0.02, high=0.08, tasks=tasks),
    )))  # fmt: skip
    assert "at step 9 is 0.050, 95 % interval 0.020 to 0.080" in words(html)
    assert html.index("arc_easy") < html.index("boolq")
    assert 'style="left:25.0%;width:15.0%"' in html
    assert 'style="left:17.5%;width:7.5%"' in html
    assert "−0.100" in html


def test_bits_per_byte_are_the_first_number_and_the_first_chart():
    events = timeline(
        StepEvent(step=4, total_steps=8, loss=3.0, metrics={"mfu": 0.314}),
        EvalEvent(step=4, loss=2.5, metrics={"bits_per_byte": 1.0214}),
    )
    numbers = pretraining.headline(events)
    assert numbers[0] == ("Bits per byte", "1.021", "")
    assert ("MFU", "31", "%") in numbers
    assert next(iter(metrics.charts(events.stage).values())).title == "Bits per byte"


@pytest.fixture
def planned():
    values = {"dataset": "a.txt", "compute_specs": "low_end", "model_name": "d2"}
    group = {"enabled": True, "depth": 2, "vocab_size": 512}
    config = TrainingConfig(**values, max_steps=10, max_seq_length=64, pretraining=group)
    return make_plan(config, PlanContext("cpu", "d2", train_rows=100, row_tokens=50)).pretraining


def test_the_head_names_shape_size_and_length(planned):
    shape, parameters, tokens = pretraining.head_texts(planned)
    assert shape == "Llama shape, 2 layers"
    assert parameters.endswith("k parameters")
    assert tokens.endswith("k tokens")


def test_text_and_compute_so_far_stand_against_the_plan(planned):
    plan = PlanEvent(total_steps=10, all_tokens=1000, bytes_per_token=3.0)
    half = StepEvent(step=5, tokens_so_far=2_500, flops_so_far=planned.flops / 2)
    rows = dict(pretraining.progress_rows(timeline(plan, half), planned))
    assert rows["Text read"] == "2.9 KiB, 2.5 times"
    assert " of " in rows["Compute"]
    once = StepEvent(step=6, tokens_so_far=1_000, flops_so_far=planned.flops)
    assert dict(pretraining.progress_rows(timeline(plan, once), planned))["Text read"].endswith(
        "KiB, once"
    )
    assert "of" not in dict(pretraining.progress_rows(timeline(), planned))["Compute"]


def test_samples_of_a_new_model_know_no_base_model():
    events = timeline(*(written(step, f"words of {step}") for step in (0, 10)))
    html = words(samples.over_time(events, is_over=True, is_new=True))
    assert "before training" in html
    assert "base model" not in html
    assert "forgot" not in html
    assert samples.over_time(events, is_over=False, is_new=True) == ""
    assert "base model" in words(samples.over_time(events, is_over=True))


def test_a_new_model_that_is_ready_can_be_taught_to_chat(tmp_path):
    run = SimpleNamespace(id="r1", plan=NEW, state=RunState.FINISHED)
    html = str(pretraining.next_step(run, tmp_path / "output"))
    settings = json.loads(unescape(re.search(r'data-settings="([^"]*)"', html)[1]))
    assert settings["model_name"] == str(tmp_path / "output")
    assert settings["dataset"] == "sample:general"
    assert settings["adapter.enabled"] == "false"
    report = Report(seconds=60.0, memory_total_gib=1.0, memory_available_gib=9.0, updates=30)
    costs = words(pretraining.next_step(run, tmp_path, report))
    assert "Memory 1.0 of 9.0 GiB" in costs
    assert "General instructions, 30 steps" in costs
    run.plan = OTHER
    assert pretraining.next_step(run, tmp_path) == ""
