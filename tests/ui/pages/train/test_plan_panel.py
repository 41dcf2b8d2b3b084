"""The plan panel: cautions that the user keeps, the queue, and the number of checks per change."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from modelforge.errors import Finding
from ui.pages.train import response
from ui.pages.train.form import Entered

DATA = {"dataset": "sample:captain"}


@pytest.fixture
def answer(forge, model):
    """Return the reply to values of the user."""

    def reply(kept=(), is_opening=False, **values):
        entered = Entered(
            show_models=False, values={"model_name": str(model)} | values, kept=frozenset(kept)
        )
        return response.reply(forge, entered, is_opening=is_opening)

    return reply


def keys_of(reply):
    return re.findall(r'data-action="keep" data-key="([^"]+)"', reply.parts["cautions"])


def test_a_caution_that_is_kept_is_hidden_for_this_value_only(answer):
    high = DATA | {"learning_rate": "0.5"}
    reply = answer(**high)
    (key,) = (key for key in keys_of(reply) if "learning_rate" in key)
    assert ">Keep 0.5<" in reply.parts["cautions"]
    kept = answer(kept=[key], **high)
    assert kept.cautions == reply.cautions - 1
    assert key not in keys_of(kept)
    assert "1 caution kept." in kept.parts["cautions"]
    other = answer(kept=[key], **DATA | {"learning_rate": "0.4"})
    assert other.cautions == reply.cautions
    assert "kept." not in other.parts["cautions"]


def test_a_blocker_cannot_be_kept_and_closes_the_queue_with_its_reason(answer):
    reply = answer(**DATA | {"strategy": "dpo"})
    assert not reply.can_start
    assert not reply.can_queue
    assert reply.parts["why"]
    assert reply.cautions
    assert not any("wrong-kind" in key for key in keys_of(reply))


def test_the_queue_takes_a_run_that_is_blocked_at_the_moment_only(answer, forge, monkeypatch):
    check = forge.preflight.check

    def check_in_use(*layers, idle=False):
        checked = check(*layers, idle=True)
        if idle:
            return checked
        blocker = Finding("blocker", "memory-short", "Another program uses the memory.", "Wait.")
        return replace(checked, report=replace(checked.report, findings=[blocker]))

    monkeypatch.setattr(forge.preflight, "check", check_in_use)
    reply = answer(**DATA)
    assert not reply.can_start
    assert reply.can_queue


def test_the_form_has_one_control_for_precision(answer):
    plain = answer(**DATA)
    assert {"fp16", "bf16"} <= set(plain.hidden)
    assert "hardware.precision" not in plain.hidden
    half = answer(**DATA | {"bf16": "true"})
    assert "bf16" not in half.hidden
    assert {"fp16", "hardware.precision"} <= set(half.hidden)
    both = answer(**DATA | {"bf16": "true", "fp16": "true"})
    assert not {"fp16", "bf16"} & set(both.hidden)


def test_the_control_of_the_weights_shows_origin_and_errors_of_its_settings(answer):
    plain = answer(**DATA)
    assert plain.values["quantization.scheme"] == "none", "this machine has no GPU"
    mine = {"quantization.scheme": "auto", "use_8bit": "true", "use_4bit": "false"}
    own = answer(**DATA | mine)
    assert own.values["quantization.scheme"] == "bnb-8bit"
    assert {own.origins[name] for name in mine} == {"you"}
    assert "1 changed by you" in own.parts["sum-settings"]
    assert "use_8bit: true" in own.parts["recipe"]
    wrong = answer(**DATA | {"use_8bit": "perhaps"})
    assert "use_8bit" in wrong.errors
    assert "use_8bit" not in wrong.hidden
    whole = answer(**DATA | mine | {"adapter.enabled": "false"})
    assert {"quantization.scheme", *mine} <= set(whole.hidden)


def test_a_change_of_the_form_makes_one_check(answer, forge, monkeypatch):
    calls = Counter()
    check = forge.preflight.check

    def count(*layers, **options):
        calls["check"] += 1
        return check(*layers, **options)

    monkeypatch.setattr(forge.preflight, "check", count)
    assert "intro" in answer(is_opening=True).parts
    assert calls.pop("check") == 2, "the form, and the time of the sample in the welcome"
    assert "intro" not in answer(lora_r="16").parts
    assert calls.pop("check") == 1
    assert "intro" in answer(**DATA).parts
    assert calls.pop("check") == 1


def test_the_stages_of_a_growing_model_have_what_they_train_memory_and_time(answer):
    group = {"progressive.enabled": "true", "progressive.joint_tuning_steps": "4"}
    text = re.sub(r"<[^>]+>", " ", str(answer(**DATA | group).parts["plan"]))
    words = " ".join(text.split())
    assert "3 stages Stack 1 of 2 1 new layer, " in words
    assert "All layers together all layers, " in words
    assert "stages" not in str(answer(**DATA).parts["plan"])
