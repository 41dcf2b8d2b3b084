"""Terminal, REST, page and Python agree: on the problems of settings, and on durations."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from modelforge.cli.main import main
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.hardware import machine as machines
from modelforge.runs.events import read_events
from modelforge.runs.listing import RunFilter
from tests.preflight.contexts import LAPTOP, WORKSTATION
from tests.runs.homes import put_run
from ui.pages import compare
from ui.pages.run.live import RunFollower
from ui.pages.runs import table
from ui.pages.train import response
from ui.pages.train.form import Entered

# Bodies that break several rules at once, and the settings that the problems name.
BODIES = [
    ({"fp16": True, "bf16": True, "hardware": {"precision": "fp32"}},
     ["bf16", "hardware.precision", "hardware.precision"]),
    ({"provider": "unsloth", "task": "summarization", "max_seq_length": None},
     ["max_seq_length", "provider"]),
    ({"provider": "unsloth", "strategy": "rlhf", "max_seq_length": 256}, ["provider"]),
    ({"strategy": "dpo", "task": "summarization", "packing": True},
     ["packing", "packing", "strategy"]),
    ({"strategy": "qlora", "use_4bit": False}, ["use_4bit"]),
    ({"strategy": "qlora", "adapter": {"enabled": False}}, ["adapter.enabled"]),
    ({"strategy": "sft", "adapter": {"enabled": False}, "use_8bit": True}, ["adapter.enabled"]),
    ({"strategy": "rlhf", "trainer": {"reward": "regex"}, "data": {"padding_free": True}},
     ["data.padding_free", "trainer.reward_pattern"]),
    ({"max_steps": 0, "max_seq_length": 0, "trainer": {"save_steps": 0}},
     ["max_seq_length", "max_steps", "trainer.save_steps"]),
    ({"lr_scheduler_type": "constant", "schedule": {"final_lr_fraction": 0.1, "decay_steps": 5}},
     ["schedule.decay_steps", "schedule.final_lr_fraction"]),
    ({"eval_split": 0, "evaluation": {"early_stopping": True}, "logging": {"report_to": "nothing"}},
     ["evaluation.early_stopping", "logging.report_to"]),
    ({"lora_r": 0, "learning_rate": 2, "use_4bit": True, "use_8bit": True},
     ["learning_rate", "lora_r", "use_4bit"]),
]  # fmt: skip


@pytest.mark.parametrize("stated", [{}, {"use_4bit": True}, {"use_4bit": False}])
@pytest.mark.parametrize("gpu", [False, True])
def test_every_entrance_takes_the_same_weights_where_none_are_set(
    serving, model, tmp_path, capsys, monkeypatch, gpu, stated
):
    client = serving("finishes")
    forge = serving.forge
    machine = WORKSTATION if gpu else LAPTOP
    monkeypatch.setattr(machines, "probe_machine", lambda _root: machine)
    usual = {"task": "text-generation", "compute_specs": "low_end", "dataset": "sample:captain"}
    settings = usual | {"model_name": str(model)} | stated
    expected = "4-bit" if stated.get("use_4bit", gpu) else "none"
    rest = client.post("/api/preflight", json=settings).json()
    assert rest["plan"]["quantization"] == expected

    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(settings), "utf-8")
    options = ["--json", "--home", str(forge.home.root)]
    pairs = [f"{name}={str(value).lower() if value in (True, False) else value}"
             for name, value in settings.items()]  # fmt: skip
    for command in ([str(recipe)], [part for pair in pairs for part in ("--set", pair)]):
        capsys.readouterr()
        main(["check", *command, *options])
        assert json.loads(capsys.readouterr().out)["plan"]["quantization"] == expected

    values = {name: value for name, value in settings.items() if name != "compute_specs"}
    for entered in (Entered(recipe=settings), Entered(profile="low_end", values=values)):
        checked = forge.preflight.check(*forge.layers.stack(entered).layers)
        assert checked.plan.quantization == expected


def test_a_run_over_rest_on_a_cpu_trains_unquantized_weights(serving, settings, monkeypatch):
    monkeypatch.setattr(machines, "probe_machine", lambda _root: LAPTOP)
    client = serving("finishes")
    del settings["use_4bit"]
    run = client.post("/api/runs", json=settings).json()["id"]
    assert client.get(f"/api/runs/{run}").json()["plan"]["quantization"] == "none"


@pytest.mark.parametrize(("body", "wheres"), BODIES)
def test_every_entrance_reports_all_problems(serving, model, tmp_path, capsys, body, wheres):
    client = serving("finishes")
    forge = serving.forge
    usual = {"task": "text-generation", "compute_specs": "low_end", "dataset": "sample:captain"}
    settings = usual | {"model_name": str(model)} | body
    rest = client.post("/api/preflight", json=settings).json()
    assert not rest["ready"]
    assert sorted(problem["where"] for problem in rest["problems"]) == wheres

    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(settings), "utf-8")
    capsys.readouterr()
    assert main(["check", str(recipe), "--json", "--home", str(forge.home.root)]) == 2
    assert json.loads(capsys.readouterr().out)["problems"] == rest["problems"]

    with pytest.raises(ValidationError) as refused:
        TrainingConfig(**settings)
    for problem in rest["problems"]:
        assert str(Problem(**problem)) in str(refused.value)

    reply = response.reply(forge, Entered(recipe=settings, show_models=False))
    assert not reply.can_start
    assert sorted(reply.errors) == sorted(set(wheres))
    for problem in rest["problems"]:
        assert problem["what"] in reply.errors[problem["where"]]


def _worked_twice(home, number):
    """Put a run of two workers into a home: 300 s, a pause of unknown length, and 230 s."""
    run = put_run(home, number, settled=False)
    launched = read_events(run.events)[0][-1].t - 230.0
    record = {"pid": 999999, "birth": 1.0, "launched": launched, "worked_before": 300.0}
    run.process.write_text(json.dumps(record), "utf-8")
    return run.id


def test_a_resumed_run_has_the_same_duration_everywhere(serving, home, capsys):
    first, second = (_worked_twice(home.root, number) for number in (1, 2))
    client, text = serving("finishes"), "8 min 50 s"
    forge, both = serving.forge, quote(f"{first},{second}")
    numbers = [
        client.get(f"/api/runs/{first}").json(),
        *client.get("/api/runs").json(),
        *client.get(f"/api/runs/compare?runs={both}").json()["runs"],
    ]
    assert [run["duration"] for run in numbers] == [pytest.approx(530.0)] * 5
    for command in (["list"], ["compare", first, second], ["show", first]):
        assert main(["runs", *command, "--home", str(home.root)]) == 0
        shown = capsys.readouterr().out
        assert shown.count(text) == (1 if command[0] == "show" else 2), shown
    assert client.get(f"/api/runs/compare.html?runs={both}").text.count(text) == 2
    comparison = forge.history.compare([first, second])
    drawn = compare.comparison_parts(comparison, "step", {})
    assert drawn["compared"].count(text) == 2
    assert table.run_rows(forge.history.page(RunFilter(), limit=9)).count(text) == 2
    page = RunFollower(forge, first).update().parts
    assert text in page["run-side"]
    assert f"in {text}." in page["run-verdict"]
