"""The trial run in the plan panel."""

from __future__ import annotations

from modelforge.config.resolve import Layer
from tests.services.test_trial_runs import opened, over
from ui.pages.train.plan_panel import cautions, plan
from ui.pages.train.trial_run import state


def shown(forge, layer):
    return str(state(forge, forge.preflight.check(layer)))


def test_a_failure_is_shown_again_with_the_same_settings_only(tmp_path, settings):
    forge = opened(tmp_path / "home", "fails")
    layer = Layer("body", settings)
    assert not shown(forge, layer)
    over(forge, forge.trial_runs.start(layer))
    forge.close()
    # Like a page that is loaded again from another server.
    other = opened(tmp_path / "home", "fails")
    assert "find" in shown(other, layer)
    assert not shown(other, Layer("body", settings | {"lora_r": 8}))
    other.close()


def test_measured_values_are_not_repeated(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    forge = opened(tmp_path / "home")
    layer = Layer("body", settings)
    over(forge, forge.trial_runs.start(layer))
    assert not shown(forge, layer)
    forge.close()


def test_the_verdict_on_the_reward_is_shown_with_the_plan(tmp_path, rlhf, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    forge = opened(tmp_path / "home")
    layer = Layer("body", rlhf)
    assert "Reward trial" not in plan(forge.preflight.check(layer))
    over(forge, forge.trial_runs.start(layer))
    checked = forge.preflight.check(layer)
    panel = plan(checked)
    assert '<span class="chip warn">cheatable</span>' in panel
    assert panel.count("One word, repeated, gets 1.00; others get 0.87.") == 1
    assert "38 %, 95 % interval 26 to 50 %" in panel
    for text in ("24 of 64", "Expected answers", "0.95", "One word repeated", "Prompt copied"):
        assert text in panel
    # The panel has it already, so no caution repeats it.
    assert not [each for each in cautions(checked, {}) if each.code.startswith("reward-")]
    forge.close()
