"""The exported script learns what the worker learns, update for update."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.exporters import script
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import export_settings
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.runs.atomic_files import read_json
from modelforge.train.tools.prepare_data import prepare

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]

STEPS = 10
QUESTIONS = [f"What is {n} and {n + 1}" + " and more" * (n % 4) + "?" for n in range(24)]
ANSWERS = [f"It is {2 * n + 1}" + " or so" * (n % 3) + "." for n in range(24)]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "learning_rate": 0.01,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.1,
    "optim": "adamw_torch",
    "eval_split": 0.2,
    "eval_steps": 5,
    "trainer": {"seed": 7},
}


def ours_and_ejected(
    bench: Any, tmp_path: Path, rows: list[dict[str, Any]], **changes: Any
) -> tuple[list[float], list[float]]:
    """Return the losses of a run of the worker, and those of its script in a process of its own."""
    bench.rows = tmp_path / "parity.jsonl"
    bench.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = bench.prepare(**(SETTINGS | changes))
    folder = tmp_path / "ejected"
    folder.mkdir()
    record = read_json(run.config)
    prepared = prepare(record, folder / "birds.py")
    assert prepared.other_tokens == 0
    assert (prepared.train_rows, prepared.eval_rows) == (19, 5)
    config = TrainingConfig.from_record(record["config"])
    plan = Plan.from_dict(record["plan"], record["config"])
    exported = script.write(Facts(config, plan), "birds.py", prepared.end_token)
    assert exported.data == ", ".join(prepared.files)
    (folder / "birds.py").write_text(exported.text, encoding="utf-8")
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    mine = [event.data["loss"] for event in events if event.kind == "step"]
    return mine, losses_of_script(folder / "birds.py")


def losses_of_script(path: Path) -> list[float]:
    # Nothing of this program can be imported from there.
    hidden = {"PYTHONPATH", "MODELFORGE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(path.parent / "cache")}
    done = subprocess.run(
        [sys.executable, "-P", str(path)],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    state = json.loads((path.parent / "output" / "trainer_state.json").read_text("utf-8"))
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def require_same(mine: list[float], ejected: list[float]) -> None:
    assert len(mine) == len(ejected) == STEPS
    assert mine == pytest.approx(ejected, abs=1e-5)
    assert mine[0] - mine[-1] > 0.05, "something is learned, so that equal means something"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"group_by_length": False, "lr_scheduler_type": "linear", "warmup_ratio": 0.2},
        {"packing": True, "max_seq_length": 64},
        {"adapter": {"enabled": False}, "learning_rate": 0.001},
    ],
    ids=["usual", "random", "packed", "all-weights"],
)
def test_sft_has_the_losses_of_the_script(bench, tiny_model, tmp_path, changes):
    pairs = zip(QUESTIONS, ANSWERS, strict=True)
    rows = [{"prompt": q, "completion": a} for q, a in pairs]
    if changes.get("packing"):
        changes = {**changes, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    mine, ejected = ours_and_ejected(bench, tmp_path, rows, **changes)
    require_same(mine, ejected)


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "random"])
def test_dpo_has_the_losses_of_the_script(bench, tiny_model, tmp_path, grouped):
    worse = [f"No idea{' at all' * (n % 3)}." for n in range(24)]
    rows = [
        {"prompt": q, "chosen": a, "rejected": b}
        for q, a, b in zip(QUESTIONS, ANSWERS, worse, strict=True)
    ]
    changes = {"strategy": "dpo", "group_by_length": grouped}
    mine, ejected = ours_and_ejected(bench, tmp_path, rows, **changes)
    require_same(mine, ejected)


def plain_trl(folder: Path, text: str, method: str) -> list[float]:
    """Return the losses of TRL's own command line with an exported file."""
    path = folder / "trl.yaml"
    path.write_text(text, encoding="utf-8")
    program = Path(sys.executable).with_name("trl")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    done = subprocess.run(
        [str(program), method, "--config", str(path)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = (folder / "output").glob("**/trainer_state.json")
    states = [json.loads(file.read_text("utf-8")) for file in found]
    state = max(states, key=lambda each: each["global_step"])
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def exported_for_trl(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> str:
    (tmp_path / "trl_rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    config = TrainingConfig.from_record(
        {"task": "text-generation", "compute_specs": "low_end", "dataset": "x", **settings}
    )
    return export_settings(Facts(config, data="trl_rows.jsonl"), "trl").text


@pytest.mark.parametrize("adapter", [False, True], ids=["all-weights", "adapter"])
def test_the_yaml_trains_the_same_with_plain_trl(bench, tiny_model, tmp_path, adapter):
    """TRL draws the first weights of an adapter before it sets the seed: they are others there."""
    pairs = list(zip(QUESTIONS, ANSWERS, strict=True))
    bench.rows = tmp_path / "parity.jsonl"
    lines = [json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in pairs]
    bench.rows.write_text("".join(lines), encoding="utf-8")
    # Without a line break behind the end of a turn, which TRL trains and the worker does not.
    template = tmp_path / "plain.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")
    settings = {
        **SETTINGS,
        "use_4bit": False,
        "gradient_checkpointing": False,
        "model": {"chat_template": str(template)},
        "adapter": {"enabled": adapter},
        "lora_dropout": 0.0,
        "learning_rate": 0.01 if adapter else 0.001,
        "eval_split": 0,
        "trainer": {"seed": 7, "save_steps": 5},
        "hardware": {"device": "cpu", "precision": "fp32"},
        "max_seq_length": 512,
    }
    run = bench.prepare(**settings)
    mine = [event.data["loss"] for event in bench.work(run) if event.kind == "step"]
    rows = [{"prompt": turn("user", q), "completion": turn("assistant", a)} for q, a in pairs]
    text = exported_for_trl(tmp_path, rows, **settings, model_name=str(tiny_model))
    theirs = plain_trl(tmp_path, text, "sft")
    if not adapter:
        require_same(mine, theirs)
        return
    assert mine[0] == pytest.approx(theirs[0], abs=1e-5), "an adapter changes nothing at first"
    assert mine == pytest.approx(theirs, abs=0.1)
    assert mine != pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_train_with_plain_trl(tiny_model, tmp_path, method):
    if method == "dpo":
        rows = [
            {
                "prompt": turn("user", q),
                "chosen": turn("assistant", a),
                "rejected": turn("assistant", "No idea."),
            }
            for q, a in zip(QUESTIONS, ANSWERS, strict=True)
        ]
    else:
        rows = [
            {"prompt": turn("user", q), "completion": turn("assistant", a), "label": n % 2 == 0}
            for n, (q, a) in enumerate(zip(QUESTIONS, ANSWERS, strict=True))
        ]
    text = exported_for_trl(
        tmp_path,
        rows,
        model_name=str(tiny_model),
        strategy="dpo",
        use_4bit=False,
        max_steps=2,
        per_device_train_batch_size=4,
        eval_split=0.2,
        eval_steps=1,
        optim="adamw_torch",
        max_seq_length=128,
        group_by_length=False,
        hardware={"device": "cpu", "precision": "fp32"},
        trainer={"preference_loss": {"dpo": "sigmoid", "kto": "kto"}[method]},
    )
    assert len(plain_trl(tmp_path, text, method)) == 2


def test_the_process_prepares_rows(bench, tiny_model, tmp_path):
    bench.rows = tmp_path / "parity.jsonl"
    rows = [{"prompt": q, "completion": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    bench.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = bench.prepare(**SETTINGS)
    command = [sys.executable, "-m", "modelforge.train.tools.prepare_data", str(run.config)]
    done = subprocess.run(
        [*command, str(tmp_path / "birds.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["files"] == ["birds_rows.parquet", "birds_eval_rows.parquet"]
    again = subprocess.run(
        [*command, str(tmp_path / "birds.py")], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "exists" in json.loads(again.stdout.splitlines()[-1])["what"]
