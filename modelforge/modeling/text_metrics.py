"""What answers are worth beside their references: ROUGE for summaries, SQuAD's two for answers.

Computed by torchmetrics. All are shares from 0 to 1. Its import takes a second, so this module is
opened when something is to be scored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torchmetrics.functional.text.rouge import rouge_score
from torchmetrics.functional.text.squad import squad

ROUGES = ("rouge1", "rouge2", "rougeL")


def score_summaries(
    summaries: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return the mean F of ROUGE-1, ROUGE-2 and ROUGE-L.

    Words are runs of letters and digits of any script, in lower case and unstemmed; for English
    that is what Google's rouge_score takes.
    """
    found = rouge_score(
        list(summaries),
        [list(each) for each in references],
        accumulate="best",
        rouge_keys=ROUGES,
        normalizer=_letters,
        tokenizer=str.split,
    )
    return {name: float(found[f"{name}_fmeasure"]) for name in ROUGES}


def score_answers(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return exact match and F1 as SQuAD 2.0 defines them.

    "" stands for no answer, and no references for a question that has none. Each answer counts
    against the reference that it is nearest to.
    """
    given = [{"id": str(n), "prediction_text": text} for n, text in enumerate(answers)]
    wanted: list[dict[str, Any]] = [
        {"id": str(n), "answers": {"text": list(each) or [""], "answer_start": [0]}}
        for n, each in enumerate(references)
    ]
    found = squad(given, wanted)
    return {"exact_match": float(found["exact_match"]) / 100, "f1": float(found["f1"]) / 100}


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower())
