"""Start from nothing on the Train page: the dial, its curve and the cards of the new model."""

from __future__ import annotations

import re

import pytest

from modelforge.services.preflight import PreflightResult
from modelforge.services.pretraining.dial import Dial, DialPoint
from ui.pages.train import from_nothing, response
from ui.pages.train.form import Entered

SENTENCE = "The miller walked to the river and counted the stones that lay in the cold water. "


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(SENTENCE * 40 for _ in range(60)), "utf-8")
    return str(file)


def entered(dataset="", **more):
    return Entered(values={"pretraining.enabled": "true", "dataset": dataset, **more})


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_it_needs_text_and_no_model(forge, text):
    empty = response.reply(forge, entered())
    assert not empty.can_start
    assert "Choose your data first" in words(empty.parts["why"])
    reply = response.reply(forge, entered(text, **{"pretraining.depth": "2"}))
    assert reply.errors == {}
    assert reply.can_start, (words(reply.parts["why"]), words(reply.parts["problems"]))
    assert reply.values["adapter.enabled"] == "false"


def test_the_cards_tell_what_follows_from_the_depth(forge, text):
    parts = response.reply(forge, entered(text, **{"pretraining.depth": "4"})).parts
    assert words(parts["dial-depth"]) == "4"
    assert "4 layers, 256 wide, 4 heads" in words(parts["sum-shape"])
    assert "trained on your text · 8k" in words(parts["sum-tokenizer"])
    assert words(parts["dial-numbers"]).count("–") == 0, words(parts["dial-numbers"])
    assert "10.5 tokens per parameter" in words(parts["sum-horizon"])
    assert "needed: read" in words(parts["sum-data"])
    # Embedding and head of 8,192 tokens and 256 numbers each.
    assert "8k tokens 4.19 M" in words(parts["tokenizer"])


def test_steps_rule_over_tokens_per_parameter(forge, text):
    parts = response.reply(forge, entered(text, max_steps="7")).parts
    assert words(parts["sum-horizon"]) == "ruled by 7 steps"
    assert "Tokens per parameter alone would give" in words(parts["horizon-others"])
    assert "Here 7," in words(parts["horizon-steps"])


def test_other_forms_have_none_of_the_cards(forge):
    assert "dial-numbers" not in response.reply(forge, Entered()).parts


def dial(*seconds, fits=()):
    points = [
        DialPoint(depth=depth, seconds=value, fits=depth not in fits)
        for depth, value in zip((2, 4, 6), seconds, strict=True)
    ]
    return Dial(points=points)


def test_the_curve_is_logarithmic_and_marks_what_does_not_fit():
    html = str(from_nothing.curve(dial(10.0, 100.0, 1000.0, fits=(6,)), PreflightResult()))
    tops = [float(top) for _, top in re.findall(r"[ML]([\d.]+) ([\d.]+)", html.split("line")[1])]
    assert tops[0] - tops[1] == pytest.approx(tops[1] - tops[2], abs=0.02)
    assert "does not fit" in html
    assert "depth 4 takes about 2 min" in html
    assert "from depth 6 on it does not fit into memory" in html


def test_without_times_there_is_a_hint():
    assert "appears once there is text" in from_nothing.curve(
        dial(None, None, None), PreflightResult()
    )
