"""The doctor's rows, each from plain facts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelforge.hardware import doctor
from modelforge.hardware.machine import Machine
from modelforge.hardware.nvidia import Gpu
from modelforge.paths import Home

CARD = Gpu(0, "RTX 4070", 12.0, 10.8, 1.2, (8, 9), "580.88")
BARE = Machine(
    system="Linux",
    python="3.11",
    cpu="x",
    cores=2,
    ram_total_gib=8.0,
    ram_free_gib=4.0,
    disk_free_gib=50.0,
    disk_total_gib=100.0,
    gpus=[],
    gpu_note="No NVIDIA GPU was found.",
    apple_gpu=False,
)
WITH_CARD = replace(BARE, gpus=[CARD])


def card(**changed: object) -> Machine:
    return replace(BARE, gpus=[replace(CARD, **changed)])  # type: ignore[arg-type]


OLD_CARD = replace(CARD, index=1, name="Tesla P4", compute_capability=(6, 1))
RESTORE = "launch.py setup --torch auto"


@pytest.mark.parametrize(
    ("cuda", "machine", "state", "message", "remedy"),
    [
        ("", BARE, "good", "no NVIDIA GPU", ""),
        ("13.0", WITH_CARD, "good", "CUDA 13.0, driver 580.88", ""),
        ("12.6", card(driver="550.54"), "good", "driver 550.54", ""),
        ("13.2", card(compute_capability=(6, 1)), "good", "CUDA 13.2", ""),
        ("", WITH_CARD, "bad", "RTX 4070 is not used", RESTORE),
        ("13.0", card(driver="570.10"), "bad", "needs NVIDIA driver 580; 570.10", RESTORE),
        ("13.0", card(driver="470.10"), "bad", "needs NVIDIA driver 580", "Update the NVIDIA"),
        ("13.0", card(compute_capability=(6, 1)), "bad", "no kernels for RTX 4070", RESTORE),
        ("12.6", card(compute_capability=(12, 0)), "bad", "no kernels for RTX 4070", RESTORE),
        ("13.0", card(compute_capability=(3, 5)), "bad", "no kernels", "choose the device cpu"),
        ("13.0", card(compute_capability=None, driver=None), "good", "driver unknown", ""),
        (None, WITH_CARD, "good", "driver 580.88", ""),
    ],
)
def test_the_build_of_torch_is_held_against_driver_and_card(
    cuda: str | None, machine: Machine, state: str, message: str, remedy: str
) -> None:
    row = doctor.check_torch(replace(machine, torch_cuda=cuda), "2.13.0")
    assert row.state == state, row
    assert message in row.what
    assert remedy in row.remedy
    assert bool(row.remedy) == (state == "bad")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("newest", "remedy"), [((8, 9), RESTORE), ((12, 0), "Choose another GPU")])
def test_every_gpu_is_judged_in_any_order(first: int, newest: tuple[int, int], remedy: str) -> None:
    gpus = [replace(CARD, compute_capability=newest), OLD_CARD]
    machine = replace(BARE, gpus=gpus[::-1] if first else gpus, torch_cuda="13.0")
    row = doctor.check_torch(machine, "2.13.0")
    assert row.state == "note"
    assert "no kernels for Tesla P4" in row.what
    assert "RTX 4070" not in row.what
    assert remedy in row.remedy


def test_a_missing_torch_is_bad() -> None:
    assert doctor.check_torch(BARE, None).state == "bad"


def test_every_card_says_what_it_can() -> None:
    old = replace(CARD, index=1, name="GTX 1060", compute_capability=(6, 1), total_gib=None)
    rows = doctor.check_gpus(replace(BARE, gpus=[CARD, old]))
    assert [row.state for row in rows] == ["good", "note"]
    assert "12.0 GiB, compute capability 8.9: bf16 and fp16." in rows[0].what
    assert "unknown memory" in rows[1].what
    assert "not bf16" in rows[1].what


def test_no_card_is_a_note_and_not_a_fault() -> None:
    assert doctor.check_gpus(BARE)[0].state == "note"


def test_a_missing_compiler_is_noted_beside_a_gpu() -> None:
    (row,) = doctor.check_compiler(replace(WITH_CARD, packages=("Python.h",)))
    assert (row.state, "a C compiler" in row.what) == ("note", True)
    assert doctor.check_compiler(replace(WITH_CARD, packages=("cc", "Python.h"))) == []
    assert doctor.check_compiler(BARE) == []


def stack(code: str, machine: Machine = BARE) -> list[doctor.CheckResult]:
    return doctor.check_stack(machine, [sys.executable, "-c", code], timeout_s=5.0)


def answer(*devices: dict[str, object]) -> str:
    return f"print('noise'); print({json.dumps({'seconds': 3.0, 'devices': devices})!r})"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('operator torchvision::nms does not exist.')", "torchvision::nms"),
        ("import time; time.sleep(60)", "did not finish within 5 s"),
        ("", "without output"),
    ],
)
def test_a_stack_that_does_not_import_is_bad(code: str, message: str) -> None:
    (row,) = stack(code)
    assert (row.name, row.state) == ("Training stack", "bad")
    assert message in row.what
    assert row.remedy


RIGHT = {"device": "cuda:0", "matmul": 0.0001, "matmul_4bit": 0.09}


@pytest.mark.parametrize(
    ("machine", "device", "state", "message"),
    [
        (BARE, {"device": "cpu", "matmul": 0.0}, "good", "0.00%"),
        (BARE, {"device": "cpu", "matmul": 0.5}, "bad", "50.00%"),
        (WITH_CARD, RIGHT, "good", "9.0%"),
        (WITH_CARD, RIGHT | {"matmul_4bit": 0.9}, "bad", "90.0%"),
        (WITH_CARD, {"device": "cuda:0", "error": "No kernel image."}, "bad", "No kernel image."),
        (WITH_CARD, {"device": "cpu", "matmul": 0.0}, "bad", "does not find the GPU"),
    ],
)
def test_the_products_are_judged_on_the_device_of_a_run(
    machine: Machine, device: dict[str, object], state: str, message: str
) -> None:
    first, row = stack(answer(device), machine)
    assert first.state == "good"
    assert row.state == state
    assert message in row.what
    assert bool(row.remedy) == (state == "bad")


def test_the_products_of_every_gpu_are_judged() -> None:
    rows = stack(answer(RIGHT, RIGHT | {"device": "cuda:1", "matmul": 0.5}), WITH_CARD)
    assert [row.state for row in rows] == ["good", "good", "bad"]


def test_an_optional_package_that_does_not_import_is_named() -> None:
    code = (
        "import json, sys; asked = sys.argv[1:]; print(json.dumps({'seconds': 1.0, 'devices': [], "
        "'broken': {asked[1]: 'Built for another torch.'} if asked else {}}))"
    )
    rows = stack(code, replace(BARE, packages=("flash_attn",)))
    assert [(row.name, row.state) for row in rows[1:]] == [("flash_attn", "bad")]
    assert "another torch" in rows[1].what
    assert len(stack(code)) == 1


def test_an_installed_unsloth_is_imported_too() -> None:
    code = f"import sys; 'unsloth' in sys.argv and sys.exit('no unsloth_zoo'); {answer(RIGHT)}"
    rows = stack(code, replace(WITH_CARD, packages=("unsloth",)))
    assert [row.state for row in rows] == ["good", "good", "bad"]
    assert "no unsloth_zoo" in rows[-1].what
    assert "setup --with unsloth" in rows[-1].remedy


def test_a_package_other_than_tested_is_named_with_both_versions() -> None:
    row = doctor.check_packages({"pydantic": "0.0.1"})
    assert row.state in ("note", "bad")
    if row.state == "note":
        assert "(tested: 0.0.1)" in row.what


def test_the_tested_versions_are_read_from_the_constraints() -> None:
    assert doctor.read_pinned_versions(doctor.CONSTRAINTS)["torch"] == "2.13.0"
    assert doctor.read_pinned_versions(Path("nowhere.txt")) == {}


def test_the_starter_model_is_looked_for_in_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert doctor.check_starter(home).state == "bad"
    home.starter_model.mkdir(parents=True)
    for name in doctor.STARTER_FILES:
        (home.starter_model / name).touch()
    assert doctor.check_starter(home).state == "good"


def test_a_network_that_is_away_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HF_HUB_OFFLINE" in doctor.check_network(lambda: True).what
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    assert doctor.check_network(lambda: True).state == "good"
    assert doctor.check_network(lambda: False).state == "note"


def test_the_examination_has_a_remedy_for_everything_bad(tmp_path: Path) -> None:
    rows = doctor.check_machine(
        Home(tmp_path),
        probe=lambda _root: BARE,
        is_reachable=lambda: False,
        stack=lambda _machine: [doctor.CheckResult("Training stack", "good", "Imported.")],
    )
    names = [row.name for row in rows]
    assert names[0] == "Python"
    expected = {"PyTorch", "GPU", "Training stack", "Packages", "Starter model", "Disk", "Browser"}
    assert expected <= set(names)
    assert all(row.remedy for row in rows if row.state == "bad")


@pytest.mark.torch
def test_the_stack_of_this_environment_works() -> None:
    rows = doctor.check_stack(BARE)
    assert [row.state for row in rows] == ["good", "good"], rows
    assert rows[1].name == "Matmul cpu"


def test_a_missing_llama_cpp_is_a_note_with_the_way_to_install_it() -> None:
    assert doctor.check_llama_cpp("2026.10.11549").state == "good"
    row = doctor.check_llama_cpp(None)
    assert row.state == "note"
    assert "setup --with gguf" in row.remedy
