"""Start from nothing on the Train page: the dial, its curve and the cards of the new model."""

from __future__ import annotations

import re
from html import unescape
from types import SimpleNamespace

import pytest

from modelforge.preflight.report import Report
from modelforge.services.preflight import PreflightResult
from modelforge.services.pretraining.dial import Dial, DialPoint
from ui.pages.train import response
from ui.pages.train.form import Entered
from ui.pages.train.new_model import from_nothing

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
    assert "8k tokens suggested 3.7 4.19 M" in words(parts["tokenizer"])


def test_steps_rule_over_tokens_per_parameter(forge, text):
    parts = response.reply(forge, entered(text, max_steps="7")).parts
    assert words(parts["sum-horizon"]) == "7 steps"
    assert "Tokens per parameter alone would give" in words(parts["horizon-others"])
    rules = [words(parts[f"rules-{end}"]) for end in ("steps", "flops", "ratio")]
    assert rules == ["this one rules", "follows", "overruled"]
    assert 'data-follows="7"' in parts["horizon-steps"]


def test_the_dial_has_numbers_before_there_is_text(forge):
    parts = response.reply(forge, entered(**{"pretraining.depth": "4"})).parts
    assert words(parts["dial-numbers"]).count("–") == 0, words(parts["dial-numbers"])
    assert "At depth 4 the training reads" in words(parts["text-wanted"])
    assert "read 4 times" in words(parts["text-wanted"])
    assert words(parts["sum-data"]) == "not chosen yet"


def test_each_source_has_its_tokens_and_share(forge, tmp_path, text):
    other = tmp_path / "notes"
    other.mkdir()
    for name in ("a.txt", "b.md"):
        (other / name).write_text("\n\n".join(SENTENCE * 10 for _ in range(30)), "utf-8")
    sources = [{"path": text}, {"path": str(other)}]
    parts = response.reply(forge, entered(text, **{"data.sources": sources})).parts
    html = words(parts["sources"])
    assert "text.txt txt" in html
    assert "notes folder · 2 files · md and txt" in html
    assert "80 %" in html
    assert "20 %" in html
    assert parts["sources"].count("Remove notes") == 1


def test_the_tokenizers_cost_weights_and_save_tokens(forge, text):
    html = response.reply(forge, entered(text)).parts["tokenizer"]
    assert re.search(r"8k tokens suggested 3\.7 \S+ M \d+ %", words(html)), words(html)
    reply = response.reply(forge, entered(text, **{"pretraining.vocab_size": "4096"}))
    assert reply.values["vocabulary"] == "4096"
    assert "checked" in re.search(r'<input[^>]*value="4096"[^>]*>', reply.parts["tokenizer"])[0]


def test_the_settings_leave_out_what_the_cards_ask(forge, text):
    hidden = set(response.reply(forge, entered(text)).hidden)
    assert {"pretraining.depth", "max_steps", "num_train_epochs"} <= hidden
    assert "pretraining.depth" in response.reply(forge, Entered()).hidden
    assert "num_train_epochs" not in response.reply(forge, Entered()).hidden


def test_cards_are_no_changes_of_settings(forge, text):
    parts = response.reply(forge, entered(text, **{"pretraining.depth": "3"})).parts
    assert "changed by you" not in words(parts["sum-settings"])


@pytest.mark.parametrize(
    ("values", "card", "text_of"),
    [
        ({"pretraining.depth": "500"}, "pretraining.depth", "from 1 to 200"),
        ({"pretraining.vocab_size": "2000000"}, "pretraining.vocab_size", "from 260 to 1048576"),
        ({"pretraining.depth": ""}, "pretraining.depth", "A value is required"),
        ({"max_steps": "x"}, "max_steps", "is not a number"),
        ({"pretraining.tokenizer": "no/one"}, "pretraining.tokenizer", "on this computer"),
    ],
)
def test_a_wrong_value_is_named_alone(forge, text, values, card, text_of):
    reply = response.reply(forge, entered(text, **values))
    assert not reply.can_start
    assert list(reply.errors) == [card], reply.errors
    assert text_of in reply.errors[card]
    assert "train" in words(reply.parts["sum-data"]) or "text.txt" in words(reply.parts["sum-data"])


def test_text_that_cannot_be_used_is_named(forge, tmp_path):
    (tmp_path / "pictures").mkdir()
    reply = response.reply(forge, entered(str(tmp_path / "pictures")))
    assert "has no data files" in reply.errors["dataset"]
    assert reply.cards["data"] == "wrong"
    short = tmp_path / "short.txt"
    short.write_text("Hello there.", "utf-8")
    reply = response.reply(forge, entered(str(short)))
    assert "one context of" in words(reply.parts["why"])
    assert reply.cards["data"] == "wrong"
    assert "too short: about 4 tokens" in words(reply.parts["sum-data"])


def test_a_wrong_folder_of_core_is_not_about_the_text(forge, tmp_path, text):
    reply = response.reply(forge, entered(text, **{"evaluation.core_bundle": str(tmp_path)}))
    assert "core.yaml" in reply.errors["evaluation.core_bundle"]
    assert reply.cards["data"] == "done"


def test_the_plan_offers_core_until_its_folder_is_given(forge, text):
    plan = response.reply(forge, entered(text)).parts["plan"]
    assert "Turn on" in plan
    assert "Passes over the text" in words(plan)
    assert "Epochs" not in words(plan)
    assert "Turn on" not in response.reply(forge, Entered(values={"dataset": text})).parts["plan"]


def test_the_command_is_that_of_pretraining(forge, text):
    command = words(response.reply(forge, entered(text)).parts["command"])
    assert command.startswith("modelforge pretrain ")
    assert text in command


def test_python_brings_text_to_train_on(forge):
    functions = {each.__name__: each for each in from_nothing.functions(forge)}
    dataset = functions["use_python_text"](None).dataset
    reply = response.reply(forge, entered(dataset, **{"pretraining.depth": "2"}))
    assert reply.can_start, words(reply.parts["why"])
    assert reply.data.rows > 0


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


def test_a_measured_time_on_a_gpu_comes_with_its_share_of_the_peak():
    gpu = SimpleNamespace(name="NVIDIA GeForce RTX 4070")
    checked = SimpleNamespace(
        report=Report(flops=58.3e12 * 0.31 * 100, seconds=100.0, seconds_basis="trial_run"),
        plan=SimpleNamespace(device="cuda"),
        machine=SimpleNamespace(gpus=[gpu]),
        resolved=SimpleNamespace(config=SimpleNamespace(pretraining=SimpleNamespace(depth=4))),
    )
    assert "31 % of the GPU's peak (MFU)" in unescape(from_nothing._help(dial(1, 2, 3), checked))
    checked.report = Report(flops=1e12, seconds=100.0, seconds_basis="estimated")
    assert "MFU" not in from_nothing._help(dial(1, 2, 3), checked)
