"""A notebook executed in an environment with nothing of ours; its zip opens here as a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.runs.states import RunState
from tests.launchers.conftest import over, until

CLIENT = Path(__file__).parent / "run_notebook.py"
LIMIT_S = 3600
Execute = Callable[..., Path]

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with Jupyter; its packages are installed by pip."""
    folder = tmp_path_factory.mktemp("jupyter")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "ipykernel", "nbclient", "nbformat"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Jupyter cannot be installed: {done.stderr[-300:]}")
    return python


@pytest.fixture
def settings(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    rows = tmp_path / "rows.jsonl"
    pairs = [{"input": f"What does red {n} mean?", "output": "Red means stop."} for n in range(40)]
    rows.write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs), "utf-8")
    return {"task": "text-generation", "strategy": "sft", "model_name": str(tiny_model),
            "dataset": str(rows), "compute_specs": "low_end", "use_4bit": False,
            "max_steps": 60, "per_device_train_batch_size": 1, "eval_split": 0.1,
            "eval_steps": 20, "trainer": {"save_steps": 2}}  # fmt: skip


@pytest.fixture
def execute(jupyter: Path, forge: Forge, settings: dict[str, Any], tmp_path: Path) -> Execute:
    """Make a notebook once, and execute it as often as asked; return its folder."""
    folder = tmp_path / "there"
    folder.mkdir()
    own = Layer("recipe", settings)
    text = forge.notebooks.make([own], [own], "Red and green").text

    def run(how: str = "") -> Path:
        path = folder / "red.ipynb"
        path.write_text(text, "utf-8")
        call = [str(jupyter), str(CLIENT), str(path), how]
        # Nothing of this environment, as PYTHONPATH, is seen there.
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("PYTHONPATH", "MODELFORGE_HOME")}  # fmt: skip
        environment |= {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            call, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return run


def taken_in(forge: Forge, folder: Path) -> str:
    (archive,) = folder.glob("*.zip")
    return forge.archives.take_in(archive)


def weights(forge: Forge, run_id: str) -> bytes:
    return (forge.runs.folder(run_id).output / "adapter_model.safetensors").read_bytes()


def reference(forge: Forge, settings: dict[str, Any]) -> bytes:
    """Return the adapter of a run here that was not interrupted."""
    run_id = forge.runs.start(Layer("body", settings))
    assert over(forge, run_id) is RunState.FINISHED
    return weights(forge, run_id)


def test_a_notebook_trains_and_its_zip_is_a_run_here(execute, forge, settings):
    folder = execute()
    run_id = taken_in(forge, folder)
    view = forge.runs.view(run_id)
    assert (view.state, view.name, view.step) == (RunState.FINISHED, "Red and green", 60)
    reader = forge.runs.timeline(run_id)
    reader.poll()
    assert len(list(reader.timeline.stage.train["loss"])) > 2
    assert list(reader.timeline.stage.eval["loss"])
    assert weights(forge, run_id) == reference(forge, settings)
    # It can be used: an export of the adapter names its base model.
    names = {path.name for path in forge.runs.folder(run_id).output.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names


def test_an_interrupted_cell_keeps_the_model_and_the_run_finishes_here(execute, forge, settings):
    folder = execute("interrupt")
    run_id = taken_in(forge, folder)
    assert forge.runs.view(run_id).state is RunState.STOPPED
    assert 0 < forge.runs.view(run_id).step < 60
    forge.resume.resume(run_id)
    assert over(forge, run_id) is RunState.FINISHED
    assert weights(forge, run_id) == reference(forge, settings)


def test_a_computer_that_was_cut_off_continues_its_run(execute, forge, settings):
    folder = execute("kill")
    assert not list(folder.glob("*.zip"))
    execute()
    until(lambda: list(folder.glob("*.zip")), "there is a zip")
    run_id = taken_in(forge, folder)
    kinds = [event.kind for event in forge.runs.events(run_id)[0]]
    assert kinds.count("resumed") == 1
    assert kinds[-1] == "finished"
    assert weights(forge, run_id) == reference(forge, settings)
