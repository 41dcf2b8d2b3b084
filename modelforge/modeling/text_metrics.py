"""Text metrics of torchmetrics: ROUGE for summaries; exact match and F1 of SQuAD for answers.

All scores are from 0 to 1. Importing torchmetrics takes a second, so this module is imported only
when texts are scored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torchmetrics.functional.text.rouge import rouge_score
from torchmetrics.functional.text.squad import squad

ROUGE_KEYS = ("rouge1", "rouge2", "rougeL")


def rouge_scores(summaries: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L.

    Words are runs of letters and digits of any script, lower-cased and unstemmed; for English that
    equals Google's rouge_score. The best of several references counts.
    """
    result = rouge_score(
        list(summaries),
        [list(each) for each in references],
        accumulate="best",
        rouge_keys=ROUGE_KEYS,
        normalizer=_normalize,
        tokenizer=str.split,
    )
    return {name: float(result[f"{name}_fmeasure"]) for name in ROUGE_KEYS}


def squad_scores(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return exact match and F1 as defined by SQuAD 2.0.

    An empty answer means "no answer"; a question without an answer has no references. The best of
    several references counts.
    """
    predictions = [{"id": str(n), "prediction_text": text} for n, text in enumerate(answers)]
    targets: list[dict[str, Any]] = [
        {"id": str(n), "answers": {"text": list(each) or [""], "answer_start": [0]}}
        for n, each in enumerate(references)
    ]
    result = squad(predictions, targets)
    return {"exact_match": float(result["exact_match"]) / 100, "f1": float(result["f1"]) / 100}


def _normalize(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower())
