"""Scores of answers against values worked out by hand, and against the means of the trainer."""

import math
import random
import time

import numpy as np
import pytest

from modelforge.diagnosis.intervals import ratio_terms

pytestmark = pytest.mark.torch

LM_EVAL = {
    "exact_match": [1.0, 1.0, 1.0, 0.0],
    "perplexity": 3.4903429574618414,
    "weighted_perplexity": 2.706979217631842,
}


@pytest.mark.parametrize(
    ("answer", "references", "match", "f1"),
    [
        ("Paris", ["Paris"], 1, 1),
        ("the  paris.", ["Paris"], 1, 1),
        ("Paris", ["London", "Paris"], 1, 1),
        ("in Paris", ["Paris"], 0, 2 / 3),  # precision 1/2, recall 1
        ("on Monday at 6 pm", ["Tuesday at 6 pm"], 0, 2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4)),
        ("red red blue", ["red blue blue"], 0, 2 / 3),  # 2 of 3 words, repeated ones once
        ("no idea", ["Paris"], 0, 0),
        ("", ["Paris"], 0, 0),
        ("", [], 1, 1),
        ("Paris", [], 0, 0),
        ("", [""], 1, 1),
    ],
)
def test_exact_match_and_f1_worked_out_by_hand(answer, references, match, f1):
    from modelforge.evaluate.scores import exact_matches, f1_scores

    assert exact_matches([answer], [references]) == [match]
    assert f1_scores([answer], [references]) == [pytest.approx(f1, abs=1e-6)]


@pytest.mark.parametrize(
    ("answer", "references", "value"),
    [
        ("the cat sat on the mat", ["the cat sat on the mat"], 1),
        # Longest common subsequence "the cat on the": 4 of 5 and 4 of 6 words.
        ("the cat on the roof", ["the cat sat on the mat"], 2 * 0.8 * (4 / 6) / (0.8 + 4 / 6)),
        # "b a" or "a c" of three words: the order counts.
        ("b a c", ["a b c"], 2 / 3),
        ("Flea market: Monday!", ["flea market monday", "other"], 1),
        ("none", ["flea market"], 0),
        ("", [], 1),
        ("words", [], 0),
    ],
)
def test_rouge_l_worked_out_by_hand(answer, references, value):
    from modelforge.evaluate.scores import rouge_l_scores

    assert rouge_l_scores([answer], [references]) == [pytest.approx(value, abs=1e-6)]


def test_exact_match_and_f1_equal_those_that_lm_eval_uses():
    """Its tasks SQuAD and CoQA call these functions of Transformers."""
    from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

    from modelforge.evaluate.scores import exact_matches, f1_scores

    words = ["the", "an", "cat", "Paris,", "red.", "blue!", "3", "euros", "it's", "on", "Monday"]
    draw = random.Random(16)
    for _ in range(100):
        answer, reference = (" ".join(draw.choices(words, k=draw.randint(1, 6))) for _ in "ab")
        assert exact_matches([answer], [[reference]]) == [compute_exact(reference, answer)]
        wanted = pytest.approx(compute_f1(reference, answer), abs=1e-6)
        assert f1_scores([answer], [[reference]]) == [wanted]


def test_exact_match_and_perplexity_equal_values_of_lm_eval():
    """Computed with lm-eval 0.4.13: `exact_match` without case and punctuation, `perplexity`."""
    from modelforge.evaluate.scores import exact_matches

    answers = ["Paris.", "42", "on monday", "Rome"]
    references = [["paris"], ["42"], ["On Monday!"], ["Oslo"]]
    assert exact_matches(answers, references) == LM_EVAL["exact_match"]
    nats, tokens = np.array([1.2, 0.4, 2.5, 0.9]), np.array([3, 10, 4, 7])
    assert math.exp(nats.mean()) == pytest.approx(LM_EVAL["perplexity"])
    per_token = ratio_terms(nats * tokens, tokens).mean()
    assert math.exp(per_token) == pytest.approx(LM_EVAL["weighted_perplexity"])


def test_the_means_equal_the_metrics_of_training():
    from modelforge.evaluate.scores import exact_matches, f1_scores, rouge_l_scores
    from modelforge.modeling.text_metrics import rouge_scores, squad_scores

    answers = ["on Monday", "the old mill", "", "3 euros or 5 euros"]
    references = [["Monday"], ["in the old mill", "old mill"], ["a walk"], ["3 euros"]]
    squad = squad_scores(answers, references)
    assert sum(exact_matches(answers, references)) / 4 == pytest.approx(squad["exact_match"])
    assert sum(f1_scores(answers, references)) / 4 == pytest.approx(squad["f1"])
    rouge = rouge_scores(answers, references)["rougeL"]
    assert sum(rouge_l_scores(answers, references)) / 4 == pytest.approx(rouge)


@pytest.mark.parametrize(
    ("answer", "is_valid"),
    [
        ('{"a": 1}', True),
        ("[]", True),
        (' \n{"a": [1, 2, {"b": null}]}\n', True),
        ('```json\n{"a": 1}\n```', True),
        ("```\n[1, 2]\n```", True),
        ('Here it is: {"a": 1}', False),
        ('{"a": 1} I hope this helps.', False),
        ("{'a': 1}", False),
        ('{"a": 1', False),
        ('{"a": NaN}', False),
        ("12", False),
        ('"text"', False),
        ("", False),
        ("[" * 100_000, False),
        ("```" * 50_000, False),
    ],
)
def test_an_answer_that_is_json(answer, is_valid):
    from modelforge.evaluate.scores import valid_json

    start = time.process_time()
    assert valid_json([answer]) == [float(is_valid)]
    assert time.process_time() - start < 1


def test_rows_that_expect_json():
    from modelforge.evaluate.scores import expects_json

    assert expects_json([['{"a": 1}'], ["[]", "[1]"]])
    assert not expects_json([['{"a": 1}'], ["yes"]])
    assert not expects_json([['{"a": 1}'], []])
    assert not expects_json([])


def test_the_margin_of_a_pair():
    from modelforge.evaluate.scores import reward_margins

    assert reward_margins([1.0, 3.0, None], [2.5, 1.0, 1.0]) == [1.5, -2.0, None]
