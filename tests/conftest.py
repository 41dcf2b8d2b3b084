"""What every lane shares: an empty home, no network, and skips only for what is truly absent."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
# The config of a tiny model: enough for every question asked before the start.
TINY_SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 128,
}
# `launch.py test` has installed everything: what is absent then is a failure, not a skip.
EVERYTHING = os.environ.get("MODELFORGE_TEST_ALL") == "1"
# Tests that share the cores are run by processes of their own, which get our empty home as theirs.
GIVEN_HOME = os.environ.setdefault("MODELFORGE_GIVEN_HOME", os.environ.get("MODELFORGE_HOME", ""))
HOMES_WITH_STARTER = [Path(GIVEN_HOME or ROOT / ".venv" / "home"), ROOT / ".venv" / "home"]
EMPTY_HOME = tempfile.mkdtemp(prefix="modelforge-tests-")
os.environ.update(
    MODELFORGE_HOME=EMPTY_HOME,
    HF_HOME=str(Path(EMPTY_HOME) / "hub"),
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    DO_NOT_TRACK="1",
    WANDB_MODE="disabled",
    TOKENIZERS_PARALLELISM="false",
)
for secret in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"):
    os.environ.pop(secret, None)


def _absent(lane: str) -> str:
    """Return why a lane cannot run here, or nothing."""
    if lane == "torch":
        return "" if find_spec("torch") else "torch is not installed"
    if lane == "gpu":
        return "" if _has_cuda_card() else "there is no CUDA card"
    from modelforge.setup.browser import find_browser

    if not find_spec("playwright"):
        return "playwright is not installed"
    return "" if find_browser() else "there is no Chromium or Chrome"


def _has_cuda_card() -> bool:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return bool(pynvml.nvmlDeviceGetCount())


@pytest.hookimpl(trylast=True)  # after `-m` has deselected: no browser is looked for in vain
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with a reason what cannot run here; warnings fail only the default lane.

    The browser comes last: its driver leaves an event loop running in this thread.
    """
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    reasons: dict[str, str] = {}
    for item in items:
        lanes = [lane for lane in ("torch", "browser", "gpu") if item.get_closest_marker(lane)]
        for lane in lanes:
            item.add_marker(pytest.mark.filterwarnings("default"))
            if lane not in reasons:
                reasons[lane] = _absent(lane)
            if reasons[lane] and (lane == "gpu" or not EVERYTHING):
                item.add_marker(pytest.mark.skip(reason=reasons[lane]))


def pytest_sessionfinish() -> None:
    """Leave nothing behind."""
    shutil.rmtree(EMPTY_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave this machine, from the test's own process."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "unix"
        if host not in ("unix", "127.0.0.1", "localhost", "::1"):
            raise ConnectionRefusedError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def starter_folder() -> Path:
    """The converted starter model, as `launch.py test` leaves it."""
    for home in HOMES_WITH_STARTER:
        folder = home / "models" / "starter"
        if (folder / "config.json").is_file():
            return folder
    absent = "the starter model is not converted; run `python launch.py test`"
    if EVERYTHING:
        pytest.fail(absent)
    return pytest.skip(absent)


@pytest.fixture
def home_with_starter(tmp_path: Path, starter_folder: Path) -> Path:
    """The root of a home of its own that holds the starter model (linked, not copied)."""
    root = tmp_path / "home"
    target = root / "models" / "starter"
    target.mkdir(parents=True)
    for file in starter_folder.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy2(file, target / file.name)
    return root


@pytest.fixture
def model(tmp_path):
    """A folder with a tiny model: enough for every question asked before the start."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_SHAPE), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}), "utf-8")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    save_file({"w": np.zeros((64, 16), np.float32)}, str(folder / "model.safetensors"))
    return folder


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"input": f"question {n}", "output": f"answer {n}"} for n in range(20)]
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


@pytest.fixture
def settings(model, data):
    """Settings of a run of 20 rows, half of them for evaluation."""
    return {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
        "eval_split": 0.5,
        "eval_steps": 2,
        "per_device_eval_batch_size": 5,
    }


@pytest.fixture
def rlhf(settings, tmp_path):
    """Settings of an RLHF run on 20 pairs, with a rule as the reward."""
    pairs = [{"prompt": f"Is {n} odd?", "chosen": "Yes.", "rejected": "No."} for n in range(20)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return settings | {"dataset": str(path), "strategy": "rlhf", "trainer": {"reward": "length"}}
