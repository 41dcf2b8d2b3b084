"""Prompts beside the evaluation rows: general ones, those of a file, and corrections of Chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelforge.config.methods import Head
from modelforge.data.answer_rules import AnswerRule, parse_rule
from modelforge.data.prompt_file import EvaluationPrompt, read_prompt_file
from modelforge.data.sources.library import load_samples
from modelforge.errors import ForgeError
from modelforge.evaluate import scores
from modelforge.evaluate.contestants import BASE, TUNED
from modelforge.evaluate.general import (
    OWN_GROUP,
    GeneralPrompt,
    forgetting,
    general_prompts,
    mixed_rows,
)
from modelforge.evaluate.job import Job
from modelforge.evaluate.measure import NAMES, Results, RowMeasurement
from modelforge.modeling.tokenize.render import render_prompt
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.paths import expand_user
from modelforge.runs.feedback.corrections import Correction, read_corrections
from modelforge.runs.jobs import StepWriter

# General rows as a share of the next run's data: more than half of the drop is gone with them.
GENERAL_SHARE, GENERAL_SAMPLE = 0.13, "general"
GENERAL_TOKENS = 96
CORRECTION_TOKENS = 256
# An answer that shares so many words with a corrected one keeps the correction.
KEPT_F1 = 0.8
_MOST_NAMED = 5
_KINDS: dict[Head, str] = {"causal": "conversation"}


def measure_general(
    job: Job, rows: RowMeasurement, contestants: Sequence[str], results: Results, steps: StepWriter
) -> None:
    """Ask the general prompts and those of the prompt file; report what was forgotten.

    They are asked as they are, without the system prompt of the run.
    """
    request = job.request
    prompts = [*general_prompts()] if request.general else []
    if request.prompts:
        try:
            prompts += own_prompts(read_prompt_file(expand_user(request.prompts)))
        except ForgeError as error:  # the file has changed since the evaluation was started
            results.notes += [str(problem) for problem in error.problems]
    if not prompts or BASE not in contestants:
        return
    template = replace(rows.template, system_prompt=None)
    ids = [prompt_ids([{"role": "user", "content": each.prompt}], template) for each in prompts]
    short = [at for at, each in enumerate(ids) if rows.fits(each, GENERAL_TOKENS)]
    if len(short) < len(prompts):
        count = len(prompts) - len(short)
        left_out = "1 prompt is left out:" if count == 1 else f"{count} prompts are left out:"
        results.notes.append(f"{left_out} longer than the context of the model.")
    texts = {}
    for name in contestants:
        steps.begin(f"general-{name}", f"The {NAMES[name]} answers general prompts")
        texts[name] = rows.answer_texts(name, [ids[at] for at in short], GENERAL_TOKENS)
    part = forgetting([prompts[at] for at in short], texts[BASE], texts[TUNED])
    mix = _mix(results.rows.training_count) if part["kind"] == "dropped" else None
    results.parts["forgetting"] = part | {"mix": mix}


def measure_corrections(
    job: Job, rows: RowMeasurement, results: Results, steps: StepWriter
) -> None:
    """Ask what was corrected in Chat, and name the corrections that the tuned model breaks."""
    kept = read_corrections(job.home.corrections)
    tests = [each for each in kept if each.kind == _KINDS.get(job.head)]
    ids = [prompt_ids(each.messages, rows.template, each.tools) for each in tests]
    asked = [at for at, each in enumerate(ids) if rows.fits(each, CORRECTION_TOKENS)]
    if not asked:
        return
    steps.begin("corrections", "The tuned model answers what was corrected in Chat")
    texts = rows.answer_texts(TUNED, [ids[at] for at in asked], CORRECTION_TOKENS)
    broken = [
        (tests[at], text)
        for at, text in zip(asked, texts, strict=True)
        if not keeps(text, tests[at].correction)
    ]
    results.notes += correction_notes(broken, len(asked))


def prompt_ids(
    messages: Sequence[dict[str, Any]], template: ChatTemplate, tools: Any = None
) -> list[int]:
    """Return the token ids of a conversation that is to be answered; none if it is refused."""
    text = render_prompt(list(messages), template, tools or None)
    ids: list[int] = template.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def own_prompts(prompts: Sequence[EvaluationPrompt]) -> list[GeneralPrompt]:
    """Return the prompts of a file; an expected answer has to be contained in the answer."""
    return [GeneralPrompt(OWN_GROUP, prompt.prompt, _rule(prompt)) for prompt in prompts]


def _mix(training_rows: int) -> dict[str, Any] | None:
    """Return how many general rows the next run needs; None without the sample."""
    available = next((each.rows for each in load_samples() if each.name == GENERAL_SAMPLE), 0)
    return mixed_rows(training_rows, available, GENERAL_SHARE) if available else None


def _rule(prompt: EvaluationPrompt) -> AnswerRule:
    return parse_rule(prompt.rule or {"contains": prompt.expected.strip()})


def keeps(answer: str, correction: str) -> bool:
    """Return whether an answer keeps a correction: it equals or contains it, but for few words."""
    plain, wanted = (" ".join(text.casefold().split()) for text in (answer, correction))
    if wanted and wanted in plain:
        return True
    return scores.f1_scores([answer], [[correction]])[0] >= KEPT_F1


def correction_notes(broken: Sequence[tuple[Correction, str]], asked: int) -> list[str]:
    """Return what a report says about corrections that are asked, of which some are broken."""
    count = "1 corrected answer" if asked == 1 else f"{asked} corrected answers"
    if not broken:
        return [f"The tuned model gives {count} of Chat as corrected."]
    notes = [
        f"Breaks the correction of “{_short(test.question)}”: it answers “{_short(text)}” instead "
        f"of “{_short(test.correction)}”."
        for test, text in broken[:_MOST_NAMED]
    ]
    if len(broken) > _MOST_NAMED:
        notes.append(f"{len(broken)} of {count} of Chat are broken.")
    return notes


def _short(text: str, size: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1].rstrip()}…"
