"""What extras need."""

from __future__ import annotations

import platform
import sysconfig
from collections import namedtuple
from pathlib import Path

import pytest

from modelforge.setup import commands, extra_facts
from modelforge.setup.extra_facts import (
    PROOFS,
    did_you_mean,
    find_build_tools,
    missing_build_tools,
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
    ("system", "gpus", "cuda", "said"),
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
    monkeypatch: pytest.MonkeyPatch, system: str, gpus: object, cuda: str | None, said: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(extra_facts, "find_build_tools", lambda: ("cc", "Python.h"))
    reason = why_unavailable("unsloth", gpus, cuda)
    assert said in reason
    assert bool(reason) == bool(said)


def test_unsloth_needs_a_compiler_and_the_headers_of_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert find_build_tools() == ()
    reason = why_unavailable("unsloth", gpu(), "13.0")
    assert "needs a C compiler and the header files of Python (Python.h)." in reason
    assert "gcc python3-dev" in reason
    (tmp_path / "Python.h").touch()
    assert "needs a C compiler." in missing_build_tools(find_build_tools())
    monkeypatch.setenv("CC", "/opt/cc")
    assert why_unavailable("unsloth", gpu(), "13.0") == ""


@pytest.mark.parametrize(
    ("system", "python", "said"),
    [
        ("Windows", (3, 12, 0), "does not support Windows"),
        ("Linux", (3, 13, 0), "Python up to 3.12"),
        ("Linux", (3, 12, 9), ""),
    ],
)
def test_aim_is_refused_where_it_has_no_wheels(
    monkeypatch: pytest.MonkeyPatch, system: str, python: tuple[int, ...], said: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(extra_facts, "sys", Python(python))
    reason = why_unavailable("aim", gpu(), "13.0")
    assert said in reason
    assert bool(reason) == bool(said)
