"""A run that the program Surogate trains, from its YAML to an adapter that others load."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import yaml

from modelforge.config.engines import VARIABLE
from modelforge.config.importers.read import import_settings
from modelforge.data.chat_templates import template_text
from modelforge.runs import checkpoints
from modelforge.runs.events import read_events

pytestmark = pytest.mark.torch

SPOKEN = {"system_prompt": "Be short.", "chat_template": "chatml"}
ENGINE = {"hardware": {"engine": "surogate"}}
SHORT = {**ENGINE, "max_steps": 6, "lora_r": 4, "lora_alpha": 8}


def by_kind(events):
    found = {}
    for event in events:
        found.setdefault(event.kind, []).append(event)
    return found


def config_of(run):
    return yaml.safe_load((run.engine / "surogate.yaml").read_text("utf-8"))


def rows_of(run, split):
    files = sorted(run.engine.glob(f"{split}-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def stop_at(run, step, how="keep"):
    """Request a stop once the run has a step."""

    def wait():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            steps = [event for event in read_events(run.events)[0] if event.kind == "step"]
            if steps and steps[-1].data["step"] >= step:
                run.stop.write_text(how, "utf-8")
                return
            time.sleep(0.05)

    threading.Thread(target=wait, daemon=True).start()


def test_the_program_trains_and_its_adapter_becomes_the_result(bench, surogate):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    surogate()
    run = bench.prepare(**SHORT, eval_split=0.25, eval_steps=2, trainer={"save_steps": 2})
    events = by_kind(bench.work(run))
    assert "failed" not in events, events["failed"]
    (plan,), (finished,) = events["plan"], events["finished"]
    assert (plan.data["total_steps"], finished.data["steps"]) == (6, 6)
    assert plan.data["train_rows"] + plan.data["eval_rows"] == 16
    assert [event.data["step"] for event in events["step"]] == [1, 2, 3, 4, 5, 6]
    first = events["step"][0].data
    assert (first["loss"], first["tokens"], first["tokens_per_s"]) == (3.0, 128, 6400.0)
    assert (first["grad_norm"], first["gpu_percent"], first["seconds"]) == (0.5, 91, 0.02)
    assert [event.data["step"] for event in events["eval"]] == [2, 4]
    assert [event.data["best"] for event in events["eval"]] == [True, True]
    assert [event.data["path"] for event in events["saved"]] == [
        "checkpoints/checkpoint-2",
        "checkpoints/checkpoint-4",
    ]
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    base = AutoModelForCausalLM.from_pretrained(bench.model)
    tokens = tokenizer("What does blue mean?", return_tensors="pt")
    before = base(**tokens).logits.detach()
    model = PeftModel.from_pretrained(base, run.output)
    assert not (model(**tokens).logits == before).all()
    assert model.peft_config["default"].base_model_name_or_path == str(bench.model)
    assert sorted(path.name for path in run.engine.iterdir() if path.is_dir()) == ["model"]
    assert "LoRA adapter" in (run.output / "README.md").read_text("utf-8")


def test_the_yaml_has_the_values_of_the_plan_and_our_rows(bench, surogate):
    surogate()
    run = bench.prepare(**SHORT, eval_split=0.25, model=SPOKEN)
    bench.work(run)
    options = config_of(run)
    model = Path(options["model"])
    assert (model / "model.safetensors").resolve() == bench.model / "model.safetensors"
    template = (model / "chat_template.jinja").read_text("utf-8")
    assert template == (run.output / "chat_template.jinja").read_text("utf-8")
    assert template == template_text("chatml")
    assert options["sequence_len"] == 512
    assert (options["lora_rank"], options["lora_alpha"]) == (4, 8)
    assert options["validation_split_ratio"] == 0.0
    # Before the last step: the program does not evaluate after it.
    assert options["eval_steps"] == 5
    train, evaluation = rows_of(run, "train"), rows_of(run, "eval")
    assert (len(train), len(evaluation)) == (12, 4)
    roles = [message["role"] for message in train[0]["messages"]]
    assert roles == ["system", "user", "assistant"]
    assert train[0]["messages"][0]["content"] == "Be short."
    recipe = import_settings(yaml.safe_dump(options), "file", "surogate").imported.recipe
    assert recipe["lora_r"] == 4
    assert recipe["max_steps"] == 6


def test_options_of_the_engine_are_written_as_they_are(bench, surogate):
    surogate()
    more = {"engine_options": ["offload_master: true", "lmhead_chunks: 4"]}
    run = bench.prepare(**{**SHORT, "hardware": {**ENGINE["hardware"], **more}})
    bench.work(run)
    options = config_of(run)
    assert (options["offload_master"], options["lmhead_chunks"]) == (True, 4)


def test_pairs_are_trained_by_the_command_of_dpo(bench, surogate, write_rows):
    surogate()
    pair = {"prompt": "Which colour?", "chosen": "Blue.", "rejected": "No."}
    bench.rows = write_rows([{**pair, "prompt": f"Which colour {n}?"} for n in range(12)])
    run = bench.prepare(**SHORT, strategy="dpo")
    events = by_kind(bench.work(run))
    assert "failed" not in events, events["failed"]
    options = config_of(run)
    assert options["datasets"][0]["type"] == "preference"
    assert options["loss"] == {"type": "dpo", "dpo_beta": 0.1}
    row = rows_of(run, "train")[0]
    assert (row["chosen"], row["rejected"]) == ("Blue.", "No.")
    assert row["prompt"][-1]["role"] == "user"


def test_a_stop_keeps_the_newest_checkpoint_and_the_run_resumes_from_it(bench, surogate):
    surogate("slow")
    run = bench.prepare(**{**SHORT, "max_steps": 40}, trainer={"save_steps": 5})
    stop_at(run, 6)
    events = by_kind(bench.work(run))
    (stopped,) = events["stopped"]
    assert stopped.data["kept"]
    assert stopped.data["best_step"] == 5
    assert run.has_adapter
    newest, damaged = checkpoints.newest_valid(run)
    assert (newest.step, damaged) == (5, [])
    run.stop.unlink()
    run.exit.unlink()
    surogate()
    again = by_kind(bench.work(run))
    assert config_of(run)["resume_from_checkpoint"] is True
    assert again["resumed"][-1].data["step"] == 5
    steps = [event.data["step"] for event in again["step"]][len(events["step"]) :]
    assert steps == list(range(6, 41))
    assert again["finished"][-1].data["steps"] == 40


def test_a_stop_without_keeping_leaves_nothing(bench, surogate):
    surogate("slow")
    run = bench.prepare(**{**SHORT, "max_steps": 40}, trainer={"save_steps": 1})
    stop_at(run, 2, "discard")
    (stopped,) = by_kind(bench.work(run))["stopped"]
    assert stopped.data["kept"] is False
    assert not run.has_result
    assert not run.checkpoints.exists()


@pytest.mark.parametrize(
    ("play", "cause", "words"),
    [
        ("memory", "out-of-memory", "memory"),
        ("crash", "engine-failed", "signal 11"),
        ("nan", "loss-not-finite", "step 2"),
        ("nothing", "engine-failed", "exit code 0"),
        ("unreadable", "engine-result", "cannot be read"),
    ],
)
def test_a_failure_says_its_cause(bench, surogate, play, cause, words):
    surogate(play)
    run = bench.prepare(**SHORT)
    (failed,) = by_kind(bench.work(run))["failed"]
    assert failed.data["cause"] == cause
    assert words in failed.data["what"]
    assert not run.has_result


def test_a_program_that_is_gone_is_named_with_what_to_do(bench, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    (failed,) = by_kind(bench.work(bench.prepare(**SHORT)))["failed"]
    assert failed.data["cause"] == "engine-missing"
    assert VARIABLE in failed.data["remedy"]


def test_a_training_that_begins_anew_replaces_what_was_measured(bench, surogate):
    surogate("again")
    run = bench.prepare(**SHORT)
    events = by_kind(bench.work(run))
    assert [note.data["code"] for note in events["note"]].count("engine-restarted") == 1
    assert events["resumed"][0].data["step"] == 0
    assert [event.data["step"] for event in events["step"]] == [1, 1, 2, 3, 4, 5, 6]


def test_steps_are_reported_as_often_as_asked(bench, surogate):
    surogate()
    run = bench.prepare(**SHORT, logging={"logging_steps": 3})
    events = by_kind(bench.work(run))
    assert [event.data["step"] for event in events["step"]] == [3, 6]
    assert events["step"][0].data["loss"] == pytest.approx((3.0 + 2.875 + 2.75) / 3)
    assert events["step"][0].data["tokens"] == 3 * 128
