"""Wrong commands, options, files and folders: where, what and remedy, also as JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelforge.cli import parsing
from modelforge.cli.main import _parser, main
from tests.runs.homes import put_run
from ui.__main__ import main as open_app


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("trian recipe.yaml", "trian is not a command of modelforge. Did you mean train?"),
        ("runs lst", "lst is not a command of modelforge runs. Did you mean list?"),
        ("queue ad r.yaml", "ad is not a command of modelforge queue. Did you mean add?"),
        ("data chek rows", "chek is not a command of modelforge data. Did you mean check?"),
        ("check r --trase", "--trase is not an option of modelforge check. Did you mean --trace?"),
        ("runs list --qury=a", "--qury is not an option of modelforge runs list. Did you mean --q"),
        ("runs list extra", "extra is not an argument of modelforge runs list."),
        ("train", "recipe: No recipe and no settings are given. Give a recipe file, or"),
        ("", "modelforge: Missing: COMMAND."),
        ("data inspect f --rows many", "--rows: 'many' is not a number from 1 to 1000."),
        ("runs list --limit many", "--limit: 'many' is not a whole number."),
        ("runs list --limit", "--limit: Expected one argument."),
        ("queue settings --after-failure x", "--after-failure: 'x' is not a value of this option."),
        ("runs continue a --epochs 1 --steps 1", "--steps: Not allowed with argument --epochs."),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_with_a_remedy(home, arguments, text, capsys):
    assert main(arguments.split()) == 2
    output = capsys.readouterr()
    assert text in output.err
    assert output.out == ""
    assert main([*arguments.split(), "--json"]) == 2
    output = capsys.readouterr()
    for problem in json.loads(output.out)["problems"]:
        assert all(problem.values())
    assert output.err == ""


@pytest.mark.skipif(os.name == "nt", reason="a file of Unix")
@pytest.mark.parametrize(
    "arguments",
    ["runs list", "init", "check recipe.yaml", "doctor", "data inspect sample:captain", "demo"],
)
def test_a_home_that_cannot_be_made_is_an_error(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("task: text-generation\n", "utf-8")
    assert main([*arguments.split(), "--home", "/dev/null/x"]) == 2
    text = "--home: /dev/null/x cannot be used as the home folder: Not a directory."
    assert text in capsys.readouterr().err
    assert main([*arguments.split(), "--home", "/dev/null/x", "--json"]) == 2
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert problem["where"] == "--home"


@pytest.mark.skipif(os.name == "nt", reason="links and users of Unix")
@pytest.mark.parametrize(
    ("home", "reason"),
    [
        ("loop", "Symlink loop from"),
        ("~nosuchuser/x", "Could not determine home directory."),
        ("x" * 5000, "File name too long."),
        ("file", "File exists."),
        ("file/x", "Not a directory."),
        ("zero\0byte", "embedded null byte."),
    ],
)
def test_a_home_that_names_no_folder_is_an_error(home, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for command in ("runs list", "schema", "init"):
        assert main([*command.split(), "--home", home]) == 2
        error = capsys.readouterr().err
        assert "cannot be used as the home folder: " in error
        assert reason in error
        assert "Choose another with --home or MODELFORGE_HOME." in error
        assert len(error) < 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.skipif(os.name == "nt", reason="links and users of Unix")
@pytest.mark.parametrize("file", ["~nosuchuser/x", "x" * 5000, "loop", "a/" * 2000])
@pytest.mark.parametrize("command", ["inspect", "check", "repair", "tokens", "check --against"])
def test_data_with_an_odd_name_is_not_found(home, command, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "rows.jsonl").write_text('{"input": "a?", "output": "b"}\n', "utf-8")
    before, option, after = command.partition(" ")
    rest = ["rows.jsonl", after, file] if option else [file]
    assert main(["data", before, *rest]) == 2
    error = capsys.readouterr().err
    assert error.strip()
    assert "The command failed" not in error
    assert not (home / "logs" / "command.log").exists()


@pytest.mark.skipif(os.name == "nt", reason="links of Unix")
def test_a_new_recipe_is_not_written_through_a_link(home, tmp_path, capsys):
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "elsewhere.yaml")
    assert main(["init", str(link)]) == 2
    assert "The file exists. Choose another name, or delete the file." in capsys.readouterr().err
    assert not (tmp_path / "elsewhere.yaml").exists()
    assert main(["init", str(tmp_path / "a\x1b[2Jb.yaml")]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["init", "{}"], ["runs", "compare", "*", "--csv", "{}"]])
def test_a_file_that_cannot_be_written_is_an_error(home, tmp_path, arguments, capsys):
    runs = [put_run(home, number, name="x").id for number in (1, 2)]
    target = str(tmp_path / "absent" / "file")
    filled = [run for text in arguments for run in (runs if text == "*" else [text.format(target)])]
    assert main(filled) == 2
    assert f"{target}: The file cannot be written: No such file" in capsys.readouterr().err


def test_a_run_is_deleted_only_when_the_user_agrees(home, monkeypatch, capsys):
    run_id = put_run(home, 1, name="Cook").id
    assert main(["runs", "delete", run_id]) == 2  # no terminal
    assert "Nothing was deleted. Add --yes." in capsys.readouterr().err
    assert main(["runs", "delete", run_id, "--json"]) == 2
    asked = []
    monkeypatch.setattr("modelforge.cli.parsing.confirm", lambda text: asked.append(text) or False)
    assert main(["runs", "delete", run_id]) == 2
    assert asked == [f"Delete Cook ({run_id}) with all files?"]
    assert (home / "runs" / run_id).exists()
    assert main(["runs", "delete", run_id, "--yes"]) == 0
    assert not (home / "runs" / run_id).exists()


@pytest.mark.parametrize(("answer", "agrees"), [("y\n", True), ("YES\n", True), ("\n", False)])
def test_a_question_is_asked_at_a_terminal_alone(answer, agrees, monkeypatch, capsys):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return answer

    assert parsing.confirm("Sure?") is False  # pytest's stdin is no terminal
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert parsing.confirm("Sure?") is agrees
    assert "Sure? [y/N]" in capsys.readouterr().err


def test_an_interrupted_command_says_only_that(home, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("modelforge.cli.main._check", interrupt)
    assert main(["check", "recipe.yaml"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


@pytest.mark.skipif(os.name == "nt", reason="a signal of Unix")
def test_an_interrupt_while_modules_are_imported_has_no_traceback():
    code = "import sys, types, signal, os\n"
    # A shell ignores the signal for what it starts in the background.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "class Finder:\n  def find_spec(self, name, *_):\n"
    code += "    if name == 'modelforge.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.meta_path.insert(0, Finder())\nsys.argv = ['modelforge', 'schema']\n"
    code += "import runpy; runpy.run_module('modelforge', run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (128 + signal.SIGINT, "")


def commands(parser, name=""):
    """Yield every command with its parser, and `modelforge` itself."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from commands(inner, f"{name} {word}".strip())


def test_every_option_and_argument_has_help():
    found = dict(commands(_parser()))
    assert {"", "check", "runs delete", "data tokens", "storage download"} <= found.keys()
    missing = [
        (name, action.dest)
        for name, parser in found.items()
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert not missing


def test_the_help_of_every_command_names_the_exit_codes():
    for name, parser in commands(_parser()):
        is_command = "act" in parser._defaults
        assert not is_command or "130 interrupted" in parser.format_help(), name
    assert "130 interrupted" in _parser().format_help()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ZeroDivisionError("x"), "modelforge: The command failed with ZeroDivisionError."),
        (OSError(28, "No space left on device", "/data/x"),
         "modelforge: The command failed: /data/x: No space left on device."),
    ],
)  # fmt: skip
def test_an_unexpected_error_is_a_sentence_and_its_traceback_is_in_a_log(
    home, error, text, monkeypatch, capsys
):
    def fail(*_):
        raise error

    monkeypatch.setattr("modelforge.cli.main._schema", fail)
    assert main(["schema"]) == 1
    log = home / "logs" / "command.log"
    output = capsys.readouterr()
    assert output.err == f"{text} The traceback is in {log}.\n"
    assert "Traceback" in log.read_text("utf-8")
    assert main(["schema", "--json", "--home", str(home / "other")]) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert str(home / "other" / "logs") in problem["remedy"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_cannot_be_written_is_an_error(home):
    command = [sys.executable, "-m", "modelforge", "schema"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert "No space left on device." in run.stderr
    assert "Traceback (" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--listen"], "--listen: It opens the app to the network, which needs a password."),
        (["--port", "99999"], "port: 99999 cannot be used"),
        (["--prot", "1"], "--prot is not an option of modelforge ui. Did you mean --port?"),
        (["--home", "/dev/null/x"], "--home: /dev/null/x cannot be used as the home folder"),
    ],
)
def test_the_app_says_on_stderr_why_it_does_not_start(arguments, text, monkeypatch, capsys):
    monkeypatch.delenv("MODELFORGE_PASSWORD", raising=False)
    assert open_app(arguments) == 2
    output = capsys.readouterr()
    assert text in output.err
    assert output.out == ""
