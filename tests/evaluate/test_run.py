"""Evaluations of real runs of small models: the report, and what is not computed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from modelforge.runs.atomic_files import write_json
from modelforge.runs.feedback.corrections import Correction, write_corrections
from tests.evaluate.conftest import animal_rows, evaluate, prepare

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def report(animals, speaker):
    return evaluate(animals, speaker.output)


def metric(report, name):
    return next(each for each in report["metrics"] if each["name"] == name)


def values(report, name):
    contestants = metric(report, name)["contestants"]
    return {key: entry and entry["value"] for key, entry in contestants.items()}


def test_a_run_that_learned_the_answers_is_better_and_says_so(report):
    assert report["verdict"]["kind"] == "better"
    assert report["verdict"]["metric"] == "loss"
    assert report["learned"]["kind"] == "answers"
    exact = values(report, "exact_match")
    assert exact["tuned"] > 0.9 > 0.5 > max(exact["base"], exact["prompted"])
    assert metric(report, "exact_match")["difference"]["kind"] == "better"
    loss, perplexity = values(report, "loss"), values(report, "perplexity")
    assert loss["tuned"] < 0.2 < loss["prompted"] < 1.5
    assert perplexity["tuned"] == pytest.approx(2.718281828 ** loss["tuned"])
    rows = metric(report, "loss")
    mean = np.average(rows["row_values"], weights=rows["row_weights"])
    assert mean == pytest.approx(loss["tuned"], abs=1e-5)
    assert "row_values" not in metric(report, "perplexity")


def test_exchanged_answers_are_never_said_to_be_learned(speaker, learner):
    report = evaluate(speaker, learner, general=False)
    assert report["verdict"]["kind"] == "better"
    assert report["learned"]["kind"] in ("style", "too-few-rows")
    right, exchanged = report["learned"]["right"], report["learned"]["exchanged"]
    assert right["tuned"] < right["base"] / 2
    assert exchanged["tuned"] == pytest.approx(right["tuned"], abs=0.2)


def test_the_prompt_with_examples_is_measured_and_can_be_copied(report):
    need = report["need"]
    assert need["kind"] == "run"
    assert need["examples"] == report["facts"]["examples"] > 20
    assert need["prompt"].count("Question: ") == need["examples"]
    assert 0 < need["prompt_tokens"] < 1024
    counts = report["against_prompt"]
    assert counts["better"] + counts["worse"] + counts["equal"] == 26
    assert counts["better"] > 20
    assert counts["p"] < 0.01
    trained = {
        row["input"] for row in animal_rows() if f"Question: {row['input']}" in need["prompt"]
    }
    asked = {example["prompt"] for example in report["examples"]}
    assert len(trained) == need["examples"]
    assert not trained & asked


def test_the_evaluation_rows_are_those_that_the_training_kept_apart(report, animals):
    from modelforge.modeling.held_out import iter_evaluation_rows, run_request
    from modelforge.modeling.tokenize.dataset import iter_split_rows
    from modelforge.train.job import Job
    from modelforge.train.loop import dataset_request

    job = Job.read(animals)
    request = dataset_request(job)
    split = list(iter_split_rows(request, lambda _done, _total: None))
    wanted = [row["messages"][0]["content"] for row, is_eval in split if is_eval]
    assert sorted(example["prompt"] for example in report["examples"]) == sorted(wanted)
    record = json.loads(animals.config.read_text("utf-8"))
    found = [
        row["messages"][0]["content"] for row in iter_evaluation_rows(run_request(record, job.plan))
    ]
    assert found == wanted
    assert report["facts"]["never_trained_on"] == "checked"
    assert report["facts"]["evaluation_rows"] == report["facts"]["rows_used"] == 26


def test_general_prompts_show_what_was_forgotten(report):
    part = report["forgetting"]
    assert part["prompts"] == 100
    assert [group["prompts"] for group in part["groups"]] == [20] * 5
    assert part["kind"] in ("no-clear-change", "dropped", "better")
    assert part["mix"] is None or part["mix"]["share"] == pytest.approx(0.13, abs=0.02)


def test_nothing_known_is_computed_again(animals, speaker, report, monkeypatch):
    from modelforge.modeling.inference import LanguageModel

    (first,) = (animals.path.parents[1] / "evaluations").glob("*-0000")
    again = prepare(animals, speaker.output, 7)
    record = json.loads(again.record_file.read_text("utf-8"))
    record["facts"]["earlier"] = [str(first / "answers.jsonl")]
    write_json(again.record_file, record)

    def never(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(LanguageModel, "_batch_losses", never)
    monkeypatch.setattr(LanguageModel, "_generate", never)
    from modelforge.evaluate.run import run_evaluation

    assert run_evaluation(again) == 0
    same = again.read_report()
    assert same is not None
    assert same["metrics"] == report["metrics"]
    assert same["forgetting"] == report["forgetting"]
    assert not again.answers.exists()


def test_a_larger_evaluation_computes_only_the_further_rows(animals, speaker):
    options = {"general": False, "prompted": False, "answers": False}
    small, large = prepare(animals, speaker.output, 20, rows=10, **options), None
    from modelforge.evaluate.run import run_evaluation

    assert run_evaluation(small) == 0
    large = prepare(animals, speaker.output, 21, rows=20, **options)
    record = json.loads(large.record_file.read_text("utf-8"))
    record["facts"]["earlier"] = [str(small.answers)]
    write_json(large.record_file, record)
    assert run_evaluation(large) == 0
    known = set(small.answers.read_text("utf-8").splitlines())
    new = large.answers.read_text("utf-8").splitlines()
    assert not known & set(new)
    report = large.read_report()
    assert report is not None
    assert report["facts"]["rows_used"] == 20
    few = small.read_report()
    assert few is not None
    assert few["verdict"]["kind"] == "too-few-rows"
    assert few["learned"]["kind"] == "too-few-rows"


def test_a_failed_evaluation_keeps_what_it_has_measured(animals, speaker, monkeypatch):
    from modelforge.evaluate.measure import RowMeasurement
    from modelforge.evaluate.run import run_evaluation

    def crash(_self):
        raise TypeError("a fault")

    monkeypatch.setattr(RowMeasurement, "answers", crash)
    folder = prepare(animals, speaker.output, 30, general=False)
    assert run_evaluation(folder) == 1
    result, report = folder.result(), folder.read_report()
    assert result is not None
    assert result.problem is not None
    assert str(folder.log) in result.problem.remedy
    assert report is not None
    assert report["verdict"]["kind"] == "better"
    assert [each["name"] for each in report["metrics"]] == ["loss", "perplexity"]
    assert folder.answers.stat().st_size > 0


def test_an_error_of_one_part_leaves_the_others(animals, speaker, monkeypatch):
    from modelforge.evaluate.measure import RowMeasurement

    def full(_self):
        raise RuntimeError("out of memory on the device")

    monkeypatch.setattr(RowMeasurement, "prompted", full)
    report = evaluate(animals, speaker.output, 31, general=False)
    assert report["need"] is None
    assert values(report, "exact_match")["tuned"] > 0.9
    assert any("out of memory on the device" in note for note in report["notes"])


def test_changed_data_is_not_compared(animals, speaker):
    record = json.loads(animals.config.read_text("utf-8"))
    path = Path(record["dataset"]["path"])
    text = path.read_text("utf-8")
    try:
        path.write_text(text + '{"input": "One more?", "output": "Yes."}\n', "utf-8")
        report = evaluate(animals, speaker.output, 32)
    finally:
        path.write_text(text, "utf-8")
    assert report["verdict"]["kind"] == "too-few-rows"
    assert report["metrics"] == []
    assert any("has changed" in note for note in report["notes"])
    assert report["forgetting"]["prompts"] == 100


def test_a_fully_trained_run_without_its_base_is_measured_alone(speaker):
    report = evaluate(speaker, None, 33, general=False)
    assert report["verdict"]["kind"] == "too-few-rows"
    loss = values(report, "loss")
    assert loss["tuned"] < 1.5
    assert loss["base"] is None
    assert report["learned"] is None


def test_own_prompts_are_checked_and_a_contradiction_is_said(animals, speaker, tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": "What does the cow say today?", "expected": "moo"},
        {"prompt": "What does the owl say today?", "rule": {"equals": "it says hoot", "lines": 1}},
    ]
    options = {"general": False, "prompted": False, "answers": False, "prompts": str(path)}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    report = evaluate(animals, speaker.output, 34, **options)
    assert report["forgetting"]["prompts"] == report["forgetting"]["tuned"] == 2
    assert report["forgetting"]["kind"] == "too-few-rows"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "Say it.", "rule": {"least_words": 9, "most_words": 3}}\n')
    report = evaluate(animals, speaker.output, 35, **options)
    assert report["forgetting"] is None
    assert report["verdict"]["kind"] == "better"
    assert any("at least 9 words, but at most 3" in note for note in report["notes"])


def test_a_correction_that_the_run_breaks_is_named(animals, speaker):
    def correction(number, animal, correct):
        question = f"What does the {animal} say today?"
        return Correction(
            id=str(number),
            created=0.0,
            run="x",
            run_name="an earlier run",
            kind="conversation",
            messages=({"role": "user", "content": question},),
            tools=(),
            answer="It says nothing.",
            correction=correct,
            dataset="corrections.jsonl",
            row={},
        )

    path = animals.path.parents[1] / "corrections.jsonl"
    kept, broken = correction(1, "cow", "It says moo."), correction(2, "owl", "It sings.")
    options = {"general": False, "prompted": False, "answers": False}
    try:
        write_corrections(path, [kept, broken])
        notes = evaluate(animals, speaker.output, 40, **options)["notes"]
        write_corrections(path, [kept])
        again = evaluate(animals, speaker.output, 41, **options)["notes"]
    finally:
        path.unlink()
    (named,) = (note for note in notes if "correction" in note)
    assert "What does the owl say today?" in named
    assert "It says hoot." in named
    assert "It sings." in named
    assert again == ["The tuned model gives 1 corrected answer of Chat as corrected."]


def test_a_damaged_record_is_a_result(tmp_path):
    from modelforge.evaluate.run import run_evaluation
    from modelforge.runs.evaluations import EvaluationFolder

    folder = EvaluationFolder(tmp_path / "evaluations" / "20260102-000000-0000")
    folder.path.mkdir(parents=True)
    write_json(folder.record_file, {"request": {"run": "x"}})
    assert run_evaluation(folder) == 1
    result = folder.result()
    assert result is not None
    assert result.problem is not None
    assert "damaged" in result.problem.what
    shutil.rmtree(folder.path)
