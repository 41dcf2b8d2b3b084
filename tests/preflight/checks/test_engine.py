"""Where Surogate cannot run, and what it does not read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.engines import VARIABLE
from modelforge.preflight.checks import engine
from tests.preflight.contexts import CARD, LAPTOP, WORKSTATION, findings_of, make_context

ENGINE = {"hardware": {"engine": "surogate"}}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.platform, "machine", lambda: "x86_64")
    program = tmp_path / "surogate"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(program))
    return program


def found(context, code):
    return [finding for finding in findings_of(context) if finding.code == code]


def test_a_run_on_an_installed_engine_is_not_refused(installed):
    context = make_context(WORKSTATION, **ENGINE)
    assert not found(context, "engine-missing")
    assert not found(context, "engine-unsupported")
    assert found(context, "engine-estimates")
    assert not found(make_context(WORKSTATION), "engine-estimates")


def test_an_engine_that_is_not_installed_blocks_with_the_way_to_it(installed):
    installed.unlink()
    (finding,) = found(make_context(WORKSTATION, **ENGINE), "engine-missing")
    assert finding.level == "blocker"
    assert (finding.where, finding.suggested) == ("hardware.engine", "inprocess")
    assert VARIABLE in finding.remedy


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (LAPTOP, "NVIDIA GPU"),
        (replace(WORKSTATION, system="Windows 11"), "Linux on x86-64"),
        (replace(WORKSTATION, gpus=[replace(CARD, compute_capability=(7, 5))]), "7.5"),
    ],
)
def test_a_machine_that_it_does_not_run_on_is_refused_before_its_installation(
    installed, machine, words
):
    (finding,) = found(make_context(machine, **ENGINE), "engine-unsupported")
    assert finding.level == "blocker"
    assert words in finding.what


def test_the_plan_names_the_settings_that_it_does_not_read(installed):
    more = {"adapter": {"use_dora": True}, "evaluation": {"loss_guard": True}}
    context = make_context(WORKSTATION, **ENGINE, **more)
    unread = {change.where: change for change in context.plan.changes if change.used is None}
    assert {"adapter.use_dora", "evaluation.loss_guard", "evaluation.keep_best"} <= set(unread)
    assert "DoRA" in unread["adapter.use_dora"].reason
    texts = [finding.what for finding in found(context, "plan-changed")]
    assert any(text.startswith("The value on is not used. Surogate does not") for text in texts)
    own = make_context(WORKSTATION, **more)
    assert not any("Surogate" in change.reason for change in own.plan.changes)
