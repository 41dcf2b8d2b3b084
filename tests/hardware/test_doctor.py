"""The doctor's rows, each from plain facts."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("cuda", "machine", "state", "said", "remedy"),
    [
        (None, BARE, "good", "no NVIDIA GPU", ""),
        ("13.0", WITH_CARD, "good", "CUDA 13.0, driver 580.88", ""),
        ("12.6", card(driver="550.54"), "good", "driver 550.54", ""),
        (None, WITH_CARD, "bad", "RTX 4070 is not used", "/cu130"),
        ("13.0", card(driver="570.10"), "bad", "needs driver 580", "/cu126"),
        ("13.0", card(driver="470.10"), "bad", "needs driver 580", "Update the NVIDIA driver"),
        ("13.0", card(compute_capability=(6, 1)), "bad", "no kernels for RTX 4070", "/cu126"),
        ("13.0", card(compute_capability=None, driver=None), "good", "driver unknown", ""),
    ],
)
def test_the_build_of_torch_is_held_against_driver_and_card(
    cuda: str | None, machine: Machine, state: str, said: str, remedy: str
) -> None:
    row = doctor.check_torch(cuda, machine, "2.13.0")
    assert row.state == state
    assert said in row.what
    assert remedy in row.remedy
    assert bool(row.remedy) == (state == "bad")


def test_a_missing_torch_is_bad() -> None:
    assert doctor.check_torch(None, BARE, None).state == "bad"


def test_every_card_says_what_it_can() -> None:
    old = replace(CARD, index=1, name="GTX 1060", compute_capability=(6, 1), total_gib=None)
    rows = doctor.check_gpus(replace(BARE, gpus=[CARD, old]))
    assert [row.state for row in rows] == ["good", "note"]
    assert "12.0 GiB, compute capability 8.9: bf16 and fp16." in rows[0].what
    assert "unknown memory" in rows[1].what
    assert "not bf16" in rows[1].what


def test_no_card_is_a_note_and_not_a_fault() -> None:
    assert doctor.check_gpus(BARE)[0].state == "note"


@pytest.mark.parametrize(
    ("code", "state", "said"),
    [
        ("print('noise'); print('{\"off\": 0.09, \"seconds\": 3.0}')", "good", "9.0%"),
        ('print(\'{"off": 0.9, "seconds": 3.0}\')', "bad", "90.0%"),
        ("raise RuntimeError('no kernel image')", "bad", "no kernel image"),
        ("import time; time.sleep(60)", "bad", "did not finish within 1 s"),
        ("", "bad", "without output"),
    ],
)
def test_the_matmul_is_judged_by_its_answer(code: str, state: str, said: str) -> None:
    row = doctor.check_4bit_matmul([sys.executable, "-c", code], timeout_s=1.0)
    assert row.state == state
    assert said in row.what


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
        Home(tmp_path), probe=lambda _root: BARE, is_reachable=lambda: False
    )
    names = [row.name for row in rows]
    assert names[0] == "Python"
    assert {"PyTorch", "GPU", "Packages", "Starter model", "Disk", "Browser"} <= set(names)
    assert all(row.remedy for row in rows if row.state == "bad")


@pytest.mark.torch
def test_the_question_about_4_bit_has_an_answer_on_any_device() -> None:
    row = doctor.check_4bit_matmul()
    assert row.state == "good", row
