"""Learning from rewards: real TRL on a tiny model, in both stages and with every reward."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.plan.run_length import reward_steps
from modelforge.config.schema.config import TrainingConfig
from modelforge.runs.atomic_files import read_json
from modelforge.runs.events import EventRecord, read_events
from modelforge.runs.layout import RunFolder

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).resolve().parents[3]
PAIRS = [
    {"prompt": f"What is {n}?", "chosen": f"It is {n}, of course.", "rejected": "No idea at all"}
    for n in range(12)
]
QUICK: dict[str, Any] = {"num_generations": 2, "max_completion_length": 6}


def reported(events: list[EventRecord], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


def codes(events: list[EventRecord]) -> set[str]:
    return {data["code"] for data in reported(events, "note")}


@pytest.fixture
def rewarded(bench, tmp_path):
    """Prepare a short run that learns from rewards; `trainer` are its settings there."""

    def prepare(rows: list[dict[str, Any]] = PAIRS, **answers: Any) -> RunFolder:
        bench.rows = tmp_path / "pairs.jsonl"
        text = "".join(json.dumps(row) + "\n" for row in rows)
        bench.rows.write_text(text, encoding="utf-8")
        trainer = QUICK | answers.pop("trainer", {})
        values = {"strategy": "rlhf", "max_steps": 2, "trainer": trainer, **answers}
        return bench.prepare(**values)

    return prepare


def sequence_classifier(folder: Path, tiny_model: Path, labels: int) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=labels)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_the_settings_of_generation_reach_the_trainer(bench, rewarded, monkeypatch, algorithm):
    """Without dropout: it would change log-probabilities between two passes."""
    import torch

    from modelforge.train.strategies import rlhf

    def stop_before_training(_context, trainer, *_rest, **_more):
        trainers.append(trainer)
        raise KeyError

    trainers: list[Any] = []
    monkeypatch.setattr(rlhf.loop, "train", stop_before_training)
    settings = {"kl_beta": 0.7, "generation_temperature": 0.3, "num_generations": 3}
    settings |= {"rlhf_algorithm": algorithm, "reward": "length", "max_completion_length": 7}
    changes = {"lora_dropout": 0.25, "per_device_train_batch_size": 3, "data": {"shuffle": False}}
    bench.work(rewarded(**changes, trainer=settings))
    (trainer,) = trainers
    assert trainer.args.shuffle_dataset is False
    assert (trainer.beta, trainer.temperature) == (0.7, 0.3)
    assert trainer.generation_config.temperature == 0.3
    assert (trainer.num_generations, trainer.max_completion_length) == (3, 7)
    assert type(trainer).__name__ == {"rloo": "RlooTrainer", "grpo": "GrpoTrainer"}[algorithm]
    dropped = [part.p for part in trainer.model.modules() if isinstance(part, torch.nn.Dropout)]
    assert set(dropped) == {0}


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_both_stages_in_one_run(bench, rewarded, algorithm):
    run = rewarded(eval_split=0.25, trainer={"rlhf_algorithm": algorithm})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    first, second = reported(events, "plan")
    assert (first["stage"], first["stages"]) == (1, 2)
    assert first["stage_name"] == "Training the reward model"
    config = TrainingConfig.from_record(read_json(run.config)["config"])
    assert first["total_steps"] == reward_steps(config, first["train_rows"])
    assert second["stage_name"] == "Training with rewards"
    assert (first["train_rows"], first["eval_rows"]) == (9, 3)
    assert (second["train_rows"], second["eval_rows"]) == (9, 3)
    judged = [data for data in reported(events, "eval") if data["stage"] == 1]
    assert {"accuracy", "margin"} <= judged[-1]["metrics"].keys()
    steps = [data for data in reported(events, "step") if data["stage"] == 2]
    assert [data["step"] for data in steps] == [1, 2]
    measured = steps[-1]["metrics"]
    assert {"reward", "reward_std", "kl", "completions/mean_length"} <= measured.keys()
    assert steps[0]["metrics"]["kl"] == pytest.approx(0, abs=1e-5)
    checks = [data for data in reported(events, "eval") if data["stage"] == 2]
    assert [data["step"] for data in checks] == [0, 2]
    assert all(data["loss"] is None and "reward" in data["metrics"] for data in checks)
    assert [data["best"] for data in checks] == [False, True]
    (scores,) = reported(events, "scores")
    assert scores["rows"] == 3
    assert scores["before"]["reward"] == pytest.approx(checks[0]["metrics"]["reward"], abs=1e-5)
    assert scores["after"]["reward"] == pytest.approx(checks[1]["metrics"]["reward"], abs=1e-5)
    assert (run.reward_model / "complete.json").is_file()


def test_the_adapter_that_is_kept_is_the_policys_and_loads_with_plain_peft(bench, rewarded):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    run = rewarded()
    assert bench.work(run)[-1].kind == "finished"
    assert json.loads((run.output / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    model = AutoPeftModelForCausalLM.from_pretrained(run.output)
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    values = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=3)
    assert values.shape[1] > 1
    moved = [each for name, each in model.named_parameters() if "lora_B" in name]
    assert any(bool(torch.any(each != 0)) for each in moved)


def test_the_reward_model_learns_to_rank_the_answers(bench, rewarded):
    run = rewarded(
        eval_split=0.25, trainer={"reward_epochs": 12, "reward_learning_rate": 0.01}, max_steps=1
    )
    events = bench.work(run)
    judged = [data for data in reported(events, "eval") if data["stage"] == 1]
    assert judged[-1]["metrics"]["accuracy"] == 1
    assert judged[-1]["metrics"]["margin"] > 0.5


@pytest.mark.parametrize(
    "trainer",
    [
        {"reward": "exact-match"},
        {"reward": "regex", "reward_pattern": r"\w"},
        {"reward": "length", "reward_words": 3},
        {"reward": "json"},
    ],
    ids=lambda trainer: trainer["reward"],
)
def test_a_rule_rewards_in_one_stage(bench, rewarded, trainer):
    events = bench.work(rewarded(trainer=trainer))
    assert events[-1].kind == "finished", events[-1].data
    (plan,) = reported(events, "plan")
    assert "stage" not in plan
    for data in reported(events, "step"):
        assert 0 <= data["metrics"]["reward"] <= 1
        assert "stage" not in data


def test_a_rule_rewards_answers_to_ordinary_rows_and_their_answer_is_expected(bench, rewarded):
    rows = [{"input": f"What is {n}?", "output": f"It is {n}."} for n in range(8)]
    events = bench.work(rewarded(rows, trainer={"reward": "exact-match"}))
    assert events[-1].kind == "finished", events[-1].data
    assert reported(events, "plan")[0]["train_rows"] == 8


def test_samples_hold_question_answer_and_reward(bench, rewarded):
    events = bench.work(rewarded(trainer={"reward": "length"}, max_steps=3))
    samples = reported(events, "sample")
    assert {data["step"] for data in samples} == {1, 2, 3}
    assert all(data["prompt"].startswith("What is") for data in samples)
    for data in samples:
        words = len(data["completion"].split())
        expected = min(words, 20) / max(words, 20)
        assert data["reward"] == pytest.approx(expected, abs=1e-3)


def test_tokens_reported_are_those_the_model_has_generated(bench, rewarded):
    events = bench.work(rewarded(trainer={"reward": "json"}, gradient_accumulation_steps=2))
    for data in reported(events, "step"):
        metrics = data["metrics"]
        assert data["tokens"] == pytest.approx(4 * metrics["completions/mean_length"])
        assert data["tokens_per_s"] > 0


def test_batches_are_laid_out_for_the_user_and_it_is_reported(bench, rewarded):
    run = rewarded(
        trainer={"reward": "length", "num_generations": 4},
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        eval_split=0.25,
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    (plan,) = reported(events, "plan")
    assert (plan["prompts_per_update"], plan["answers_per_update"]) == (1, 4)
    assert "batch-laid-out" in codes(events)


def test_a_batch_that_needs_more_prompts_than_there_are_is_refused_in_words(bench, rewarded):
    run = rewarded(PAIRS[:3], trainer={"reward": "length"}, per_device_train_batch_size=16)
    failed = bench.work(run)[-1]
    assert failed.kind == "failed"
    assert "needs 8 prompts for one step; there are 3" in failed.data["what"]


def test_a_named_reward_model_takes_the_place_of_the_first_stage(
    bench, rewarded, tiny_model, tmp_path
):
    named = sequence_classifier(tmp_path / "judge", tiny_model, labels=1)
    events = bench.work(rewarded(trainer={"reward_model": str(named)}))
    assert events[-1].kind == "finished", events[-1].data
    (plan,) = reported(events, "plan")
    assert "stage" not in plan
    assert reported(events, "step")[0]["metrics"]["reward_std"] > 0


def test_the_reward_model_of_another_run_can_be_named(bench, rewarded):
    earlier = rewarded(max_steps=1)
    assert bench.work(earlier)[-1].kind == "finished"
    events = bench.work(rewarded(trainer={"reward_model": str(earlier.reward_model)}))
    assert events[-1].kind == "finished", events[-1].data
    assert len(reported(events, "plan")) == 1


@pytest.mark.parametrize(
    ("labels", "words"), [(None, "not a sequence classifier"), (3, "3 labels instead of 1")]
)
def test_a_model_that_gives_no_reward_is_refused(
    bench, rewarded, tiny_model, tmp_path, labels, words
):
    named = tiny_model
    if labels is not None:
        named = sequence_classifier(tmp_path / "wrong", tiny_model, labels)
    failed = bench.work(rewarded(trainer={"reward_model": str(named)}))[-1]
    assert failed.data["cause"] == "reward-model-wrong"
    assert words in failed.data["what"]
    assert "one label" in failed.data["remedy"]


def test_a_reward_model_that_is_not_there_is_refused(bench, rewarded, tmp_path):
    failed = bench.work(rewarded(trainer={"reward_model": str(tmp_path / "nowhere")}))[-1]
    assert failed.data["cause"] == "reward-model-wrong"


def test_a_pattern_of_no_use_is_refused_before_the_model_is_loaded(bench, rewarded):
    for pattern in (None, "(open"):
        settings = {"reward": "regex", "reward_pattern": pattern}
        events = bench.work(rewarded(trainer=settings))
        assert events[-1].data["cause"] == "reward-pattern"
        assert not any("Loading" in data["text"] for data in reported(events, "phase"))


def test_answers_that_leave_no_room_for_a_question_are_refused(bench, rewarded):
    run = rewarded(trainer={"reward": "json", "max_completion_length": 64}, max_seq_length=64)
    failed = bench.work(run)[-1]
    assert failed.data["cause"] == "no-room-for-answers"
    assert "Max completion length" in failed.data["what"]


def test_what_the_second_stage_refuses_is_known_before_the_first_one_trains(bench, rewarded):
    events = bench.work(rewarded(max_seq_length=16, trainer={"max_completion_length": 15}))
    assert events[-1].data["cause"] == "nothing-to-learn"
    assert not reported(events, "plan")
    events = bench.work(rewarded(max_seq_length=64, trainer={"max_completion_length": 64}))
    assert events[-1].data["cause"] == "no-room-for-answers"
    assert not reported(events, "plan")


def test_a_failed_second_stage_keeps_the_reward_model_and_says_how_to_use_it(
    bench, rewarded, monkeypatch
):
    from modelforge.train.strategies import rlhf

    def fail(*_args: Any) -> None:
        raise RuntimeError("it broke")

    run = rewarded()
    monkeypatch.setattr(rlhf, "_layout", fail)
    events = bench.work(run)
    assert events[-1].kind == "failed"
    [note] = [data for data in reported(events, "note") if data["code"] == "reward-model-kept"]
    assert str(run.reward_model) in note["text"]
    monkeypatch.undo()
    other = rewarded(trainer={"reward_model": str(run.reward_model)})
    assert bench.work(other)[-1].kind == "finished"
    resumed = bench.work(run)[len(events) :]
    assert resumed[-1].kind == "finished"
    assert [data["stage"] for data in reported(resumed, "plan")] == [2]


def test_questions_too_long_for_an_answer_are_left_out(bench, rewarded):
    rows = [*PAIRS, {**PAIRS[0], "prompt": "Why? " * 60}]
    events = bench.work(rewarded(rows, trainer={"reward": "json"}, max_seq_length=80))
    assert reported(events, "plan")[0]["train_rows"] == len(PAIRS)
    assert "prompts-too-long" in codes(events)


def test_a_worker_killed_between_the_stages_goes_on_with_the_second(bench, rewarded, tmp_path):
    run = rewarded()
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "modelforge.train", str(run.path)]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            limit = time.monotonic() + 240
            while not (run.reward_model / "complete.json").is_file():
                assert worker.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < limit
                time.sleep(0.02)
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    before, _ = read_events(run.events)
    assert [data["stage"] for data in reported(before, "plan")] == [1]
    events = bench.work(run)[len(before) :]
    assert events[-1].kind == "finished", events[-1].data
    assert [data["stage"] for data in reported(events, "plan")] == [2]


def test_what_a_killed_first_stage_has_left_is_not_taken_for_a_reward_model(bench, rewarded):
    run = rewarded(max_steps=1)
    run.reward_model.mkdir()
    (run.reward_model / "adapter_config.json").write_text("{}")
    (run.path / ".reward_model-staged").mkdir()
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert [data["stage"] for data in reported(events, "plan")] == [1, 2]


def stop_at(bench: Any, run: RunFolder, monkeypatch: pytest.MonkeyPatch, stage: int, wanted: str):
    """Work on a run that is asked to stop as soon as an update of that stage is told."""
    from modelforge.runs.event_types import Event, StepEvent
    from modelforge.train.event_log import EventLog

    write = EventLog.write

    def write_and_stop(self: EventLog, event: Event) -> None:
        write(self, event)
        if isinstance(event, StepEvent) and event.stage == stage:
            run.stop.write_text(wanted)

    monkeypatch.setattr(EventLog, "write", write_and_stop)
    return bench.work(run)


def test_a_stop_in_the_first_stage_keeps_nothing_and_says_so(bench, rewarded, monkeypatch, capsys):
    run = rewarded()
    events = stop_at(bench, run, monkeypatch, 1, "keep")
    assert events[-1].kind == "stopped"
    assert events[-1].data["kept"] is False
    assert "there is no model to chat with" in capsys.readouterr().out
    assert not run.reward_model.exists()
    assert not run.output.exists()


@pytest.mark.parametrize(("wanted", "kept"), [("keep", True), ("discard", False)])
def test_a_stop_in_the_second_stage_keeps_the_policy_on_request(
    bench, rewarded, monkeypatch, wanted, kept
):
    run = rewarded(max_steps=50)
    events = stop_at(bench, run, monkeypatch, 2, wanted)
    assert events[-1].kind == "stopped"
    assert events[-1].data["kept"] is kept
    assert run.has_adapter is kept
    assert reported(events, "step")[-1]["step"] < 5


def test_a_stop_between_the_stages_keeps_the_reward_model(bench, rewarded, monkeypatch, capsys):
    from modelforge.train.strategies import reward_model

    run = rewarded()
    keep = reward_model._save

    def kept(*arguments: Any) -> None:
        keep(*arguments)
        run.stop.write_text("keep")

    monkeypatch.setattr(reward_model, "_save", kept)
    events = bench.work(run)
    assert events[-1].kind == "stopped"
    assert events[-1].data["kept"] is False
    assert "The reward model is kept" in capsys.readouterr().out
    run.stop.unlink()
    events = bench.work(run)
    assert events[-1].kind == "finished"


def test_a_stop_request_is_checked_at_every_token(monkeypatch):
    from modelforge.train.strategies import rlhf

    monkeypatch.setattr(rlhf, "CHECK_EVERY_S", 0.0)
    looked = 0

    class Model:
        def register_forward_pre_hook(self, look: Any) -> None:
            self.look = look

    class Stop:
        def check(self) -> None:
            nonlocal looked
            looked += 1

    model = Model()
    rlhf.stop_while_generating(model, Stop())  # type: ignore[arg-type]
    model.look()
    assert looked == 1


@pytest.mark.parametrize("bits", ["use_4bit", "use_8bit"])
def test_both_stages_on_quantized_weights(bench, rewarded, bits):
    answers = {"use_4bit": False, bits: True}
    run = rewarded(eval_split=0.25, **answers)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert [data["quantization"] for data in reported(events, "plan")] == [
        "4-bit" if bits == "use_4bit" else "8-bit"
    ] * 2


def test_both_stages_in_16_bits_with_checkpointing(bench, rewarded):
    events = bench.work(rewarded(bf16=True, gradient_checkpointing=True))
    assert events[-1].kind == "finished", events[-1].data


def test_every_weight_can_learn_in_both_stages(bench, rewarded):
    events = bench.work(rewarded(adapter={"enabled": False}, learning_rate=1e-4))
    steps = reported(events, "step")
    assert [data["stage"] for data in steps].count(2) == 2
    for plan in reported(events, "plan"):
        assert plan["trainable_parameters"] == plan["total_parameters"]
