"""Scores of single answers: exact match, F1, ROUGE-L, valid JSON, and the margin of a pair.

All but the margin are from 0 to 1. Their means equal those of `modelforge.modeling.text_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelforge.data.json_answers import parse_json_answer
from modelforge.modeling.text_metrics import rouge_scores, squad_scores

References = Sequence[Sequence[str]]


def exact_matches(answers: Sequence[str], references: References) -> list[float]:
    """Return 1.0 for each answer that equals one of its references, otherwise 0.0.

    Case, punctuation, English articles and spaces do not count, as in SQuAD. An empty answer is
    right where there is no reference.
    """
    return [squad_scores([a], [r])["exact_match"] for a, r in _pairs(answers, references)]


def f1_scores(answers: Sequence[str], references: References) -> list[float]:
    """Return the F1 of the words of each answer with the best of its references, as in SQuAD."""
    return [squad_scores([a], [r])["f1"] for a, r in _pairs(answers, references)]


def rouge_l_scores(answers: Sequence[str], references: References) -> list[float]:
    """Return the F-measure of ROUGE-L of each answer with the best of its references.

    An answer without a reference has no ROUGE: 1.0 if it is empty, otherwise 0.0.
    """
    return [
        rouge_scores([answer], [texts])["rougeL"] if texts else float(not answer.strip())
        for answer, texts in _pairs(answers, references)
    ]


def valid_json(answers: Sequence[str]) -> list[float]:
    """Return 1.0 for each answer that is a JSON object or list, also in a code block; else 0.0."""
    return [float(isinstance(parse_json_answer(answer), dict | list)) for answer in answers]


def expects_json(references: References) -> bool:
    """Return whether every row has a reference and all of them are JSON objects or lists."""
    return bool(references) and all(texts and all(valid_json(texts)) for texts in references)


def reward_margins(
    chosen: Sequence[float | None], rejected: Sequence[float | None]
) -> list[float | None]:
    """Return the margin of each pair: how much more likely the chosen completion is, in nats.

    Args:
        chosen: losses of the chosen completions, in nats; None where there is none.
        rejected: losses of the rejected completions, in the same order.
    """
    return [
        None if first is None or second is None else second - first
        for first, second in zip(chosen, rejected, strict=True)
    ]


def _pairs(answers: Sequence[str], references: References) -> list[tuple[str, list[str]]]:
    pairs = zip(answers, references, strict=True)
    return [(answer, [text for text in texts if text.strip()]) for answer, texts in pairs]
