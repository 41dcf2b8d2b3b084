"""A Forge over an empty home, and runs that have ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.event_types import parse
from modelforge.runs.events import EventWriter
from modelforge.runs.view import RunView

STORED_RUN = Path(__file__).resolve().parents[1] / "stored_runs" / "run-v1"


@pytest.fixture
def forge(tmp_path):
    """Return a Forge whose warm worker does nothing."""
    made = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield made
    made.close()


@pytest.fixture
def ended_run(forge) -> Callable[..., RunView]:
    """Return a function that makes a run with a result and these events."""

    def make(task="text-generation", method="sft", whole=False, events=(), forge=forge):
        record = json.loads((STORED_RUN / "config.json").read_text("utf-8"))
        folder = forge.home.runs / record["id"]
        shutil.copytree(STORED_RUN, folder)
        record["config"]["task"] = task
        record["plan"] |= {"method": method, "trains": "all" if whole else "adapter"}
        (folder / "config.json").write_text(json.dumps(record), "utf-8")
        (folder / "output").mkdir(exist_ok=True)
        name = "config.json" if whole else "adapter_config.json"
        (folder / "output" / name).write_text("{}", "utf-8")
        (folder / "output" / "model.safetensors").write_bytes(b"")
        with EventWriter(folder / "events.jsonl") as writer:
            for kind, data in events:
                writer.write(parse(kind, data))
        return forge.runs.view(record["id"])

    return make
