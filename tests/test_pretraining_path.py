"""`modelforge pretrain` with real workers: to the end, continued, and killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.cli.main import main
from modelforge.paths import Home
from modelforge.runs.events import read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.states import read_facts
from tests.train.pretraining.conftest import prose

pytestmark = pytest.mark.torch
LIMIT_S = 120.0
SETTINGS = {
    "pretraining.depth": 2,
    "pretraining.aspect_ratio": 16,
    "pretraining.head_dim": 16,
    "pretraining.vocab_size": 300,
    "pretraining.total_batch_tokens": 512,
    "max_seq_length": 32,
    "max_steps": 12,
    "per_device_train_batch_size": 8,
    "eval_split": 0.1,
    "eval_steps": 4,
    "evaluation.samples": 0,
    "compute_specs": "low_end",
    "hardware.device": "cpu",
}


@pytest.fixture
def command(tmp_path: Path, capsys: Any) -> Callable[..., Any]:
    """Do a command of the terminal and return what it prints as JSON."""

    def do(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        found = main([*words, "--json", "--home", str(tmp_path / "home")])
        out, err = capsys.readouterr()
        assert found == code, out + err
        return json.loads(out)

    return do


@pytest.fixture
def pretrain(tmp_path: Path, command: Callable[..., Any]) -> Callable[..., Any]:
    """Train from nothing on a text, and return what the command prints."""
    book = tmp_path / "book.txt"
    book.write_text(prose(800), encoding="utf-8")

    def do(*words: str) -> Any:
        options = [part for item in SETTINGS.items() for part in ("--set", "{}={}".format(*item))]
        return command("pretrain", str(book), *options, *words)

    return do


def shown_in_words(capsys: Any, tmp_path: Path, run: str) -> str:
    capsys.readouterr()
    assert main(["runs", "show", run, "--home", str(tmp_path / "home")]) == 0
    return str(capsys.readouterr().out)


def folder(tmp_path: Path, run: str) -> RunFolder:
    return RunFolder(Home(tmp_path / "home").runs / run)


def reported(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in read_events(run.events)[0] if event.kind == kind]


def until(holds: Callable[[], Any], hope: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"within {LIMIT_S} s it never came true that {hope}"
        time.sleep(0.05)


def test_a_text_becomes_a_model_that_can_be_trained_for_longer(tmp_path, command, pretrain, capsys):
    view = pretrain()
    assert view["state"] == "finished"
    first = folder(tmp_path, view["id"])
    bits = [each["metrics"]["bits_per_byte"] for each in reported(first, "eval")]
    assert len(bits) == 3
    assert view["eval_bits_per_byte"] == pytest.approx(min(bits))
    assert f", {min(bits):.3f} bits per byte." in shown_in_words(capsys, tmp_path, view["id"])
    assert (first.output / "model.safetensors").is_file()

    continued = command("runs", "continue", view["id"], "--steps", "4")
    second = folder(tmp_path, continued["id"])
    until(lambda: not read_facts(second).state.is_active, "the longer run is over")
    shown = command("runs", "show", continued["id"])
    assert (shown["state"], shown["step"]) == ("finished", 16)
    assert [each["step"] for each in reported(second, "step")][:1] == [13]
    plans = [each["plan"]["pretraining"] for each in (view, shown)]
    assert plans[0]["batch_tokens"] == plans[1]["batch_tokens"] == 512
    vocabulary = [(each.output / "tokenizer.json").read_bytes() for each in (first, second)]
    assert vocabulary[0] == vocabulary[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path, command, pretrain):
    longer = ("--set", "max_steps=60", "--set", "eval_steps=5")
    whole = folder(tmp_path, pretrain(*longer)["id"])
    run = folder(tmp_path, pretrain("--detach", *longer)["id"])
    until(lambda: run.events.exists() and len(reported(run, "step")) >= 6, "six steps are done")
    process = read_facts(run).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not read_facts(run).alive, "the worker is dead")
    shown = command("runs", "show", run.id)
    assert shown["state"] == "lost"
    assert "killed" in shown["diagnosis"]["what"]
    command("runs", "resume", run.id)
    until(lambda: not read_facts(run).state.is_active, "the resumed run is over")
    assert command("runs", "show", run.id)["state"] == "finished"
    assert reported(run, "resumed")[0]["step"] >= 5
    weights = [(each.output / "model.safetensors").read_bytes() for each in (whole, run)]
    assert weights[0] == weights[1]
