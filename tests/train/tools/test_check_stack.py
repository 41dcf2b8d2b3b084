"""The check that imports what a worker imports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
from modelforge.train import environment
from modelforge.train.tools import check_stack

pytestmark = pytest.mark.torch
TORCHVISION = "raise RuntimeError('operator torchvision::nms does not exist')"
# As transformers reports a module that cannot be imported.
WRAPPED = """
try:
    import broken_vision
except RuntimeError as error:
    raise ModuleNotFoundError(
        "Could not import module 'set_seed'. Are this object's requirements defined correctly?"
    ) from error
"""


@pytest.fixture(autouse=True)
def _unchanged_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "configure_process", lambda: None)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_devices_are_reported_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_stack.main(["json.tool"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["seconds"] >= 0
    assert result["devices"]
    assert all(device["matmul"] < 0.01 for device in result["devices"])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("broken_vision", "incompatible: operator torchvision::nms does not exist."),
        ("wrapped", "incompatible: operator torchvision::nms does not exist."),
        ("not_there", "not installed: No module named 'not_there'."),
    ],
)
def test_a_failed_import_is_explained_by_its_first_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], module: str, message: str
) -> None:
    (tmp_path / "broken_vision.py").write_text(TORCHVISION, encoding="utf-8")
    (tmp_path / "wrapped.py").write_text(WRAPPED, encoding="utf-8")
    assert check_stack.main([module]) == 1
    assert message in capsys.readouterr().err


def test_a_broken_optional_package_does_not_fail_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_vision.py").write_text(TORCHVISION, encoding="utf-8")
    assert check_stack.main(["--optional", "broken_vision", "--optional", "json"]) == 0
    broken = json.loads(capsys.readouterr().out.splitlines()[-1])["broken"]
    assert list(broken) == ["broken_vision"]
    assert "torchvision::nms" in broken["broken_vision"]


def test_a_device_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def error(device: str) -> float:
        if device == "cuda:0":
            raise RuntimeError("CUDA error: no kernel image is available for execution")
        return 0.0

    monkeypatch.setattr(check_stack, "_matmul_error", error)
    monkeypatch.setattr(check_stack, "_matmul_4bit_error", lambda _device: 0.1)
    monkeypatch.setattr(check_stack, "_devices", lambda: ["cuda:0", "cuda:1"])
    first, second = map(check_stack._check, check_stack._devices())
    assert "no kernel image" in first["error"]
    assert second == {"device": "cuda:1", "matmul": 0.0, "matmul_4bit": 0.1}
