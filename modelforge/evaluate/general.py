"""General prompts with checkable answers, and what of them a run forgot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from modelforge.diagnosis.comparison import FEWEST_ROWS, Difference, compare
from modelforge.errors import ConfigError, Problem
from modelforge.evaluate.answer_rules import AnswerRule, parse_rule
from modelforge.paths import resource_folder

SETTING = "prompts"
OWN_GROUP = "own"
# A loss of this share of the prompts is worth noticing.
WORTH_NOTICING = 0.05
# General rows in the next run as a share of all of its rows.
MIX_SHARE = 0.25
_MOST_PROMPTS, _LARGEST_FILE, _MOST_PROBLEMS = 1000, 4_000_000, 10
_EXAMPLE = '{"prompt": "What is 2 + 2?", "rule": {"number": 4}}'


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
    return _prompts(_read(file), file.name)


def read_prompts(path: Path) -> tuple[GeneralPrompt, ...]:
    """Return the prompts of a file: a JSON list, or JSON Lines, of prompt, rule and group.

    Raises:
        ConfigError: the file cannot be read, or has prompts without a rule, with an unknown check
            or with checks that contradict each other; up to ten of them are named with their line.
    """
    return _prompts(_read(path), path.name)


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


def mixed_rows(training_rows: int, available: int, share: float = MIX_SHARE) -> dict[str, Any]:
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


def _read(path: Path) -> list[tuple[str, Any]]:
    """Return the entries of a file, each with its place: `line 3` or `entry 3`."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise _unusable(path.name, f"is larger than {_LARGEST_FILE // 1_000_000} MB.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise _unusable(path.name, f"cannot be read: {reason}.") from error
    if text.lstrip().startswith("["):
        entries = _load(text, path.name, "the list")
        return [(f"entry {number}", entry) for number, entry in enumerate(entries, 1)]
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [(f"line {n}", _load(line, path.name, f"line {n}")) for n, line in lines]


def _load(text: str, name: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unusable(name, f"has no valid JSON in {place}.") from error


def _prompts(entries: Sequence[tuple[str, Any]], name: str) -> tuple[GeneralPrompt, ...]:
    if not 0 < len(entries) <= _MOST_PROMPTS:
        raise _unusable(name, f"has {len(entries)} prompts; it may have 1 to {_MOST_PROMPTS}.")
    prompts: dict[str, GeneralPrompt] = {}
    problems = []
    for place, entry in entries:
        try:
            prompt = _prompt(entry)
            if prompts.setdefault(prompt.prompt, prompt) != prompt:
                raise ValueError("has the prompt of an earlier entry with another rule")
        except ValueError as error:
            problems.append(Problem(SETTING, f"{name}: {place} {error}.", _REMEDY))
    if problems:
        raise ConfigError(problems[:_MOST_PROBLEMS])
    return tuple(prompts.values())


def _prompt(entry: Any) -> GeneralPrompt:
    """Return the prompt of an entry; raises ValueError with the rest of a sentence."""
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise ValueError("has no prompt")
    if not entry["prompt"].strip():
        raise ValueError("has an empty prompt")
    if unknown := entry.keys() - {"prompt", "rule", "group"}:
        raise ValueError(f"has the unknown key {min(unknown)!r:.60}")
    group = entry.get("group", OWN_GROUP)
    if not isinstance(group, str) or not group.strip():
        raise ValueError("has a group that is not a name")
    return GeneralPrompt(group, entry["prompt"], parse_rule(entry.get("rule")))


_REMEDY = f"Write one object per line, such as {_EXAMPLE}."


def _unusable(name: str, what: str) -> ConfigError:
    return ConfigError(Problem(SETTING, f"{name} {what}", _REMEDY))
