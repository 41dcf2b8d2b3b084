"""What extras need."""

from __future__ import annotations

import platform
from collections import namedtuple
from pathlib import Path

import pytest

from modelforge.setup import commands, extra_facts
from modelforge.setup.extra_facts import (
    PROOFS,
    did_you_mean,
    named_packages,
    read_extras,
    why_unavailable,
)

ROOT = Path(__file__).resolve().parents[2]
Python = namedtuple("Python", "version_info")


def gpu(driver: str | None = "580.88", *capabilities: tuple[int, ...]) -> dict[str, object]:
    return {"driver_version": driver, "capabilities": capabilities or ((8, 6),)}


def test_every_extra_has_a_proof_and_is_in_the_help() -> None:
    assert set(PROOFS) == set(read_extras(ROOT))
    assert all(name in commands.USAGE for name in PROOFS)


def test_the_packages_of_an_extra_include_those_of_the_extras_it_names() -> None:
    names = named_packages("dev", read_extras(ROOT))
    assert {"torchao", "pytest", "types-pyyaml"} <= names


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("unslot", PROOFS) == "Did you mean unsloth?"
    assert did_you_mean("xyz", ["b", "a"]) == "Known: a, b."


@pytest.mark.parametrize(
    ("system", "gpus", "cuda", "message"),
    [
        ("Linux", gpu(None), None, "none was found"),
        ("Darwin", gpu(), "13.0", "none was found"),
        ("Linux", gpu("580.88", (6, 1)), "12.6", "compute capability 7.0; this one has 6.1"),
        ("Linux", gpu("470.10"), None, "No build of PyTorch supports the driver 470.10"),
        ("Linux", gpu(), "", "has no CUDA, so the GPU is not used. Run `python launch.py setup"),
        ("Linux", gpu("570.10"), "13.0", "needs NVIDIA driver 580"),
        ("Linux", gpu(), "13.0", ""),
        ("Linux", gpu("570.10"), None, ""),
        ("Linux", gpu("580.88", (6, 1), (8, 6)), "13.0", ""),
        ("Windows", gpu(), "13.0", ""),
    ],
)
def test_unsloth_is_refused_where_it_cannot_work(
    monkeypatch: pytest.MonkeyPatch, system: str, gpus: object, cuda: str | None, message: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(extra_facts, "find_build_tools", lambda: ("cc", "Python.h"))
    reason = why_unavailable("unsloth", gpus, cuda)
    assert message in reason
    assert bool(reason) == bool(message)


def test_unsloth_is_refused_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(extra_facts, "find_build_tools", lambda: ("Python.h",))
    assert "needs a C compiler." in why_unavailable("unsloth", gpu(), "13.0")


@pytest.mark.parametrize(
    ("system", "python", "message"),
    [
        ("Windows", (3, 12, 0), "does not support Windows"),
        ("Linux", (3, 13, 0), "Python up to 3.12"),
        ("Linux", (3, 12, 9), ""),
    ],
)
def test_aim_is_refused_where_it_has_no_wheels(
    monkeypatch: pytest.MonkeyPatch, system: str, python: tuple[int, ...], message: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(extra_facts, "sys", Python(python))
    reason = why_unavailable("aim", gpu(), "13.0")
    assert message in reason
    assert bool(reason) == bool(message)
