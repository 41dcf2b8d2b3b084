"""Runs on the card: each in a process of its own, as the app starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.checks.summary import summarize
from modelforge.hardware.machine import Machine, probe_machine
from modelforge.hardware.nvidia import Gpu
from modelforge.runs.events import read_events
from modelforge.runs.layout import RunFolder
from tests.gpu.building import LONGEST, MAKERS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
# The file to which figures are appended, one JSON line each: see bench/gpu_steps/gpu_tests.py.
RECORD = "MODELFORGE_GPU_RECORD"
COLOURS = ("red", "blue", "green", "amber")


def rows_for(task: str, strategy: str) -> list[dict[str, Any]]:
    """Sixteen rows of the kind that the task and the strategy learn from."""
    pairs = list(enumerate(COLOURS * 4))
    if strategy in ("dpo", "rlhf"):
        return [
            {"prompt": f"What is {n}?", "chosen": f"It is {one} {n}.", "rejected": "No idea."}
            for n, one in pairs
        ]
    if task == "summarization":
        return [
            {"document": f"The {one} ship {n} set sail and came home.", "summary": f"{one} {n}"}
            for n, one in pairs
        ]
    if task == "extractive-question-answering":
        return [
            {
                "context": f"{one} ship {n} sails west.",
                "question": f"What colour is ship {n}?",
                "answers": {"text": [one], "answer_start": [0]},
            }
            for n, one in pairs
        ]
    return [{"input": f"What does {one} {n} mean?", "output": f"{one} {n}."} for n, one in pairs]


@dataclass
class Ended:
    """A run that is over: its events by kind, its folder, and how long it took."""

    run: RunFolder
    seconds: float
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def failure(self) -> str:
        """Why it failed, with the end of its log; empty when it did not."""
        if "finished" in self.events:
            return ""
        failed = self.events.get("failed") or ["the process printed nothing"]
        log = self.run.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        return f"{failed[0]}\n{log}"

    @property
    def peak_gib(self) -> float:
        """The most memory that the run says it held on the card."""
        return float(max(step["vram_gib"] or 0 for step in self.events["step"]))


class Runs:
    """Makes run folders for the GPU as the store does, and runs them; without a GPU, the CPU.

    `packages` are the optional packages of the machine: without them a plan falls back, for
    instance from flash attention to sdpa.
    """

    def __init__(
        self,
        folder: Path,
        card: Gpu | None,
        models: dict[str, Path],
        packages: Iterable[str] = (),
    ) -> None:
        self._folder, self.card, self._models = folder, card, models
        self._packages = frozenset(packages)

    def one_step(self, kind: str = "decoder", **answers: Any) -> Ended:
        """Train one update on a tiny model of this kind, and return what became of it."""
        run = self.prepare(kind, **answers)
        began = time.monotonic()
        with run.log.open("w", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, "-m", "modelforge.train", str(run.path)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_S,
                check=False,
            )
        ended = Ended(run, round(time.monotonic() - began, 1))
        for event in read_events(run.events)[0]:
            ended.events.setdefault(event.kind, []).append(event.data)
        return ended

    def prepare(self, kind: str = "decoder", **answers: Any) -> RunFolder:
        """Return the folder of a run that has not been started."""
        config = self._config(answers)
        context = PlanContext(
            "cuda" if self.card else "cpu",
            str(self._models[kind]),
            compute_capability=self.card.compute_capability if self.card else None,
            context=LONGEST,
            kind=kind,
            packages=self._packages,
        )
        return self._prepared(config, make_plan(config, context).as_dict())

    def _config(self, answers: dict[str, Any]) -> TrainingConfig:
        task = answers.get("task", "text-generation")
        rows = self._folder / "rows.jsonl"
        data_rows = rows_for(task, answers.get("strategy", "sft"))
        rows.write_text("".join(json.dumps(row) + "\n" for row in data_rows), encoding="utf-8")
        return TrainingConfig(
            **{
                "task": task,
                "model_name": "tiny",
                "dataset": str(rows),
                "compute_specs": "low_end",
                "use_4bit": False,
                "lora_r": 8,
                "gradient_accumulation_steps": 1,
                "per_device_train_batch_size": 2,
                "learning_rate": 1e-3,
                "max_seq_length": 128,
                "max_steps": 1,
                "eval_split": 0,
                **answers,
                "evaluation": {"samples": 0, **answers.get("evaluation", {})},
            }
        )

    def _prepared(self, config: TrainingConfig, plan: dict[str, Any]) -> RunFolder:
        first = summarize(Path(config.dataset))
        run = RunFolder(self._folder / "20260101-000000-0001")
        run.path.mkdir()
        record = {
            "format": 1,
            "id": run.id,
            "name": "on the card",
            "created": 0,
            "request_id": None,
            "config": config.explicit_values(),
            "origins": {},
            "plan": plan,
            "dataset": {
                "path": config.dataset,
                "sha256": first.sha256,
                "rows": first.rows,
                "mapping": first.mapping.as_dict(),
            },
        }
        run.config.write_text(json.dumps(record), encoding="utf-8")
        return run


@pytest.fixture(scope="session")
def machine() -> Machine:
    """This computer."""
    return probe_machine(ROOT)


@pytest.fixture(scope="session")
def card(machine: Machine) -> Gpu:
    """The first card that is visible."""
    assert machine.gpus, machine.gpu_note
    return machine.gpus[0]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny model of every kind."""
    return {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in MAKERS.items()}


@pytest.fixture
def runs(tmp_path: Path, card: Gpu, models: dict[str, Path], machine: Machine) -> Runs:
    """Runs on the GPU."""
    return Runs(tmp_path, card, models, machine.packages)


@pytest.fixture
def measured() -> Callable[[str, Ended], None]:
    """Check what every run must do, and append its figures to the file of MODELFORGE_GPU_RECORD."""

    def measure(name: str, ended: Ended) -> None:
        figures = {"cell": name, "worked": not ended.failure, "seconds": ended.seconds}
        if not ended.failure:
            figures["peak_gib"] = ended.peak_gib
            figures["precision"] = ended.events["plan"][-1]["precision"]
        if os.environ.get(RECORD):
            with Path(os.environ[RECORD]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
        assert not ended.failure, ended.failure
        assert [plan["device"] for plan in ended.events["plan"]] == ["cuda"] * len(
            ended.events["plan"]
        )
        assert ended.peak_gib > 0
        assert any(ended.run.output.glob("*.safetensors"))

    return measure
