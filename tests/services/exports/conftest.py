"""A home with a run that has an adapter, and stand-ins for the exporter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.forge import Forge
from modelforge.models.fingerprint import fingerprint
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from tests.conftest import TINY_SHAPE
from tests.runs.homes import put_run

ACTOR = Path(__file__).parents[2] / "actors" / "exporter.py"


def put_model(folder: Path, **config: Any) -> Path:
    """Put the files of a tiny model into a folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY_SHAPE | config), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}), "utf-8")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    weight = np.arange(64 * 16, dtype=np.float32).reshape(64, 16)
    save_file({"model.embed_tokens.weight": weight}, str(folder / "model.safetensors"))
    return folder


def put_trained(home: Path, model: Path, number: int = 1, **more: Any) -> RunFolder:
    """Put a finished run with an adapter of rank 4 into a home; `method` and `whole` vary it."""
    method, whole, rank = more.pop("method", "sft"), more.pop("whole", False), more.pop("rank", 4)
    run = put_run(home, number, model_name=str(model), **more)
    record = json.loads(run.config.read_text("utf-8"))
    record["plan"] |= {"model_path": str(model), "model_revision": None, "method": method}
    record["base"] = {"name": str(model), "revision": None, "hash": fingerprint(model)}
    run.config.write_text(json.dumps(record), "utf-8")
    if not run.output.is_dir():
        return run
    config = {"r": rank, "peft_type": "LORA", "base_model_name_or_path": str(model)}
    (run.output / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    if whole:
        for file in run.output.iterdir():
            file.unlink()
        for file in model.iterdir():
            (run.output / file.name).write_bytes(file.read_bytes())
    return run


def put_from_nothing(home: Path, model: Path, number: int = 1, **more: Any) -> RunFolder:
    """Put a finished run that trained this model from nothing into a home."""
    run = put_trained(home, model, number, whole=True, **more)
    record = json.loads(run.config.read_text("utf-8"))
    record["config"] |= {"model_name": "d6", "adapter": {"enabled": False}}
    record["config"]["pretraining"] = {"enabled": True}
    config = TrainingConfig.from_record(record["config"])
    record["plan"] = make_plan(config, PlanContext("cpu", "d6", context=128)).as_dict()
    run.config.write_text(json.dumps(record), "utf-8")
    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return put_model(tmp_path / "tiny")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Forge]]:
    """Open servers on the one home, whose exporters behave as named."""
    forges: list[Forge] = []

    def open_one(how: str = "finishes", **more: Any) -> Forge:
        command = [sys.executable, str(ACTOR), how]
        forges.append(Forge(Home(tmp_path / "home"), exporter=command, **more))
        return forges[-1]

    yield open_one
    for forge in forges:
        for view in forge.exports.list():
            if not view.state.is_over:
                forge.exports.stop(view.id)
        forge.close()


@pytest.fixture
def run(tmp_path: Path, model: Path) -> RunFolder:
    return put_trained(tmp_path / "home", model, name="Support desk, first try!")
