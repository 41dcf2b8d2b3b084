"""Set-up of a tiny checkout with tiny wheels, without network."""

from __future__ import annotations

import io
import platform
import re
from dataclasses import replace

import pytest

from modelforge.setup import extras, stages
from modelforge.setup.environment import SetupOptions
from modelforge.setup.errors import SetupError
from modelforge.setup.stages import Setup, exclusive_setup
from tests.setup.checkout import ALL, make_checkout, put_torch


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> SetupOptions:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(autouse=True)
def _only_local_wheels(monkeypatch: pytest.MonkeyPatch, options: SetupOptions) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(options.root / "wheels"))


@pytest.fixture
def ready(options: SetupOptions) -> SetupOptions:
    put_torch(options.root / "wheels", "2.13.0", "13.0")
    Setup(options, io.StringIO()).run()
    return options


def test_set_up_continues_after_a_failed_stage(options: SetupOptions) -> None:
    first = Setup(options, io.StringIO())
    assert first.missing() == ALL
    with pytest.raises(SetupError, match=r"at PyTorch: .*torch==2\.13\.0"):
        first.run()
    assert "torch==2.13.0" in first.log.read_text(encoding="utf-8")
    created = options.python.lstat().st_mtime_ns

    put_torch(options.root / "wheels", "2.13.0", "13.0")
    output = io.StringIO()
    second = Setup(options, output)
    assert second.missing() == ALL[1:]
    assert second.run()
    assert options.python.lstat().st_mtime_ns == created
    assert "[2/5] PyTorch: done" in output.getvalue()
    assert Setup(options).missing() == []
    assert not Setup(options).run()


def test_only_a_missing_starter_model_is_restored(ready: SetupOptions) -> None:
    other = SetupOptions(ready.root, ready.root / "other home")
    assert Setup(other).missing() == ["Starter model"]
    Setup(other, io.StringIO()).run()
    assert (other.home / "models" / "starter" / "config.json").is_file()


def test_changed_constraints_reinstall_the_project(ready: SetupOptions) -> None:
    constraints = ready.root / "constraints.txt"
    constraints.write_text("torch==2.13.0\nnumpy==2.4.6\n", encoding="utf-8")
    assert Setup(ready).missing() == ["ModelForge"]
    constraints.write_text("torch==2.13.0\n", encoding="utf-8")


def test_extras_need_an_environment_made_by_launch_py(ready: SetupOptions) -> None:
    assert extras.unavailable_reason(ready.home, ready.root, str(ready.venv)) == ""
    assert "not set up by launch.py" in extras.unavailable_reason(ready.home, ready.root, "/usr")
    other = ready.root / "a home without the starter"
    assert "Starter model" in extras.unavailable_reason(other, ready.root, str(ready.venv))


def test_a_build_for_another_driver_replaces_the_installed_one(
    ready: SetupOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = {"driver_version": "570.10", "capabilities": ((8, 6),)}
    monkeypatch.setattr(stages, "query_nvidia_gpu", lambda: gpus)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    choose = replace(ready, torch="auto")
    assert Setup(ready).missing() == []
    assert Setup(choose).missing() == ["PyTorch"]
    with pytest.raises(SetupError, match="did not install the build that suits"):
        Setup(choose, io.StringIO()).run()
    assert "PyTorch" in Setup(choose).missing()

    wheels = ready.root / "wheels"
    put_torch(wheels, "2.13.0+cu126", "12.6")
    Setup(choose, io.StringIO()).run()
    assert Setup(ready).environment.cuda_version() == "12.6"
    assert Setup(choose).missing() == Setup(ready).missing() == []
    (wheels / "torch-2.13.0+cu126-py3-none-any.whl").unlink()


def test_a_torch_override_stays_until_auto(ready: SetupOptions) -> None:
    override = SetupOptions(ready.root, ready.home, torch="torch --no-deps")
    assert "PyTorch" in Setup(override).missing()
    Setup(override, io.StringIO()).run()
    assert Setup(ready).missing() == []
    assert "PyTorch" in Setup(SetupOptions(ready.root, ready.home, torch="auto")).missing()


def test_a_second_set_up_in_the_same_folder_is_rejected(ready: SetupOptions) -> None:
    setup = Setup(SetupOptions(ready.root, ready.root / "third home"))
    with exclusive_setup(setup.log.parent / "lock"), pytest.raises(SetupError, match="is running"):
        setup.run()


def test_an_environment_without_python_is_recreated(ready: SetupOptions) -> None:
    aside = ready.python.rename(ready.python.with_suffix(".aside"))
    assert Setup(ready).missing()[0] == "Environment"
    aside.rename(ready.python)
    assert Setup(ready).missing() == []


def test_an_environment_whose_base_python_is_gone_is_recreated(ready: SetupOptions) -> None:
    settings = ready.venv / "pyvenv.cfg"
    before = settings.read_text(encoding="utf-8")
    gone = re.sub(r"^home = .*$", "home = /removed/python/bin", before, flags=re.MULTILINE)
    for text in (gone, ""):
        settings.write_text(text, encoding="utf-8")
        assert Setup(ready).missing()[0] == "Environment"
    settings.write_text(before, encoding="utf-8")
    assert Setup(ready).missing() == []


def test_an_unfinished_environment_is_recreated(ready: SetupOptions) -> None:
    state = ready.venv / ".modelforge-setup.json"
    before = state.read_text(encoding="utf-8")
    state.write_text(before[: len(before) // 2], encoding="utf-8")
    assert Setup(ready).missing()[:4] == ALL[:4]
    state.write_text(before, encoding="utf-8")
    assert Setup(ready).missing() == []
