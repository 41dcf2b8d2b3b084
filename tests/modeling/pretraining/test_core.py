"""CORE on a small bundle made by hand: its prompts, which tokens count, and its scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelforge.data import core_tasks
from modelforge.errors import DataError
from modelforge.modeling.pretraining import core_score

TASKS = [
    ("capitals", "multiple_choice", 1, " ", 50.0),
    ("pronouns", "schema", 0, " ", 50.0),
    ("last_word", "language_modeling", 1, " ", 0.0),
]
ROWS = {
    "capitals": [
        {"query": "Capital of France:", "choices": ["Paris", "Rome"], "gold": 0},
        {"query": "Capital of Italy:", "choices": ["Paris", "Rome"], "gold": 1},
    ],
    "pronouns": [
        {
            "context_options": ["The cup fell; the cup", "The cup fell; the table"],
            "continuation": "broke.",
            "gold": 0,
        }
    ],
    "last_word": [
        {"context": "One, two, ", "continuation": "three"},
        {"context": "Red, green, ", "continuation": "blue"},
    ],
}


def bundle(folder, tasks=TASKS, rows=ROWS):
    (folder / "eval_data").mkdir(parents=True)
    listed = []
    baselines = ["Eval Task,Random baseline"]
    for name, kind, shots, delimiter, baseline in tasks:
        entry = {"label": name, "icl_task_type": kind, "dataset_uri": f"{name}.jsonl"}
        listed.append(entry | {"num_fewshot": [shots], "continuation_delimiter": delimiter})
        baselines.append(f"{name},{baseline}")
        if name in rows:
            text = "".join(json.dumps(row) + "\n" for row in rows[name])
            (folder / "eval_data" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "core.yaml").write_text(json.dumps({"icl_tasks": listed}), encoding="utf-8")
    (folder / "eval_meta_data.csv").write_text("\n".join(baselines), encoding="utf-8")
    return folder


def encode(text):
    return [0, *(ord(letter) for letter in text)]


def text_of(ids):
    return "".join(map(chr, ids))


def task_named(folder, name):
    return next(task for task in core_tasks.read_core_tasks(folder) if task.name == name)


def test_examples_stand_before_the_question_and_only_the_answers_count(tmp_path):
    task = task_named(bundle(tmp_path / "core"), "capitals")
    first = next(at for at, row in enumerate(task.rows) if row["gold"] == 0)
    asked = core_score.candidates(task, first, encode, 1000)
    assert [text_of(each.ids[1:]) for each in asked] == [
        "Capital of Italy: Rome\n\nCapital of France: Paris",
        "Capital of Italy: Rome\n\nCapital of France: Rome",
    ]
    assert [text_of(each.ids[each.start : each.end]) for each in asked] == ["Paris", "Rome"]


def test_of_two_contexts_only_their_common_continuation_counts(tmp_path):
    task = task_named(bundle(tmp_path / "core"), "pronouns")
    asked = core_score.candidates(task, 0, encode, 1000)
    assert [text_of(each.ids[each.start : each.end]) for each in asked] == [" broke.", " broke."]


def test_a_continuation_is_right_if_each_token_is_the_likeliest(tmp_path):
    task = task_named(bundle(tmp_path / "core"), "last_word")
    asked = core_score.candidates(task, 0, encode, 1000)
    (only,) = asked
    word = task.rows[0]["continuation"]
    assert text_of(only.ids[only.start : only.end]) == f" {word}"

    def said(ids, wrong=None):
        likeliest = np.array(ids[1:])
        if wrong is not None:
            likeliest[wrong] += 1
        return [core_score.Predicted(np.zeros(len(ids) - 1), likeliest)]

    assert core_score.is_right(task, 0, asked, said(only.ids))
    assert not core_score.is_right(task, 0, asked, said(only.ids, wrong=-1))
    assert core_score.is_right(task, 0, asked, said(only.ids, wrong=0)), "before the continuation"


def test_the_option_with_the_lowest_mean_loss_is_chosen(tmp_path):
    """Paris has 5 letters and Rome 4: the mean counts, not the sum."""
    task = task_named(bundle(tmp_path / "core"), "capitals")

    def predict(sequences):
        losses = {"Paris": 1.0, "Rome": 1.2}
        found = []
        for ids in sequences:
            word = text_of(ids).rsplit(" ", 1)[1]
            found.append(
                core_score.Predicted(np.full(len(ids) - 1, losses[word]), np.array(ids[1:]))
            )
        return found

    assert core_score.accuracy(task, encode, predict, most=10, context=1000) == 0.5
    assert task.centred(0.5) == 0.0
    assert task.centred(1.0) == 1.0
    assert task.centred(0.25) == -0.5


def test_an_option_that_another_begins_with_has_a_token_that_counts():
    rows = [{"query": "Six times two:", "choices": ["12", "1"], "gold": 0}]
    task = core_tasks.CoreTask("sums", "multiple_choice", rows, 0, " ", 0.5)
    asked = core_score.candidates(task, 0, encode, 1000)
    assert [text_of(each.ids[each.start : each.end]) for each in asked] == ["12", "1"]


def test_a_long_prompt_loses_its_beginning(tmp_path):
    task = task_named(bundle(tmp_path / "core"), "capitals")
    for each in core_score.candidates(task, 0, encode, 12):
        assert len(each.ids) == 12
        assert text_of(each.ids[each.start : each.end]) in {"Paris", "Rome"}


def test_all_problems_of_a_folder_are_named(tmp_path):
    broken = {**ROWS, "last_word": [{"context": "no continuation"}]}
    del broken["pronouns"]
    with pytest.raises(DataError) as caught:
        core_tasks.read_core_tasks(bundle(tmp_path / "core", rows=broken))
    messages = [str(problem) for problem in caught.value.problems]
    assert len(messages) == 2
    assert "task pronouns: eval_data/pronouns.jsonl does not exist." in messages[0]
    assert "last_word.jsonl line 1: “continuation” is missing or no text." in messages[1]
    with pytest.raises(DataError, match=r"core.yaml does not exist") as caught:
        core_tasks.read_core_tasks(tmp_path / "nothing")
    assert len(caught.value.problems) == 2


def test_a_task_outside_the_folder_is_not_read(tmp_path):
    folder = bundle(tmp_path / "core")
    (tmp_path / "secret.jsonl").write_text("{}\n", encoding="utf-8")
    text = (folder / "core.yaml").read_text("utf-8")
    (folder / "core.yaml").write_text(text.replace("capitals.jsonl", "../../secret.jsonl"), "utf-8")
    with pytest.raises(DataError, match="outside eval_data"):
        core_tasks.read_core_tasks(folder)


def test_examples_are_among_the_rows_that_are_scored(tmp_path):
    rows = [{"query": f"{number}:", "choices": ["odd", "even"], "gold": 0} for number in range(100)]
    task = core_tasks.CoreTask("many", "multiple_choice", rows, 3, " ", 0.5)
    asked = []

    def predict(sequences):
        asked.append(text_of(sequences[0][1:]))
        return [
            core_score.Predicted(np.zeros(len(ids) - 1), np.array(ids[1:])) for ids in sequences
        ]

    core_score.accuracy(task, encode, predict, most=4, context=1000)
    used = {int(word.split(":")[0]) for text in asked for word in text.split("\n\n")}
    assert used == {0, 1, 2, 3}


def test_a_folder_is_checked_before_a_start_without_reading_rows(tmp_path):
    broken = {**ROWS, "last_word": [{"context": "no continuation"}]}
    folder = bundle(tmp_path / "core", rows=broken)
    assert core_tasks._folder_problems(folder) == []
    text = (folder / "eval_meta_data.csv").read_text("utf-8")
    (folder / "eval_meta_data.csv").write_text(
        text.replace("pronouns,50.0", "pronouns,100"), "utf-8"
    )
    (folder / "eval_data" / "capitals.jsonl").unlink()
    messages = [str(problem) for problem in core_tasks._folder_problems(folder)]
    assert len(messages) == 2
    assert "task capitals: eval_data/capitals.jsonl does not exist." in messages[0]
    assert "task pronouns: Its random baseline is 100; from 0 to below 100" in messages[1]


@pytest.mark.parametrize("shots", ["3", [-1], [1.5]])
def test_a_number_of_examples_must_be_a_whole_number(tmp_path, shots):
    folder = bundle(tmp_path / "core")
    text = (folder / "core.yaml").read_text("utf-8")
    changed = text.replace('"num_fewshot": [0]', f'"num_fewshot": {json.dumps(shots)}')
    (folder / "core.yaml").write_text(changed, "utf-8")
    with pytest.raises(DataError, match="task pronouns: num_fewshot is"):
        core_tasks.read_core_tasks(folder)


def test_a_folder_without_tasks_is_refused(tmp_path):
    folder = bundle(tmp_path / "core")
    (folder / "core.yaml").write_text('{"icl_tasks": []}', "utf-8")
    with pytest.raises(DataError, match="names no tasks"):
        core_tasks.read_core_tasks(folder)


def test_the_mean_and_its_interval_are_those_computed_by_hand():
    """Scores of 0.5 and 0.2: the mean is 0.35.

    With z² = 3.8415, the first has a share of (30 + 1.9207) / 43.8415 = 0.72810 and a variance of
    0.72810 × 0.27190 / 43.8415 / 0.5² = 0.018062; the second of (20 + 1.9207) / 103.8415 = 0.21110
    and 0.21110 × 0.78890 / 103.8415 = 0.0016038. The mean has (0.018062 + 0.0016038) / 4 =
    0.0049165, and 1.96 times its root is 0.13743.
    """
    from modelforge.modeling.pretraining.core_result import CoreResult, TaskScore, as_data

    first = TaskScore("a", "multiple_choice", 40, 10, 0.75, 0.5)
    second = TaskScore("b", "language_modeling", 100, 0, 0.2, 0.0)
    result = CoreResult((first, second))
    assert result.score == pytest.approx(0.35)
    assert result.interval == pytest.approx((0.35 - 0.13743, 0.35 + 0.13743), abs=1e-4)
    assert as_data(result.tasks)[0]["score"] == 0.5


def test_all_wrong_is_not_certain():
    from modelforge.modeling.pretraining.core_result import CoreResult, TaskScore

    few, many = (TaskScore("a", "schema", rows, 0, 0.0, 0.0) for rows in (5, 500))
    widths = [np.ptp(CoreResult((task,)).interval) for task in (few, many)]
    assert widths[0] > 10 * widths[1] > 0


@pytest.mark.torch
def test_predictions_do_not_depend_on_the_batch(monkeypatch):
    import torch
    from torch.nn.functional import cross_entropy

    from modelforge.config.pretraining.shape import Architecture, shape_of_depth
    from modelforge.modeling.pretraining import core_predict
    from modelforge.modeling.pretraining.build import build_model

    shape = shape_of_depth(
        2, aspect_ratio=16, head_dim=16, vocab_size=64, context=32, architecture=Architecture.LLAMA
    )
    model = build_model(shape, zero_projections=False).eval()
    sequences = [[1, 5, 9, 2], [1, 7], [3, 3, 8, 9, 10, 11]]
    together = core_predict.ModelPredictor(model)(sequences)
    monkeypatch.setattr(core_predict, "MOST_LOGITS", 1)
    alone = core_predict.ModelPredictor(model)(sequences)
    for ids, one, other in zip(sequences, together, alone, strict=True):
        logits = model(torch.tensor([ids])).logits[0, :-1]
        expected = cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        for found in (one, other):
            np.testing.assert_allclose(found.losses, expected.detach().numpy(), rtol=1e-4)
            assert found.likeliest.tolist() == logits.argmax(-1).tolist()
