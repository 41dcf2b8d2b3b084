"""`modelforge chat`, with a stand-in for the chat process."""

from __future__ import annotations

import io
import json
import sys

import pytest

from modelforge.cli import main as cli
from modelforge.cli.main import main
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.actors.talks import BASE, OTHER, SHOW, TUNED
from tests.services.exports.conftest import put_model, put_trained
from tests.services.test_runs import ACTORS


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The ids of two tuned runs of one base model."""
    talks = [sys.executable, str(ACTORS / "talks.py")]
    home = Home(tmp_path / "home")
    monkeypatch.setattr(cli, "_forge", lambda _options: Forge(home, chat_process=talks))
    model = put_model(tmp_path / "tiny")
    return [put_trained(home.root, model, number).id for number in (1, 2)]


def chat(capsys, *arguments):
    code = main(["chat", *arguments])
    return code, capsys.readouterr().out


def test_one_question_is_answered(runs, capsys):
    assert chat(capsys, runs[0], "--prompt", "Hello") == (0, f"{TUNED}\n")
    assert chat(capsys, runs[0], "--prompt", "Hello", "--base") == (0, f"{BASE}\n")


def test_an_answer_of_several_lines_has_several_lines(runs, capsys):
    said = chat(capsys, runs[0], "--prompt", "Echo: one\ntwo\x1b[2J\n\nthree")
    assert said == (0, "one\ntwo\\x1b[2J\n\nthree\n")


def test_the_options_reach_the_model(runs, capsys):
    options = ["--temperature", "0.7", "--top-k", "40", "--repetition-penalty", "1.2", "--seed"]
    _, output = chat(
        capsys, runs[0], "--prompt", SHOW, *options, "43", "--system", "Be brief.", "--json"
    )
    shown = json.loads(json.loads(output)["answer"])
    wanted = {"temperature": 0.7, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.2, "seed": 43}
    assert {name: shown[name] for name in wanted} == wanted
    assert shown["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(("against", "other"), [("base", BASE), ("RUN2", OTHER)])
def test_two_models_are_asked_side_by_side(runs, capsys, against, other):
    against = runs[1] if against == "RUN2" else against
    code, output = chat(capsys, runs[0], "--against", against, "--prompt", "Hello", "--json")
    answers = json.loads(output)["answers"]
    assert (code, [each["text"] for each in answers]) == (0, [TUNED, other])
    assert answers[0]["done"]["seed"] == answers[1]["done"]["seed"] == 0
    _, output = chat(capsys, runs[0], "--against", against, "--prompt", "Hello")
    assert output.startswith(f"{runs[0]}:\n{TUNED}\n")
    assert output.endswith(f":\n{other}\n")


def test_an_error_of_one_side_is_shown_beside_the_other(runs, capsys):
    code, output = chat(capsys, runs[0], "--against", "base", "--prompt", "Fail: broken.", "--json")
    assert code == 1
    assert [each["error"]["what"] for each in json.loads(output)["answers"]] == ["broken."] * 2


def test_questions_are_read_line_by_line(runs, capsys, monkeypatch):
    lines = ["Hello", "", SHOW, "/again", "/new", SHOW]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    code, output = chat(capsys, runs[0])
    first, *shown = output.strip().split("\n")
    assert (code, first) == (0, TUNED)
    asked = [json.loads(line) for line in shown]
    questions = [[each["content"] for each in one["messages"]] for one in asked]
    assert questions == [["Hello", TUNED, SHOW]] * 2 + [[SHOW]]
    assert [one["seed"] for one in asked] == [0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--top-p", "2"], "--top-p: 2.0 is not possible."),
        (["--max-new-tokens", "0"], "--max-new-tokens: 0 is not possible."),
        (["--gpu", "3"], "There is no GPU 3."),
        (["--base", "--against", "base"], "Not allowed with"),
    ],
)
def test_what_is_not_possible_is_named(runs, capsys, arguments, what):
    assert main(["chat", runs[0], "--prompt", "x", *arguments]) == 2
    assert what in capsys.readouterr().err
