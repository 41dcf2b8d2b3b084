"""A home with a run that has an adapter, and stand-ins for the evaluator."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from tests.services.exports.conftest import put_model, put_trained

ACTOR = Path(__file__).parents[2] / "actors" / "evaluator.py"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return put_model(tmp_path / "tiny")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Forge]]:
    """Open servers on the one home, whose evaluators behave as named."""
    forges: list[Forge] = []

    def open_one(how: str = "finishes") -> Forge:
        command = [sys.executable, str(ACTOR), how]
        exporter = [sys.executable, str(ACTOR.with_name("exporter.py")), how]
        forges.append(Forge(Home(tmp_path / "home"), evaluator=command, exporter=exporter))
        return forges[-1]

    yield open_one
    for forge in forges:
        for service in (forge.exports, forge.evaluations):
            for view in service.list():
                if not view.state.is_over:
                    service.stop(view.id)
        forge.close()


def put_rows(run: RunFolder, folder: Path, rows: int = 400, eval_split: float = 0.1) -> Path:
    """Give a run a data file of its own, a tenth of which is kept apart for evaluation."""
    data = folder / "rows.jsonl"
    data.write_text('{"text": "a"}\n' * rows, "utf-8")
    record = json.loads(run.config.read_text("utf-8"))
    record["config"]["eval_split"] = eval_split
    entry = {"files": [str(data)], "format": "jsonl", "rows": rows, "sha256": "0", "mapping": {}}
    record["dataset"] = {"sources": [entry], "rows": rows}
    run.config.write_text(json.dumps(record), "utf-8")
    return data


@pytest.fixture
def run(tmp_path: Path, model: Path) -> RunFolder:
    run = put_trained(tmp_path / "home", model, name="Support desk, first try!")
    put_rows(run, tmp_path)
    return run
