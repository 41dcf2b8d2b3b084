"""The Samples tab: a slider through time, marked words, and the prompts of the run."""

from __future__ import annotations

import re
from typing import Any

import pytest

from modelforge.runs.event_types import EvalEvent, PlanEvent, SamplesEvent, StepEvent
from modelforge.runs.events import EventRecord
from modelforge.runs.samples import SampleTime
from modelforge.runs.timeline import Timeline
from tests.runs.homes import put_run
from ui.pages.run import samples
from ui.pages.run.samples import MAX_TIMES, marked, positions, thinned

BASE = "As an AI, I cannot see your orders."
ANSWERS = {0: BASE, 35: BASE, 70: "Happy to look. Which order?", 105: "Happy to help. Which order?"}


def answer(prompt: str, text: str, source: str = "yours", **more: Any) -> dict[str, Any]:
    made = {"prompt": prompt, "source": source, "text": text, "expected": "", "tokens": 9}
    return {**made, "cut": False, **more}


def timeline(times: dict[int, str] | None = None, **more: Any) -> Timeline:
    events: list[Any] = [PlanEvent(total_steps=105, epochs=3.0)]
    for step, text in (ANSWERS if times is None else times).items():
        if step:
            events.append(StepEvent(step=step, total_steps=105, loss=1.0))
            events.append(EvalEvent(step=step, loss=2.0 - step / 100))
        answers = [answer("Where is my parcel?", text, **more)]
        answers.append(answer("A haiku?", f"rain {text}", "general"))
        events.append(SamplesEvent(step=step, answers=answers, seconds=4.0))
    return Timeline().add_all(
        EventRecord(number, float(number), event.kind, event.as_data())
        for number, event in enumerate(events, start=1)
    )


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_each_time_has_its_answers_beside_those_of_the_base_model():
    html = str(samples.over_time(timeline(), is_over=True))
    text = text_of(html)
    assert "Answers at step 105" in text
    assert html.count('data-sample-time="2"') == 2
    # Only the newest time is shown until the slider is moved.
    assert html.count("data-sample-time") - html.count(" hidden><div class") == 2
    assert text.count("same as the base model, as it should be") == 2
    assert text.count("no change") == 2
    assert "<mark>help.</mark> Which order?" in html
    assert "See what it forgot" in html
    assert "your prompt" in text


def test_the_slider_has_a_text_for_each_time():
    html = str(samples.over_time(timeline(), is_over=True))
    assert 'type="range"' in html
    assert 'data-steps="0,35,70,105"' in html
    spoken = "step 105, epoch 3.0, the end, evaluation loss 0.95"
    assert f'aria-valuetext="{spoken}"' in html
    assert 'data-spoken="step 0, before training"' in html
    assert "Evaluation loss from 1.65 at step 35 to 0.95 at step 105" in html


def test_a_run_in_progress_shows_what_it_has():
    assert str(samples.over_time(Timeline(), is_over=False)) == ""
    assert "No samples" in samples.over_time(Timeline(), is_over=True)
    first = str(samples.over_time(timeline({0: BASE}), is_over=False))
    assert "Answers at step 0" in first
    assert "range" not in first
    going = str(samples.over_time(timeline({0: BASE, 35: "Now."}), is_over=False))
    assert "the end" not in going


def test_cut_and_empty_answers_are_marked():
    html = str(
        samples.over_time(timeline({0: BASE, 35: ""}, cut=True, expected="Hi"), is_over=True)
    )
    assert "cut at 9 tokens" in html
    assert "an empty answer" in html
    assert "Expected:" in text_of(html)


def test_foreign_text_is_text():
    payload = "<img src=x onerror=alert(1)>"
    made = timeline({0: payload, 35: f"{payload} new"}, source=payload, expected=payload)
    html = str(samples.over_time(made, is_over=True))
    assert payload not in html
    assert "&lt;img" in html


@pytest.mark.parametrize(
    ("before", "text", "new"),
    [
        (None, "a b", []),
        ("a b", "a b", []),
        ("a b", "a c b", ["c"]),
        ("a b", "c d", ["c d"]),
        ("", "a", ["a"]),
        ("a\nb", "a\nb c", ["c"]),
        ("soft rain\non the roof", "hard rain\non a roof", ["hard", "a"]),
    ],
)
def test_new_words_are_marked_and_no_text_is_lost(before, text, new):
    parts = marked(before, text)
    assert "".join(part for part, _ in parts) == text
    assert [part for part, is_new in parts if is_new] == new


def moment(step: int, stage: int | None = None) -> SampleTime:
    return SampleTime(step, None, None, [], stage=stage)


def test_stages_follow_one_another_on_the_slider():
    times = [moment(0, 1), moment(10, 1), moment(0, 2), moment(10, 2), moment(10, 2)]
    assert positions(times) == [0, 10, 11, 21, 22]


def test_many_times_are_thinned_between_the_first_and_the_last():
    times = [moment(step) for step in range(500)]
    shown = [time.step for time in thinned(times)]
    assert len(shown) == MAX_TIMES
    assert (shown[0], shown[-1]) == (0, 499)
    assert shown == sorted(set(shown))


def test_the_side_lists_the_prompts_and_how_they_were_asked(forge):
    run = forge.runs.view(put_run(forge.home.root, evaluation={"sample_tokens": 48}).id)
    text = text_of(str(samples.side(run, timeline(), has_result=True)))
    assert "2 of up to 8" in text
    assert "Longest answer 48 tokens" in text
    assert "16 s of" in text
    assert "Try your own in Chat" in text
    empty = text_of(str(samples.side(run, Timeline(), has_result=False)))
    assert "0 of up to 8" in empty
    assert "How they were asked" not in empty
    assert "Chat" not in empty
