"""Unsloth as preflight sees it: here or not, whole or not, on this machine or not."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from modelforge.errors import Finding
from modelforge.preflight.checks import provider
from modelforge.preflight.checks.provider import ProviderStatus, find_broken_package
from tests.preflight.contexts import CARD, LAPTOP, WORKSTATION, findings_of, make_context

MAC = replace(LAPTOP, apple_gpu=True)
PASCAL = replace(WORKSTATION, gpus=[replace(CARD, compute_capability=(6, 1))])
TURING = replace(WORKSTATION, gpus=[replace(CARD, compute_capability=(7, 5))])
INSTALLED = {"unsloth": "2026.10.6", "unsloth_zoo": "2026.10.7", "trl": "1.14.2", "tyro": "1.0"}
NEEDS = {
    "unsloth": [
        "unsloth_zoo>=2026.10.6",
        "trl!=0.19.0,<=1.15.0",
        "tyro",
        'absent; sys_platform == "no-such"',
        'other; extra == "studio"',
    ],
    "unsloth_zoo": ["trl<=1.15.0"],
}


def provider_findings(machine: Any = WORKSTATION, **settings: Any) -> list[Finding]:
    context = make_context(machine, provider="unsloth", **settings)
    return [one for one in findings_of(context) if one.code.startswith("provider-")]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "find_spec", lambda _name: object())
    monkeypatch.setattr(provider, "find_broken_package", lambda: "")
    monkeypatch.setattr(provider, "installed_version", lambda _name: provider.TESTED)


@pytest.mark.parametrize(
    ("machine", "settings", "why"),
    [
        (LAPTOP, {}, "this computer trains on the CPU"),
        (MAC, {}, "this computer trains on the Apple GPU"),
        (WORKSTATION, {"hardware": {"device": "cpu"}}, "this run uses the cpu"),
        (PASCAL, {}, "compute capability 7.0; RTX 4070 has 6.1"),
        (replace(WORKSTATION, packages=("cc",)), {}, "needs the header files of Python (Python.h)"),
        (replace(WORKSTATION, packages=("Python.h",)), {}, "needs a C compiler"),
    ],
)
def test_a_machine_without_a_suitable_card_is_refused(installed, machine, settings, why):
    [found] = provider_findings(machine, **settings)
    assert (found.level, found.code) == ("blocker", "provider-unsupported")
    assert (found.where, found.suggested) == ("provider", "huggingface")
    assert why in found.what
    assert "setup" not in found.remedy  # installing it would not help


def test_absent_it_is_refused_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr(provider, "find_spec", lambda _name: None)
    [found] = provider_findings()
    assert (found.code, found.suggested) == ("provider-absent", "huggingface")
    assert "python launch.py setup --with unsloth" in found.remedy
    assert "Machine page" in found.remedy


def test_broken_it_is_refused_with_what_is_wrong(monkeypatch, installed):
    monkeypatch.setattr(
        provider, "find_broken_package", lambda: "unsloth needs trl<2; 2.0 is installed."
    )
    [found] = provider_findings()
    assert (found.code, found.suggested) == ("provider-broken", "huggingface")
    assert found.what == "unsloth needs trl<2; 2.0 is installed."


@pytest.mark.parametrize("machine", [WORKSTATION, TURING])
def test_nothing_is_reported_when_ready(installed, machine):
    assert provider_findings(machine) == []


def test_nothing_is_reported_of_the_other_provider():
    assert [one for one in findings_of(make_context()) if one.code.startswith("provider-")] == []


@pytest.mark.parametrize(
    "settings", [{"strategy": "rlhf"}, {"trainer": {"preference_loss": "kto"}}]
)
def test_what_it_does_not_train_is_refused(installed, settings):
    found = provider_findings(**{"strategy": "dpo", **settings})
    assert [one.code for one in found] == ["provider-unsuited"]
    assert (found[0].level, found[0].suggested) == ("blocker", "huggingface")


@pytest.mark.parametrize(
    "settings", [{"strategy": "sft"}, {"strategy": "qlora"}, {"strategy": "dpo"}]
)
def test_what_it_trains_is_not_refused(installed, settings):
    assert provider_findings(**settings) == []


def test_another_version_than_the_tested_one_is_noted(monkeypatch, installed):
    monkeypatch.setattr(provider, "installed_version", lambda _name: "2026.11.1")
    [found] = provider_findings()
    assert (found.level, found.code) == ("note", "provider-untested")
    assert "2026.11.1" in found.what


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, ""),
        ({"tyro": "0.0.1"}, ""),
        ({"unsloth_zoo": None}, "unsloth needs unsloth_zoo, which is not installed."),
        ({"tyro": None}, "unsloth needs tyro, which is not installed."),
        ({"trl": "1.16.0"}, "unsloth needs trl!=0.19.0,<=1.15.0; 1.16.0 is installed."),
        (
            {"unsloth_zoo": "2026.9.1"},
            "unsloth needs unsloth_zoo>=2026.10.6; 2026.9.1 is installed.",
        ),
        ({"unsloth": None}, "unsloth is not completely installed."),
    ],
)
def test_a_broken_package_is_found_by_the_requirements_of_unsloth(monkeypatch, changed, text):
    monkeypatch.setattr(provider, "installed_version", {**INSTALLED, **changed}.get)
    monkeypatch.setattr(metadata, "requires", NEEDS.get)
    assert find_broken_package() == text


def test_the_tested_version_is_the_one_that_set_up_installs():
    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert f"unsloth=={provider.TESTED}" in extras["unsloth"]


def test_asking_imports_nothing():
    before = set(sys.modules)
    assert isinstance(provider.unsloth_status(WORKSTATION, CARD), ProviderStatus)
    assert not {"unsloth", "torch", "transformers"} & (set(sys.modules) - before)


def test_a_way_of_attention_that_unsloth_does_not_take_is_reported(installed):
    chosen = {"attn_implementation": "eager"}

    def reported(**settings: Any) -> list[str]:
        found = findings_of(make_context(WORKSTATION, **settings))
        return [one.what for one in found if one.code == "attention-unused"]

    [what] = reported(provider="unsloth", model=chosen)
    assert "eager is ignored" in what
    assert reported(provider="unsloth") == reported(model=chosen) == []


def test_a_precision_that_it_does_not_keep_is_reported() -> None:
    def reported(machine: Any = WORKSTATION, **settings: Any) -> list[str]:
        found = findings_of(make_context(machine, **settings))
        return [one.level for one in found if one.code == "provider-precision"]

    fp32 = {"hardware": {"precision": "fp32"}}
    assert reported(provider="unsloth", **fp32) == ["caution"]
    assert reported(provider="unsloth") == reported(**fp32) == []
    old = replace(WORKSTATION, gpus=[replace(CARD, compute_capability=(7, 5))])
    assert reported(old, provider="unsloth", **fp32) == []
