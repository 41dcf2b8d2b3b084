"""General prompts with checkable answers, and what of them a run forgot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelforge.data.answer_rules import AnswerRule, parse_rule
from modelforge.diagnosis.comparison import FEWEST_ROWS, Difference, compare
from modelforge.paths import resource_folder

OWN_GROUP = "own"
# A loss of this share of the prompts is worth noticing.
WORTH_NOTICING = 0.05


class Group(NamedTuple):
    """Label and help of a group of prompts."""

    label: str
    help: str


GROUPS = {
    "facts": Group("Facts", "Questions of general knowledge; the answer must contain the fact."),
    "arithmetic": Group("Arithmetic", "Small sums; the first or last number must be the result."),
    "instructions": Group(
        "Instructions", "Short tasks with a condition, such as a number of words."
    ),
    "formats": Group("Formats", "Answers in a given form: JSON, a list, one line, upper case."),
    "refusals": Group("Refusals", "Requests to decline, and harmless ones that sound alike."),
    OWN_GROUP: Group("Own prompts", "Prompts of your file, checked by their rules."),
}


@dataclass(frozen=True)
class GeneralPrompt:
    """A prompt and the rule of its answer; `group` is one of `GROUPS`."""

    group: str
    prompt: str
    rule: AnswerRule


def general_prompts() -> tuple[GeneralPrompt, ...]:
    """Return the 100 prompts that ModelForge ships: five groups of 20."""
    file = resource_folder("assets") / "general_prompts.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    return tuple(
        GeneralPrompt(entry["group"], entry["prompt"], parse_rule(entry["rule"]))
        for entry in entries
    )


def check_answers(prompts: Sequence[GeneralPrompt], answers: Sequence[str]) -> list[float]:
    """Return 1.0 for each answer for which the rule of its prompt holds, otherwise 0.0."""
    pairs = zip(prompts, answers, strict=True)
    return [float(prompt.rule.holds(answer)) for prompt, answer in pairs]


def forgetting(
    prompts: Sequence[GeneralPrompt], base: Sequence[str], tuned: Sequence[str]
) -> dict[str, Any]:
    """Return the part "forgetting" of a report.

    Args:
        prompts: the prompts.
        base: answers of the base model, in the order of the prompts.
        tuned: answers of the tuned model, in the same order.
    """
    before, after = check_answers(prompts, base), check_answers(prompts, tuned)
    difference = _compare(before, after)
    kind = _kind(difference)
    right = int(sum(before)), int(sum(after))
    lost = [
        {
            "group": prompt.group,
            "prompt": prompt.prompt,
            "base": base[index],
            "tuned": tuned[index],
            "rule": prompt.rule.describe(),
        }
        for index, prompt in enumerate(prompts)
        if before[index] > after[index]
    ]
    return {
        "kind": kind,
        "sentence": _sentence(kind, len(prompts), right, difference),
        "prompts": len(prompts),
        "base": right[0],
        "tuned": right[1],
        "interval": difference.interval,
        "groups": _groups(prompts, before, after),
        "lost": lost,
        "mix": None,
    }


def mixed_rows(training_rows: int, available: int, share: float) -> dict[str, Any]:
    """Return how many general rows to add to a run, and their share of all rows.

    Args:
        training_rows: rows of the run without them.
        available: rows of the general sample.
        share: wanted share of general rows, from 0 to below 1.
    """
    rows = min(available, max(1, round(training_rows * share / (1 - share))))
    return {"rows": rows, "share": rows / (rows + training_rows)}


def _groups(
    prompts: Sequence[GeneralPrompt], before: Sequence[float], after: Sequence[float]
) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(prompt.group for prompt in prompts):
        places = [index for index, prompt in enumerate(prompts) if prompt.group == name]
        first, second = ([values[index] for index in places] for values in (before, after))
        group = GROUPS.get(name, Group(name, ""))
        rows.append(
            {
                "name": name,
                "label": group.label,
                "help": group.help,
                "prompts": len(places),
                "base": int(sum(first)),
                "tuned": int(sum(second)),
                "kind": _kind(_compare(first, second)),
            }
        )
    return rows


def _compare(before: Sequence[float], after: Sequence[float]) -> Difference:
    return compare(before, after, direction="higher", worth_having=WORTH_NOTICING, bounded=True)


def _kind(difference: Difference) -> str:
    """Return the kind of a change: it is clear if its interval excludes zero."""
    if difference.rows < FEWEST_ROWS:
        return "too-few-rows"
    return {"worse": "dropped", "better": "better"}.get(difference.kind, "no-clear-change")


def _sentence(kind: str, prompts: int, right: tuple[int, int], difference: Difference) -> str:
    counts = (
        f"The tuned model answers {right[1]} of {prompts} general prompts as it should, "
        f"the base model {right[0]}"
    )
    if kind == "too-few-rows":
        return f"{counts}. {prompts} prompts are too few to tell; {FEWEST_ROWS} are the least."
    low, high = (round(100 * end) for end in difference.interval or (0.0, 0.0))
    change = f"{counts} (95 % interval of the change: {low:+d} to {high:+d} points)."
    endings = {
        "dropped": "The run has cost general abilities.",
        "better": "General abilities have improved.",
        "no-clear-change": "No loss of general abilities is shown.",
    }
    return f"{change} {endings[kind]}"
