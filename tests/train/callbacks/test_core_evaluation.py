"""CORE while a tiny model trains: when it is scored, what is written, and what a resume repeats."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from modelforge.errors import DataError
from modelforge.runs.events import EventWriter, iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.measured_events import CoreEvent
from modelforge.runs.timeline import Timeline
from modelforge.runs.view import RunView
from tests.train.tiny_trainer import tiny_llama, trainer_config, trainer_for

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture
def folder(tmp_path):
    """A folder of one task of each type, whose words the tiny tokenizer knows."""
    rows = {
        "choice": [{"query": f"w{n}", "choices": ["w5 w6", "w7"], "gold": 0} for n in range(6)],
        "schema": [{"context_options": ["w5", "w6"], "continuation": "w7 w8", "gold": 1}],
        "words": [{"context": f"w{n} ", "continuation": "w9"} for n in range(5, 9)],
    }
    kinds = ["multiple_choice", "schema", "language_modeling"]
    folder = tmp_path / "core"
    (folder / "eval_data").mkdir(parents=True)
    tasks = []
    for (name, lines), kind in zip(rows.items(), kinds, strict=True):
        text = "".join(json.dumps(row) + "\n" for row in lines)
        (folder / "eval_data" / f"{name}.jsonl").write_text(text, "utf-8")
        uri = f"{name}.jsonl"
        tasks.append({"label": name, "icl_task_type": kind, "dataset_uri": uri, "num_fewshot": [1]})
    (folder / "core.yaml").write_text(json.dumps({"icl_tasks": tasks}), "utf-8")
    table = "Eval Task,Random baseline\nchoice,50\nschema,50\nwords,0\n"
    (folder / "eval_meta_data.csv").write_text(table, "utf-8")
    return folder


def train_with_core(tmp_path, folder, steps=5, **evaluation):
    """Train the tiny model; return the events of its scores, the trainer and the clock calls."""
    from tokenizers.pre_tokenizers import WhitespaceSplit

    from modelforge.data.core_tasks import read_core_tasks
    from modelforge.train.callbacks.core_evaluation import CoreCallback
    from modelforge.train.event_log import EventLog
    from modelforge.train.stop import Stop

    run = RunFolder(tmp_path / "run")
    run.path.mkdir(exist_ok=True)
    trainer = trainer_for(tiny_llama(), run.path, max_steps=steps)
    trainer.processing_class.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    writer = EventWriter(run.events)
    config = trainer_config(evaluation=evaluation)
    job = SimpleNamespace(config=config, run=run)
    context = SimpleNamespace(job=job, log=EventLog(writer), stop=Stop(run.stop))
    clocks = []
    trainer.add_callback(CoreCallback(context, trainer, read_core_tasks(folder), clocks.append))
    trainer.train()
    writer.close()
    scores = Timeline().add_all(iter_events(run.events)).core_scores
    return scores, trainer, clocks


def test_it_is_scored_every_n_steps_and_at_the_end_but_not_before_the_first(tmp_path, folder):
    scores, _, clocks = train_with_core(tmp_path, folder, core_every=2)
    assert [event.step for event in scores] == [2, 4, 5]
    assert len(clocks) == 3, "scoring is not training time"
    last = scores[-1]
    assert [task["name"] for task in last.tasks] == ["choice", "schema", "words"]
    assert [task["rows"] for task in last.tasks] == [6, 1, 4]
    assert last.score == pytest.approx(sum(task["score"] for task in last.tasks) / 3, abs=1e-5)
    assert last.low < last.score < last.high


def test_without_a_number_of_steps_it_is_scored_at_the_end_only(tmp_path, folder):
    scores, _, _ = train_with_core(tmp_path, folder, core_max_per_task=2)
    assert [event.step for event in scores] == [5]
    assert [task["rows"] for task in scores[0].tasks] == [2, 1, 2]


def test_a_step_whose_score_is_known_is_not_scored_again(tmp_path, folder):
    first, _, _ = train_with_core(tmp_path, folder, steps=4, core_every=2)
    again, _, _ = train_with_core(tmp_path, folder, steps=6, core_every=2)
    assert [event.step for event in first] == [2, 4]
    assert [event.step for event in again] == [2, 4, 6]


def test_scoring_changes_nothing_that_is_trained(tmp_path, folder):
    import torch

    _, scored, _ = train_with_core(tmp_path, folder, core_every=1)
    plain = trainer_for(tiny_llama(), tmp_path / "plain", max_steps=5)
    plain.train()
    assert scored.model.training
    pairs = zip(scored.model.parameters(), plain.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_an_error_is_noted_and_ends_only_the_scoring(tmp_path, folder, monkeypatch):
    from modelforge.train.callbacks import core_evaluation

    def broken(*_args, **_kwargs):
        raise RuntimeError("no memory")

    monkeypatch.setattr(core_evaluation, "accuracy", broken)
    scores, trainer, _ = train_with_core(tmp_path, folder, core_every=2)
    assert scores == []
    assert trainer.state.global_step == 5
    notes = [e.data for e in iter_events(tmp_path / "run" / "events.jsonl") if e.kind == "note"]
    assert [note["code"] for note in notes] == ["core-not-scored"]


FROM_NOTHING = {
    "pretraining": {"enabled": True},
    "model_name": "d6",
    "adapter": {"enabled": False},
}


def test_only_a_training_from_nothing_with_a_folder_is_scored(tmp_path, folder):
    from modelforge.train.callbacks import core_evaluation

    def callbacks_of(**settings):
        added = []
        run = RunFolder(tmp_path)
        job = SimpleNamespace(config=trainer_config(**settings), run=run)
        trainer = SimpleNamespace(add_callback=added.append)
        core_evaluation.attach(SimpleNamespace(job=job), trainer, print)
        return added

    named = {"evaluation": {"core_bundle": str(folder)}}
    assert len(callbacks_of(**FROM_NOTHING, **named)) == 1
    assert callbacks_of(**FROM_NOTHING) == []
    assert callbacks_of(**named) == []
    (folder / "eval_data" / "words.jsonl").unlink()
    with pytest.raises(DataError, match=r"words\.jsonl does not exist"):
        callbacks_of(**FROM_NOTHING, **named)


def test_a_folder_with_a_missing_task_is_refused_before_the_start(folder):
    from modelforge.data.core_tasks import check_core_folder

    config = trainer_config(**FROM_NOTHING, evaluation={"core_bundle": str(folder)})
    check_core_folder(config)
    (folder / "eval_data" / "words.jsonl").unlink()
    with pytest.raises(DataError, match=r"task words: eval_data/words\.jsonl") as caught:
        check_core_folder(config)
    assert caught.value.problems[0].where == "evaluation.core_bundle"


def test_scores_after_the_checkpoint_of_a_resume_are_dropped():
    timeline = Timeline()
    events = [CoreEvent(step=step, score=0.1 * step) for step in (2, 4)]
    for number, event in enumerate(events):
        timeline.add((number, 0.0, event.kind, event.as_data()))
    timeline.add((2, 0.0, "resumed", {"step": 3, "stage": None, "checkpoint": "c", "damaged": []}))
    assert [event.step for event in timeline.core_scores] == [2]
    assert "core" in RunView.__dataclass_fields__
