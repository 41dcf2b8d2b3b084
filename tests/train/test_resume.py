"""A run that was ended and went on is the run that was never ended, to the byte."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from modelforge.runs.atomic_files import write_json
from modelforge.runs.checkpoints import list_checkpoints, newest_valid, verify
from modelforge.runs.events import last_number, read_events

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PREFERRED = [
    {"prompt": f"What is {n}?", "chosen": f"It is {n}, of course.", "rejected": "No idea at all"}
    for n in range(13)
]
# Two epochs of four updates, two batches each, checked and saved after every third.
SHORT: dict[str, Any] = {
    "max_steps": 8,
    "gradient_accumulation_steps": 2,
    "eval_split": 0.1,
    "eval_steps": 3,
    "lora_dropout": 0.2,
    "learning_rate": 0.002,
}


class Killed(BaseException):
    """As sudden as a kill: nothing of ours sees it."""


def kill() -> None:
    raise Killed


def again(bench, run):
    """Start the run once more, as the supervisor does, and return what it says then."""
    run.stop.unlink(missing_ok=True)
    before = last_number(run.events)
    write_json(run.process, {"after": before})
    bench.work(run)
    return [event for event in read_events(run.events)[0] if event.n > before]


def reported(events, kind):
    return [event.data for event in events if event.kind == kind]


def adapter(run) -> bytes:
    return (run.output / "adapter_model.safetensors").read_bytes()


def course(events) -> list[Any]:
    """Return what was measured of every update and check, without the clock and the machine."""
    points: dict[tuple[Any, ...], Any] = {}
    for event in events:
        data = event.data
        if event.kind == "resumed":
            stage = data["stage"] or 1
            points = {
                key: point
                for key, point in points.items()
                if key[0] < stage or (key[0] == stage and key[2] <= data["step"])
            }
        elif event.kind in ("step", "eval"):
            names = ("loss", "learning_rate", "grad_norm", "tokens", "metrics", "best", "epoch")
            point = {name: data.get(name) for name in names}
            point["metrics"].pop("step_time", None)
            points[(data.get("stage", 1), event.kind, data["step"])] = point
    return sorted(points.items())


_wholes: dict[str, tuple[list[Any], bytes]] = {}


def never_ended(bench, asked) -> tuple[list[Any], bytes]:
    """Return the course and the adapter of a run that is left in peace; each is done once."""
    known = json.dumps([asked, bench.rows.read_text()])
    if known not in _wholes:
        run = bench.prepare(**asked)
        events = bench.work(run)
        assert events[-1].kind == "finished", events[-1].data
        _wholes[known] = course(events), adapter(run)
    return _wholes[known]


def same(run, whole) -> None:
    points, weights = whole
    assert course(read_events(run.events)[0]) == points
    assert adapter(run) == weights


WAYS = {
    # Grouped by length the order is drawn from the chance that dropout draws from too.
    "noise-and-rare-logs": {
        "trainer": {"neftune_noise_alpha": 5},
        "logging": {"logging_steps": 4},
        "lr_scheduler_type": "linear",
    },
    "packing": {"packing": True, "max_seq_length": 40, "group_by_length": False},
    "between-epochs": {"eval_steps": 4},
    "in-order": {"data": {"shuffle": False}},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_killed_in_its_second_epoch_resumes_exactly(bench, at, way):
    whole = never_ended(bench, SHORT | WAYS[way])
    run = bench.prepare(**SHORT | WAYS[way])
    at("on_step_end", 7, kill)
    with pytest.raises(Killed):
        bench.work(run)
    events = again(bench, run)
    (resumed,) = reported(events, "resumed")
    step = 4 if way == "between-epochs" else 6
    name = f"checkpoint-{step}"
    assert resumed == {"step": step, "stage": None, "checkpoint": name, "damaged": []}
    assert events[-1].kind == "finished"
    same(run, whole)


@pytest.mark.parametrize(("hook", "step"), [("on_substep_end", 4), ("on_step_end", 6)])
def test_stop_and_keep_saves_a_checkpoint_and_resumes_to_the_byte(bench, at, hook, step):
    # In the middle of the fifth update, and at the sixth, whose check is then still owed.
    whole = never_ended(bench, SHORT)
    run = bench.prepare(**SHORT)
    at(hook, step, lambda: run.stop.write_text("keep"))
    stopped = bench.work(run)
    assert stopped[-1].kind == "stopped"
    assert (stopped[-1].data["step"], stopped[-1].data["kept"]) == (step, True)
    found, damaged = newest_valid(run)
    assert (found.step, damaged) == (step, [])
    assert adapter(run)
    events = again(bench, run)
    assert reported(events, "resumed")[0]["step"] == step
    assert events[-1].kind == "finished"
    same(run, whole)


def test_a_stop_request_at_the_last_step_still_saves_the_best(bench, at):
    run = bench.prepare(**SHORT | {"max_steps": 4})
    at("on_step_end", 4, lambda: run.stop.write_text("keep"))
    events = bench.work(run)
    assert events[-1].kind == "finished"
    assert events[-1].data["best_step"] == 3
    assert sorted(each.step for each in list_checkpoints(run)) == [3, 4]
    best = run.checkpoints / "checkpoint-3" / "adapter_model.safetensors"
    assert adapter(run) == best.read_bytes()


def test_stop_and_discard_deletes_checkpoints_and_earlier_output(bench, at):
    run = bench.prepare(**SHORT)
    at("on_step_end", 4, lambda: run.stop.write_text("keep"))
    bench.work(run)
    assert run.has_result
    assert list_checkpoints(run)
    at("on_step_end", 5, lambda: run.stop.write_text("discard"))
    events = again(bench, run)
    assert events[-1].data["kept"] is False
    assert not run.output.exists()
    assert not run.checkpoints.exists()


def test_a_run_stopped_before_it_resumes_keeps_its_checkpoints(bench, at, monkeypatch):
    from modelforge.train import job

    run = bench.prepare(**SHORT)
    at("on_step_end", 5, kill)
    with pytest.raises(Killed):
        bench.work(run)
    read = job.Job.read.__func__

    def stopping(cls, folder):
        folder.stop.write_text("keep")
        return read(cls, folder)

    monkeypatch.setattr(job.Job, "read", classmethod(stopping))
    events = again(bench, run)
    assert (events[-1].kind, events[-1].data["step"]) == ("stopped", 3)
    assert newest_valid(run)[0].step == 3


def test_a_damaged_checkpoint_is_noted_and_the_previous_one_is_used(bench, at):
    whole = never_ended(bench, SHORT)
    run = bench.prepare(**SHORT)
    at("on_step_end", 7, kill)
    with pytest.raises(Killed):
        bench.work(run)
    (run.checkpoints / "checkpoint-6" / "optimizer.pt").write_bytes(b"")
    events = again(bench, run)
    (resumed,) = reported(events, "resumed")
    why = "the size of optimizer.pt has changed"
    assert resumed["damaged"] == [{"name": "checkpoint-6", "why": why}]
    assert resumed["checkpoint"] == "checkpoint-3"
    assert any("checkpoint-6 is damaged" in note["text"] for note in reported(events, "note"))
    same(run, whole)
    assert verify(run.checkpoints / "checkpoint-6") is None


def test_a_run_without_a_checkpoint_starts_over_and_reports_it(bench, at):
    run = bench.prepare(**SHORT)
    at("on_step_end", 2, kill)
    with pytest.raises(Killed):
        bench.work(run)
    events = again(bench, run)
    assert reported(events, "resumed") == [
        {"step": 0, "stage": None, "checkpoint": None, "damaged": []}
    ]
    assert reported(events, "step")[0]["step"] == 1
    assert events[-1].kind == "finished"


def test_a_kill_during_a_save_leaves_no_partial_checkpoint(bench, at, monkeypatch):
    from transformers import Trainer

    whole = never_ended(bench, SHORT)
    run = bench.prepare(**SHORT)
    true = Trainer._save_scaler

    def half_way(self, folder):
        true(self, folder)
        if self.state.global_step == 6:
            kill()

    # Nothing is cleared up either when a process is killed.
    monkeypatch.setattr(Trainer, "_save_scaler", half_way)
    monkeypatch.setattr(
        "modelforge.train.trainer.checkpointing.shutil.rmtree", lambda *_, **__: None
    )
    with pytest.raises(Killed):
        bench.work(run)
    monkeypatch.undo()
    assert [path.name for path in run.checkpoints.glob(".staged-*/*")] == ["checkpoint-6"]
    assert [each.step for each in list_checkpoints(run)] == [3]
    events = again(bench, run)
    assert reported(events, "resumed")[0]["damaged"] == []
    assert not list(run.checkpoints.glob(".*"))
    same(run, whole)


def test_a_checkpoint_has_no_pickles_and_no_absolute_paths(bench):
    run = bench.prepare(**SHORT | {"max_steps": 3})
    bench.work(run)
    (found,) = list_checkpoints(run)
    assert not list(found.path.rglob("*.bin"))
    state = json.loads((found.path / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == "checkpoint-3"
    for path in found.path.rglob("*.json"):
        assert str(run.path) not in path.read_text()


def test_the_best_checkpoint_is_found_after_the_home_was_moved(bench, at, tmp_path):
    # A rate this high wrecks the model after the first check.
    wild = {"learning_rate": 1.0, "max_grad_norm": 0, "warmup_ratio": 0, "optim": "sgd"}
    run = bench.prepare(**SHORT | wild | {"eval_steps": 1})
    at("on_step_end", 6, kill)
    with pytest.raises(Killed):
        bench.work(run)
    moved = type(run)(tmp_path / "moved" / run.id)
    moved.path.parent.mkdir()
    run.path.rename(moved.path)
    events = again(bench, moved)
    best = events[-1].data["best_step"]
    assert best < 6
    kept = moved.checkpoints / f"checkpoint-{best}" / "adapter_model.safetensors"
    assert kept.read_bytes() == adapter(moved)


def test_a_run_killed_after_its_last_checkpoint_only_has_to_save(bench, at, monkeypatch):
    from modelforge.train import save

    whole = never_ended(bench, SHORT)
    run = bench.prepare(**SHORT)
    monkeypatch.setattr(save, "save", lambda *_args, **_more: kill())
    with pytest.raises(Killed):
        bench.work(run)
    monkeypatch.undo()
    events = again(bench, run)
    assert reported(events, "resumed")[0]["step"] == 8
    assert not reported(events, "step")
    same(run, whole)


@pytest.mark.parametrize("loss", ["sigmoid", "orpo"])
def test_preference_training_resumes_to_the_byte(bench, at, tmp_path, loss):
    bench.rows = tmp_path / "pairs.jsonl"
    bench.rows.write_text("".join(json.dumps(row) + "\n" for row in PREFERRED), encoding="utf-8")
    asked = SHORT | {
        "strategy": "dpo",
        "max_steps": 6,
        "eval_steps": 2,
        "logging": {"logging_steps": 3},
        "trainer": {"preference_loss": loss},
    }
    whole = never_ended(bench, asked)
    run = bench.prepare(**asked)
    at("on_substep_end", 4, lambda: run.stop.write_text("keep"))
    bench.work(run)
    assert reported(again(bench, run), "resumed")[0]["step"] == 4
    same(run, whole)


@pytest.mark.parametrize(("stage", "step"), [(1, 2), (2, 1), (2, 3)])
def test_online_training_resumes_to_the_byte_in_both_stages(bench, at, tmp_path, stage, step):
    bench.rows = tmp_path / "pairs.jsonl"
    bench.rows.write_text("".join(json.dumps(row) + "\n" for row in PREFERRED), encoding="utf-8")
    asked = SHORT | {
        "strategy": "rlhf",
        "max_steps": 3,
        "eval_steps": 1,
        "gradient_accumulation_steps": 4,
        "trainer": {"num_generations": 2, "max_completion_length": 6},
    }
    whole = never_ended(bench, asked)
    run = bench.prepare(**asked)
    at("on_step_end", step, kill, stage)
    with pytest.raises(Killed):
        bench.work(run)
    events = again(bench, run)
    (resumed,) = reported(events, "resumed")
    # Before the first update of the second stage it goes on between the two.
    assert (resumed["stage"], resumed["step"]) == (stage, step - 1)
    assert (resumed["checkpoint"] is None) == (step == 1)
    assert events[-1].kind == "finished"
    assert {each.stage for each in list_checkpoints(run)} == {2}
    same(run, whole)


def test_a_continued_run_uses_the_learning_rate_of_the_longer_schedule(bench):
    # At the end of the shorter one it is zero.
    longer = {"lr_scheduler_type": "linear", "logging": {"logging_steps": 1}}
    whole = never_ended(bench, SHORT | longer)
    first = bench.prepare(**SHORT | longer | {"max_steps": 4})
    bench.work(first)
    run = bench.prepare(**SHORT | longer)
    shutil.copytree(first.checkpoints, run.checkpoints)
    events = bench.work(run)
    assert reported(events, "resumed")[0]["step"] == 4
    assert events[-1].kind == "finished"
    rates = {data["step"]: data["learning_rate"] for data in reported(events, "step")}
    planned = {
        key[2]: point["learning_rate"] for key, point in whole[0] if key[1] == "step" and key[2] > 4
    }
    assert rates == planned
    # What was best before may be gone from the copy, but is not forgotten.
    assert events[-1].data["best_step"] is not None


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        ({"trainer": {"save_steps": -1}, "evaluation": {"keep_best": False}}, [4]),
        ({"trainer": {"save_total_limit": 1}, "evaluation": {"keep_best": False}}, [4]),
        ({"trainer": {"save_steps": 3, "save_total_limit": 9}, "eval_split": 0}, [3, 4]),
        ({"trainer": {"save_steps": 2, "save_total_limit": 9}}, [1, 2, 3, 4]),
    ],
    ids=["at-the-end", "one", "without-checks", "every-best"],
)
def test_the_checkpoint_limit_is_kept(bench, answers, left):
    run = bench.prepare(**SHORT | {"max_steps": 4, "eval_steps": 1} | answers)
    events = bench.work(run)
    assert sorted(each.step for each in list_checkpoints(run)) == left
    best = events[-1].data["best_step"]
    assert (best is None) == (answers.get("evaluation") is not None or "eval_split" in answers)
    kept = run.checkpoints / f"checkpoint-{best or 4}" / "adapter_model.safetensors"
    assert kept.read_bytes() == adapter(run)


def resuming(bench, source, **settings):
    """Return the folder of a new run that resumes from a checkpoint of another one."""
    run = bench.prepare(**SHORT | settings)
    record = json.loads(run.config.read_text("utf-8"))
    record["plan"]["resume_from"] = str(source)
    run.config.write_text(json.dumps(record), "utf-8")
    return run


def test_a_new_run_goes_on_from_a_chosen_checkpoint_of_another_to_the_byte(bench):
    saved = {"trainer": {"save_total_limit": 9}}
    first = bench.prepare(**SHORT | saved)
    whole = bench.work(first)
    before = sorted(path.name for path in first.checkpoints.iterdir())
    run = resuming(bench, first.checkpoints / "checkpoint-3", **saved)
    events = bench.work(run)
    (resumed,) = reported(events, "resumed")
    assert (resumed["step"], resumed["checkpoint"]) == (3, "checkpoint-3")
    assert [data["step"] for data in reported(events, "step")] == [4, 5, 6, 7, 8]
    assert adapter(run) == adapter(first)
    assert reported(events, "finished")[0]["loss"] == reported(whole, "finished")[0]["loss"]
    assert sorted(path.name for path in first.checkpoints.iterdir()) == before
    assert json.loads(run.came_from.read_text("utf-8")) == {"run": first.id, "step": 3}


def test_a_damaged_checkpoint_of_another_run_ends_the_new_one_with_its_setting(bench):
    first = bench.prepare(**SHORT | {"max_steps": 3})
    bench.work(first)
    source = first.checkpoints / "checkpoint-3"
    weights = source / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    events = bench.work(resuming(bench, source))
    assert events[-1].kind == "failed"
    assert events[-1].data["cause"] == "checkpoint-damaged"
    assert "checkpoint-3 of the run" in json.dumps(events[-1].data)
