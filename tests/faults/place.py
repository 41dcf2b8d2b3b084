"""Where the faults happen: a home, a tiny model made from nothing, its rows, and short runs."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.checks.summary import summarize
from modelforge.paths import Home
from modelforge.runs.events import EventRecord, read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.store import NewRun, Store

ROOT = Path(__file__).resolve().parents[2]
ACTORS = ROOT / "tests" / "actors"
# How much longer things may take than they should: machines that test are busy ones.
SLACK = float(os.environ.get("MODELFORGE_FAULT_SLACK", "1"))
COLOURS = ("red", "blue", "green", "amber")


@dataclass
class Tally:
    """What came of a scenario: one row a try, printed as it comes; `wrong` did not hold."""

    scenario: str
    seed: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        print(f"{self.scenario}: seed {self.seed}", flush=True)

    @property
    def rng(self) -> random.Random:
        """A source of chance that the seed repeats."""
        return random.Random(f"{self.scenario} {self.seed}")

    @property
    def wrong(self) -> list[dict[str, Any]]:
        """The tries that did not hold."""
        return [row for row in self.rows if row["faults"]]

    def add(self, case: str, faults: list[str], **figures: Any) -> None:
        """Note one try: what was found wrong with it, and what was measured."""
        self.rows.append({"case": case, "faults": faults, **figures})
        parts = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"  {len(self.rows):3d} {case}: {'; '.join(faults) or 'holds'} ({parts})", flush=True)


@dataclass(frozen=True)
class Place:
    """A home, a tiny model and its rows."""

    home: Home
    model: Path
    rows: Path

    @classmethod
    def made(cls, root: Path, model: Path, count: int = 64) -> Place:
        """Return a place at `root` whose rows are `count` short questions and answers."""
        root.mkdir(parents=True, exist_ok=True)
        rows = root / "rows.jsonl"
        with rows.open("w", encoding="utf-8") as file:
            for number in range(count):
                colour = COLOURS[number % len(COLOURS)]
                new_row = {"input": f"What does {colour} mean?", "output": f"It is ship {number}."}
                file.write(json.dumps(new_row) + "\n")
        return cls(Home(root / "home"), model, rows)

    @property
    def store(self) -> Store:
        """The runs of the home."""
        return Store(self.home)

    def answers(self, **more: Any) -> dict[str, Any]:
        """Return what is asked of a short run on the CPU."""
        return {
            "task": "text-generation",
            "model_name": str(self.model),
            "dataset": str(self.rows),
            "compute_specs": "low_end",
            "use_4bit": False,
            "gradient_checkpointing": False,
            "gradient_accumulation_steps": 1,
            "per_device_train_batch_size": 2,
            "learning_rate": 0.001,
            "optim": "adamw_torch",
            "group_by_length": False,
            "max_steps": 8,
            "eval_split": 0,
            "eval_steps": 2,
            "evaluation": {"samples": 1, "sample_tokens": 4},
            **more,
        }

    def played_by(self, actor: str, max_steps: int = 20, **settings: float) -> dict[str, Any]:
        """Return what is asked of a stand-in; its settings travel in the run's name."""
        parts = [f"{name}={value}" for name, value in settings.items()]
        name = " ".join([actor, *parts])
        return self.answers(max_steps=max_steps, logging={"run_name": name})

    def new_run(self, **more: Any) -> RunFolder:
        """Return the folder of a run that was asked for and not begun."""
        answers = self.answers(**more)
        config = TrainingConfig.from_record(answers)
        plan = make_plan(config, PlanContext("cpu", str(self.model), context=512, kind="decoder"))
        first = summarize(self.rows)
        dataset = {
            "path": str(self.rows),
            "sha256": first.sha256,
            "rows": first.rows,
            "mapping": first.mapping.as_dict() if first.mapping else None,
        }
        return self.store.create(
            NewRun("a run", config.explicit_values(), plan=plan.as_dict(), dataset=dataset)
        )


def slower(ratio: float) -> list[str]:
    """Return the fault of updates that took longer; where tests run, no clock is to be trusted."""
    return [f"updates took {ratio - 1:.1%} longer"] if ratio > 1.02 and SLACK == 1 else []


def until(holds: Callable[[], Any], limit_s: float, hope: str) -> Any:
    """Wait until `holds()` is true and return it; raises TimeoutError after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not (seen := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"within {limit_s} s it never came true that {hope}")
        time.sleep(0.01)
    return seen


def events_of(run: RunFolder) -> list[EventRecord]:
    """Return all that the worker has said."""
    return read_events(run.events)[0]


def steps_of(events: list[EventRecord]) -> list[int]:
    """Return the updates that were told, in the order they were told."""
    return [event.data["step"] for event in events if event.kind == "step"]


def disorder(events: list[EventRecord]) -> list[str]:
    """Return what is wrong with the numbers of events and updates: gaps, doubles, turns back."""
    faults = []
    numbers = [event.n for event in events]
    if numbers != list(range(1, len(numbers) + 1)):
        faults.append(f"the events are numbered {_first_break(numbers)}")
    steps, last = [], 0
    for event in events:
        if event.kind == "resumed":
            last = event.data["step"]
        elif event.kind == "step":
            if event.data["step"] <= last:
                steps.append(event.data["step"])
            last = event.data["step"]
    if steps:
        faults.append(f"updates told twice or turned back: {steps[:5]}")
    return faults


def _first_break(numbers: list[int]) -> str:
    at = next(place for place, n in enumerate(numbers) if n != place + 1)
    return f"{numbers[max(0, at - 1)]}, {numbers[at]} at place {at + 1}"
