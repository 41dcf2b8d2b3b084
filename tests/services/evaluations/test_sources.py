"""What is wrong with a request for an evaluation: everything at once, with value and remedy."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from modelforge.errors import BusyError, ConfigError, ForgeError, MissingPackageError, NotFoundError
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.services.evaluations import sources
from tests.runs.homes import put_run
from tests.services.evaluations.conftest import put_rows
from tests.services.exports.conftest import put_from_nothing, put_trained

WRITE = 'Write {"prompt": "What is 2 + 2?", "expected": "4"}'


def asked(run, **more) -> EvaluationRequest:
    return EvaluationRequest(run.id, **more)


def refusal(forge, request) -> ForgeError:
    with pytest.raises(ForgeError) as caught:
        forge.evaluations.start(request)
    assert forge.evaluations.list() == []
    return caught.value


def texts(error):
    return [str(problem) for problem in error.problems]


def test_everything_that_is_wrong_is_listed_at_once(server, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    lines = ['{"prompt": "", "expected": "x"}', "", '{"promt": "x", "expected": "x"}', "[]"]
    prompts.write_text("\n".join(lines), "utf-8")
    request = EvaluationRequest("gone", rows=0, seed=-1, tasks=("../x",), prompts=str(prompts))
    assert texts(refusal(server(), request)) == [
        "rows: 0 is not possible. Give a number from 1 to 10,000.",
        "seed: -1 is not possible. Give 0 to 4294967295.",
        "tasks: '../x' is not a name of a task. Write names as `lm-eval ls tasks` lists them.",
        f"prompts.jsonl:1: There is no prompt. {WRITE}",
        "prompts.jsonl:3: 'promt' is not a known field. Use prompt, expected, rule.",
        f"prompts.jsonl:3: There is no prompt. {WRITE}",
        f"prompts.jsonl:4: The line is not a JSON object. {WRITE}",
        "run: There is no run 'gone'. `modelforge runs list` and the Runs page list all runs.",
    ]


def test_a_deleted_run_is_restored_first(server, run):
    forge = server()
    forge.trash.delete([run.id])
    error = refusal(forge, asked(run))
    assert isinstance(error, NotFoundError)
    assert f"modelforge runs restore {run.id}" in str(error)


def test_a_run_without_a_model_is_refused(server, tmp_path):
    run = put_run(tmp_path / "home", 3, ending="failed", name="Broken")
    error = refusal(server(), asked(run))
    assert texts(error) == [
        "run: “Broken” has no model: it is failed. Choose a run that has finished."
    ]


def test_an_active_run_is_evaluated_later_and_other_problems_are_listed_as_well(server, run):
    run.events.write_text("", "utf-8")
    run.process.write_text(f'{{"launching": {time.time()}}}', "utf-8")
    error = refusal(server(), asked(run))
    assert isinstance(error, BusyError)
    assert texts(error) == [
        "run: “Support desk, first try!” is in progress. Evaluate it when it is over."
    ]
    assert len(refusal(server(), asked(run, rows=0)).problems) == 2


def test_a_base_model_that_is_gone_is_named(server, run, model):
    shutil.rmtree(model)
    error = refusal(server(), asked(run))
    assert isinstance(error, NotFoundError)
    assert error.problems[0].what == f"The base model tiny is not at {model} any more."
    assert error.problems[0].remedy == (
        "Put the folder back. Without its base model, an adapter cannot be evaluated."
    )


def test_a_fully_trained_run_is_measured_alone_without_its_base_model(server, tmp_path, model):
    run = put_trained(tmp_path / "home", model, 2, whole=True)
    put_rows(run, tmp_path)
    forge = server("waits")
    assert forge.evaluations.predict(asked(run)).notes == ()
    shutil.rmtree(model)
    view = forge.evaluations.start(asked(run))
    note = f"The base model tiny is not at {model} any more. The trained model is measured alone."
    assert view.prediction.notes == (note,)
    facts = forge.evaluations.folder(view.id).record().facts
    assert (facts["base_path"], facts["adapter_path"]) == (None, None)
    assert facts["notes"] == [note]


def test_a_run_without_evaluation_rows_shows_the_rest(server, run, tmp_path):
    put_rows(run, tmp_path, eval_split=0.0)
    forge = server()
    predicted = forge.evaluations.predict(asked(run))
    assert predicted.rows == 0
    without = "No rows of the data were kept apart for evaluation."
    assert predicted.notes == (
        f"{without} The report compares no rows of the training's own task.",
    )
    error = refusal(forge, asked(run, general=False))
    assert isinstance(error, ConfigError)
    assert "No rows of the data were kept apart for evaluation." in str(error)
    assert "train with an evaluation split above 0" in str(error)


def test_data_that_is_gone_shows_the_rest(server, run, tmp_path):
    (tmp_path / "rows.jsonl").unlink()
    predicted = server().evaluations.predict(asked(run))
    assert predicted.rows == 0
    assert f"The data file rows.jsonl is not in {tmp_path} any more." in predicted.notes[0]


def test_fewer_rows_than_can_tell_are_said_before_the_start(server, run, tmp_path):
    put_rows(run, tmp_path, rows=80)
    forge = server()
    few = "8 evaluation rows are too few to tell which model is better; 20 are the least."
    notes = (f"{few} The run kept no more apart.",)
    assert forge.evaluations.predict(asked(run)).notes == notes
    put_rows(run, tmp_path, rows=400)
    assert forge.evaluations.predict(asked(run, rows=19)).notes == (
        "19 evaluation rows are too few to tell which model is better; 20 are the least.",
    )
    assert forge.evaluations.predict(asked(run, rows=20)).notes == ()


def test_validation_rows_and_counted_rows_come_before_the_split(server, run, tmp_path):
    forge = server()
    record = json.loads(run.config.read_text("utf-8"))
    entry = record["dataset"]["sources"][0]
    record["dataset"]["validation"] = [entry | {"rows": 33}]
    run.config.write_text(json.dumps(record), "utf-8")
    assert forge.evaluations.predict(asked(run)).rows == 33
    counted = {"total_steps": 3, "eval_rows": 38, "all_tokens": 9000, "train_rows": 300}
    with run.events.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"n": 99, "t": 1.0, "kind": "plan", "data": counted}) + "\n")
    assert forge.evaluations.predict(asked(run)).rows == 38
    assert forge.evaluations.predict(asked(run, rows=30)).rows == 30


def test_tasks_need_the_package(server, run, monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda _name: None)
    error = refusal(server(), asked(run, tasks=("arc_easy",)))
    assert isinstance(error, MissingPackageError)
    assert "python launch.py setup --with lm-eval" in str(error)


def test_more_is_predicted_to_take_longer(server, run):
    forge = server()
    few = forge.evaluations.predict(asked(run, answers=False, prompted=False, general=False))
    prompted = forge.evaluations.predict(asked(run, answers=False, general=False))
    answers = forge.evaluations.predict(asked(run, general=False))
    everything = forge.evaluations.predict(asked(run))
    seconds = [each.seconds for each in (few, prompted, answers, everything)]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == 4
    assert few.memory_bytes > 600 * 2**20


def test_a_model_from_nothing_has_no_base_to_be_compared_with(server, model, tmp_path):
    run = put_from_nothing(tmp_path / "home", model, name="d6 on prose")
    record = json.loads(run.config.read_text("utf-8"))
    record["config"]["evaluation"] = {"report": True}
    run.config.write_text(json.dumps(record), "utf-8")
    forge = server()
    error = refusal(forge, asked(run))
    (text,) = texts(error)
    assert text == (
        "run: “d6 on prose” was trained from nothing: there is no base model to compare it with. "
        "Its page shows bits per byte and CORE. Evaluate the run that teaches it to chat."
    )
    forge.tend()
    assert forge.evaluations.list() == []
    assert not run.evaluation.exists()
