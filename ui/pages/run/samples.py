"""The Samples tab of a run: the same prompts answered before, during and after training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from modelforge.config.schema.training import MAX_SAMPLES, Evaluation
from modelforge.runs.samples import SampleAnswer, SampleTime, sample_times
from modelforge.runs.timeline import Timeline
from modelforge.runs.view import RunView
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render

# Source of a prompt → its text at the prompt, and its short label.
SOURCES = {
    "yours": ("your prompt", "yours"),
    "evaluation": ("evaluation row", "evaluation"),
    "general": ("general prompt, not about your data", "general"),
}
HEIGHT = 64
_WORD = re.compile(r"\S+")
# Labels below the slider need this share of its width each.
LABEL_SHARE = 13.0
# With more times than this only some are shown: the first, the last, and some between.
MAX_TIMES = 60
SAME_AS_BASE = "same as the base model, as it should be"
Part = tuple[str, bool]


@dataclass(frozen=True)
class Point:
    """One time on the slider: its position in percent, its step and its evaluation loss."""

    left: str
    step_number: int
    step: str
    loss: str
    is_labelled: bool


def over_time(timeline: Timeline, *, is_over: bool, is_new: bool = False) -> Markup:
    """Return the slider and the answers at each step; nothing while a run has none yet.

    A new model (`is_new`) has no base model; while it is trained, its answers are elsewhere.
    """
    times = thinned(sample_times(timeline))
    if is_new and not is_over:
        return EMPTY
    if not times:
        return render("samples", "empty") if is_over else EMPTY
    titles = [_texts(time, is_last=place == len(times) - 1 and is_over)
              for place, time in enumerate(times)]  # fmt: skip
    points, curve = _points(times), _curve(times)
    slider = render("samples", "over_time", points, curve, titles, _loss_text(times))
    return join([slider, *_prompts(times, is_new=is_new)])


def thinned(times: Sequence[SampleTime]) -> list[SampleTime]:
    """Return at most MAX_TIMES times: the first, the last, and evenly some between."""
    if len(times) <= MAX_TIMES:
        return list(times)
    share = (len(times) - 1) / (MAX_TIMES - 1)
    return [times[round(place * share)] for place in range(MAX_TIMES)]


def _texts(time: SampleTime, *, is_last: bool) -> tuple[str, str, str]:
    """Return title, epoch and text for screen readers of a time."""
    parts = []
    if time.step == 0:
        parts.append("before training")
    elif time.epoch is not None:
        parts.append(f"epoch {time.epoch:.1f}")
    if is_last and time.step:
        parts.append("the end")
    stage = f" of stage {time.stage}" if time.stage else ""
    step = f"step {time.step:,}{stage}"
    loss = f"evaluation loss {time.eval_loss:.2f}" if time.eval_loss is not None else ""
    spoken = ", ".join(part for part in (step, *parts, loss) if part)
    return f"Answers at {step}", ", ".join(parts), spoken


def _points(times: Sequence[SampleTime]) -> list[Point]:
    end = max(1, positions(times)[-1])
    points: list[Point] = []
    shown = -LABEL_SHARE
    for place, position in enumerate(positions(times)):
        left = 100 * position / end
        is_last = place == len(times) - 1
        has_room = left - shown >= LABEL_SHARE and left <= 100 - LABEL_SHARE
        is_labelled = is_last or place == 0 or has_room
        shown = left if is_labelled else shown
        loss = times[place].eval_loss
        loss_text = "" if loss is None else f"{loss:.2f}"
        step = f"{times[place].step:,}"
        points.append(Point(f"{left:.2f}", position, step, loss_text, is_labelled))
    return points


def positions(times: Sequence[SampleTime]) -> list[int]:
    """Return the position of each time on the slider: its step, over the stages of a run."""
    found: list[int] = []
    before = 0
    for place, time in enumerate(times):
        if place and time.stage != times[place - 1].stage:
            before = found[-1] + 1
        # Two times of one step, as at the last evaluation and the end, stay apart.
        least = found[-1] + 1 if found else 0
        found.append(max(before + time.step, least))
    return found


def _curve(times: Sequence[SampleTime]) -> list[tuple[str, str]]:
    """Return the points of the evaluation loss: x in percent, y from 0 (top) to HEIGHT."""
    places = positions(times)
    known = [
        (place, time.eval_loss)
        for place, time in zip(places, times, strict=True)
        if time.eval_loss is not None
    ]
    if len(known) < 2:
        return []
    low, high = min(loss for _, loss in known), max(loss for _, loss in known)
    end, span = max(1, places[-1]), (high - low) or 1.0
    return [
        (f"{100 * place / end:.2f}", f"{6 + (HEIGHT - 18) * (high - loss) / span:.1f}")
        for place, loss in known
    ]


def _loss_text(times: Sequence[SampleTime]) -> str:
    known = [(time.step, time.eval_loss) for time in times if time.eval_loss is not None]
    if not known:
        return ""
    (first, start), (last, end) = known[0], known[-1]
    return f"Evaluation loss from {start:.2f} at step {first:,} to {end:.2f} at step {last:,}"


def _prompts(times: Sequence[SampleTime], *, is_new: bool) -> Iterator[Markup]:
    """Return a card for each prompt of the newest time."""
    for answer in times[-1].answers:
        source, _ = SOURCES.get(answer.source, (answer.source, answer.source))
        first = _answer_to(times[0], answer.prompt)
        base = (first, [(first.text, False)] if first.text else []) if first is not None else None
        if times[0].step:
            base = None
        shown = list(_times(times, answer.prompt, is_new=is_new))
        label = "before training" if is_new else "base model"
        yield render(
            "samples", "prompt", f"“{answer.prompt}”", source, base, shown, answer.expected, label
        )


def _times(
    times: Sequence[SampleTime], prompt: str, *, is_new: bool
) -> Iterator[tuple[int, str, SampleAnswer, tuple[Part, ...], list[str]]]:
    previous: SampleAnswer | None = None
    base = _answer_to(times[0], prompt)
    for place, time in enumerate(times):
        found = _answer_to(time, prompt)
        if found is None:
            continue
        parts = marked(previous.text if previous else None, found.text)
        notes = []
        if time.step == 0:
            notes += [] if is_new else [SAME_AS_BASE]
        elif previous is not None and previous.text == found.text:
            notes.append("no change")
        is_last = place == len(times) - 1
        is_general = found.source == "general" and not is_new
        if is_last and is_general and base is not None and base.text != found.text:
            notes.append("forgot")
        yield place, f"step {time.step:,}", found, parts, notes
        previous = found


def _answer_to(time: SampleTime, prompt: str) -> SampleAnswer | None:
    return next((answer for answer in time.answers if answer.prompt == prompt), None)


@lru_cache(maxsize=2048)
def marked(before: str | None, text: str) -> tuple[Part, ...]:
    """Return a text in parts, each with whether its words are new since `before`.

    Nothing is new where there is no text before.
    """
    if before is None or before == text:
        return ((text, False),) if text else ()
    words = list(_WORD.finditer(text))
    matcher = SequenceMatcher(
        None, before.split(), [word.group() for word in words], autojunk=False
    )
    parts: list[Part] = []
    shown = 0
    for tag, _, _, start, end in matcher.get_opcodes():
        if start == end:
            continue
        first, last = words[start].start(), words[end - 1].end()
        parts += [(text[shown:first], False), (text[first:last], tag != "equal")]
        shown = last
    parts.append((text[shown:], False))
    return tuple(part for part in parts if part[0])


def side(run: RunView, timeline: Timeline, *, has_result: bool) -> Markup:
    """Return the prompts of the run, and how they were asked."""
    times = sample_times(timeline)
    answers = times[-1].answers if times else []
    prompts = [
        (answer.prompt, SOURCES.get(answer.source, ("", answer.source))[1], _is_line(answer.prompt))
        for answer in answers
    ]
    spent = sum(time.seconds or 0.0 for time in times)
    tokens = (run.config.get("evaluation") or {}).get("sample_tokens")
    rows = [
        ("Decoding", "greedy"),
        ("Longest answer", fmt.plural(tokens or Evaluation().sample_tokens, "token")),
        *([("Times", fmt.number(len(times)))] if times else []),
        *([("Time for answers", f"{fmt.duration(spent)} of {fmt.duration(run.duration)}")]
          if spent else []),
    ]  # fmt: skip
    shown = rows if times else []
    return render(
        "samples", "side", prompts, MAX_SAMPLES, shown, run.id, has_result, len(times) > 1
    )


def _is_line(prompt: str) -> bool:
    """Return whether a prompt can be one of the user's own, of which each is one line."""
    return bool(prompt.strip()) and len(prompt.splitlines()) == 1
