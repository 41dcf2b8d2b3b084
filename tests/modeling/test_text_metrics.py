"""ROUGE and the SQuAD metrics against worked examples."""

from __future__ import annotations

import pytest

# torchmetrics emits deprecation warnings of its own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_rouge_equals_worked_examples():
    from modelforge.modeling.text_metrics import rouge_scores

    # The same five of six words; three of five pairs; "the cat on the mat" in order.
    scores = rouge_scores(["The cat sat on the mat."], [["the cat lay on the mat"]])
    assert scores == pytest.approx({"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeL": 5 / 6})
    # Of 2 words both are among the 4 that are right: precision 1, recall 1/2, so 2/3.
    assert rouge_scores(["red ship"], [["a red ship sails"]])["rouge1"] == pytest.approx(2 / 3)
    both = rouge_scores(["red ship", "nothing"], [["red ship"], ["else"]])
    assert both["rougeL"] == pytest.approx(0.5)


def test_rouge_reads_letters_of_every_script():
    from modelforge.modeling.text_metrics import rouge_scores

    assert rouge_scores(["Корабль ушёл"], [["корабль ушёл!"]])["rouge2"] == 1.0


def test_squad_metrics_equal_worked_examples():
    from modelforge.modeling.text_metrics import squad_scores

    # Case, articles and points do not count.
    assert squad_scores(["The Red!"], [["red"]]) == {"exact_match": 1.0, "f1": 1.0}
    # 2 of 3 words given are right, and 2 of 2 are found: F1 = 2 · (2/3 · 1) / (2/3 + 1) = 0.8.
    scores = squad_scores(["captain Ada Holm"], [["Ada Holm"]])
    assert scores == pytest.approx({"exact_match": 0.0, "f1": 0.8})
    # The nearest of several references counts.
    assert squad_scores(["Ada"], [["Ida", "Ada"]])["exact_match"] == 1.0
    # A question without an answer: saying nothing is right, and saying something is not.
    scores = squad_scores(["", "Ada", ""], [[], [], ["Ada"]])
    assert scores == pytest.approx({"exact_match": 1 / 3, "f1": 1 / 3})
