"""What a report says first: is the run better than its base model, and would a prompt have done."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelforge.diagnosis.comparison import FEWEST_ROWS, Difference, count_rows
from modelforge.evaluate.contestants import BASE, PROMPTED, TUNED, Prompted
from modelforge.evaluate.exchange import Learned
from modelforge.evaluate.metrics import Measured

# A share of the gap between base and tuned model that counts as none.
_NOTHING = 0.005


def verdict_entry(main: Measured | None, learned: Learned | None, shots: int) -> dict[str, Any]:
    """Return the verdict of the first metric.

    `shots` is the number of examples of the contestant `prompted`, 0 if it was not measured.
    """
    difference = main.difference() if main else None
    if main is None or difference is None:
        sentence = "Too few rows to tell: nothing could be compared with the base model."
        return _verdict("too-few-rows", sentence, main.metric.name if main else "", FEWEST_ROWS)
    sentence = _sentence(main, difference, learned, shots)
    return _verdict(difference.kind, sentence, main.metric.name, difference.rows_needed)


def need_entry(
    main: Measured | None, prompted: Prompted | None, prompt: str
) -> dict[str, Any] | None:
    """Return whether the run is needed, or a prompt with examples does as well.

    None if the base model with examples was not measured.
    """
    if main is None or prompted is None:
        return None
    against, helps = main.difference(PROMPTED), main.difference(BASE, PROMPTED)
    gained = main.difference()
    if against is None or helps is None or gained is None:
        return None
    shots, tokens = len(prompted.shots), prompted.tokens
    kind, sentence = _need(main, (against, helps, gained), shots, tokens)
    return {
        "kind": kind,
        "sentence": sentence,
        "examples": shots,
        "prompt_tokens": tokens,
        "prompt": prompt,
    }


def against_prompt_entry(main: Measured | None) -> dict[str, Any] | None:
    """Return on how many rows the tuned model beats the base model with examples."""
    if main is None or PROMPTED not in main.values or TUNED not in main.values:
        return None
    counts = count_rows(main.values[PROMPTED], main.values[TUNED], direction=main.metric.direction)
    return {"better": counts.better, "worse": counts.worse, "equal": counts.equal, "p": counts.p}


def _verdict(kind: str, sentence: str, metric: str, rows_needed: int | None) -> dict[str, Any]:
    return {"kind": kind, "sentence": sentence, "metric": metric, "rows_needed": rows_needed}


def _sentence(main: Measured, difference: Difference, learned: Learned | None, shots: int) -> str:
    if difference.kind == "too-few-rows":
        needed = difference.rows_needed
        more = f" About {needed:,} would settle it." if needed else ""
        rows = (
            "1 evaluation row" if difference.rows == 1 else f"{difference.rows:,} evaluation rows"
        )
        return f"Too few rows to tell: {rows}.{more}"
    if difference.kind == "no-difference":
        return "No difference shown between the tuned model and the base model."
    word = difference.kind.capitalize()
    against = main.difference(PROMPTED)
    than = "the base model"
    if against is not None and against.kind == difference.kind and shots:
        than = f"the base model and than a prompt with {_examples(shots)}"
    if learned is not None and learned.kind == "style" and difference.kind == "better":
        return f"Better than {than}, in style alone: no right answer was learned that shows."
    if learned is not None and learned.kind == "too-few-rows" and difference.kind == "better":
        return f"Better than {than}; the rows are too few to tell answers from style."
    return f"{word} than {than}."


def _need(
    main: Measured, differences: tuple[Difference, Difference, Difference], shots: int, tokens: int
) -> tuple[str, str]:
    """Return kind and sentence; `differences` are tuned-prompted, prompted-base and tuned-base."""
    against, helps, gained = differences
    examples = _examples(shots)
    cost = f"add {tokens:,} tokens to every question"
    if gained.kind == "better" and against.kind == "better":
        closed = _closed(main)
        start = f"Yes. {examples.capitalize()} in the prompt"
        return "run", f"{start} {closed}{cost}. The tuned model needs none of them."
    if against.kind == "too-few-rows" or "too-few-rows" in (helps.kind, gained.kind):
        return "unknown", f"Too few rows to tell whether a prompt with {examples} does as well."
    if helps.kind == "better":
        return "prompt", (
            f"You may not need this run. The {examples} {cost}; if that is acceptable, the prompt "
            "is simpler to change and forgets nothing."
        )
    return "neither", f"Neither the run nor a prompt with {examples} is shown to help."


def _closed(main: Measured) -> str:
    """Return which share of the gap between base and tuned model the examples close."""
    base, prompted, tuned = (main.mean(name) for name in (BASE, PROMPTED, TUNED))
    if base is None or prompted is None or tuned is None or np.isclose(base, tuned):
        return ""
    label = main.metric.label
    label = label if label.isupper() or label[1:2].isupper() else label.lower()
    share = (prompted - base) / (tuned - base)
    if share < _NOTHING:
        return f"do not improve the {label}, and "
    closed = "all" if share > 1 - _NOTHING else f"{share:.0%}".replace("%", " %")
    return f"close {closed} of the gap in {label}, but "


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"
