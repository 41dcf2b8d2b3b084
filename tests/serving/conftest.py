"""Servers of a home whose chat process is an actor, exports made by hand, and a plain client."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import save_file

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import write_json
from modelforge.runs.exports import (
    ExportFolder,
    ExportRecord,
    ExportRequest,
    ExportResult,
    write_result,
)
from tests.services.test_runs import ACTORS

PATIENCE_S, LOAD_S = 60.0, 280.0
HELLO = [{"role": "user", "content": "hello"}]
# The reply of the actor `talks`.
TUNED = "Ahoy! A sailor's guess: it is Paris. Fair winds, Captain Brindle."


def play(actor: str) -> list[str]:
    return [sys.executable, str(ACTORS / f"{actor}.py")]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def opened(home):
    """Return a function that opens a server of the home; its runs and models end with the test."""
    forges: list[Forge] = []

    def open_one(chat: list[str] | None = None) -> Forge:
        forge = Forge(
            home,
            worker=play("obeys"),
            warm_worker=[sys.executable, "-c", ""],
            chat_process=chat or play("talks"),
        )
        forges.append(forge)
        return forge

    yield open_one
    for forge in forges:
        for view in forge.runs.views():
            forge.runs.stop(view.id)
            wait_for(lambda: forge.runs.state(view.id).is_over, "the run is over")  # noqa: B023
        forge.close()


@pytest.fixture
def forge(opened):
    return opened()


def serve(forge: Forge, what: object, **options: Any) -> httpx.Client:
    """Serve a model on a free port, and return a client with its key."""
    forge.serving.start(str(what), port=0, **options)
    return client_of(forge)


def client_of(forge: Forge) -> httpx.Client:
    """Wait until the model is loaded, and return a client with the key."""
    wait_for(lambda: forge.serving.current().state != "starting", "the model is loaded", LOAD_S)
    view = forge.serving.current()
    assert view.state == "on", view.problem
    headers = {"authorization": f"Bearer {forge.serving.secret()}"}
    return httpx.Client(base_url=view.address, headers=headers, timeout=PATIENCE_S)


def wait_for(holds: Callable[[], object], hope: str, limit_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"{hope}: not within {limit_s:g} s"
        time.sleep(0.02)


def make_export(
    home: Home, name: str, fill: Callable[[Path], None], result: str = "finished", **options: Any
) -> ExportFolder:
    """Make an export whose files are those that `fill` writes.

    A failed one did not pass its self-test; one for the Hub was not uploaded.
    """
    folder = ExportFolder(home.exports / name)
    is_usable = result == "finished" or options["format"] == "hub"
    files = folder.files if is_usable else folder.not_usable
    files.mkdir(parents=True)
    fill(files)
    facts = options.pop("facts", {})
    request = ExportRequest(run="20260101-000000-gone", **options)
    record = ExportRecord(request, run_name="Captain · two", stem="captain-two", created=1.0)
    write_json(folder.record_file, {**record.as_dict(), "facts": facts})
    write_result(folder, ExportResult(result, 2.0))
    return folder


def write_weights(folder: Path) -> None:
    """Write the files by which a folder is known to be a whole model."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), "utf-8")
    save_file({"w": np.zeros(1, np.float32)}, str(folder / "model.safetensors"))
