"""`modelforge targets`, at the terminal."""

from __future__ import annotations

import json

from modelforge.cli.main import main


def test_targets_are_added_listed_and_removed(tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]
    assert main(["targets", "list", *home]) == 0
    assert "modelforge targets add NAME ssh:HOST" in capsys.readouterr().out
    add = ["targets", "add", "grid", "slurm:gpu/shared/forge", "--no-check", *home]
    assert main([*add, "--slots", "4", "--option", "gres=gpu:1"]) == 0
    assert "modelforge targets check grid" in capsys.readouterr().out
    assert main(["targets", "list", "--json", *home]) == 0
    (target,) = json.loads(capsys.readouterr().out)
    assert target["options"] == {"gres": "gpu:1"}
    assert (target["kind"], target["address"]) == ("slurm", "gpu/shared/forge")
    assert main(add) == 2
    assert "There is a target 'grid' already" in capsys.readouterr().err
    assert main(["targets", "remove", "grid", *home]) == 0
    assert main(["targets", "remove", "grid", *home]) == 2


def test_a_check_names_what_hinders_it(tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]
    assert main(["targets", "add", "box", "ssh:127.0.0.1:1", *home]) == 1
    shown = capsys.readouterr().out
    assert "127.0.0.1 does not answer" in shown
    assert "is ready" not in shown


def test_an_option_needs_a_value_and_is_one_of_its_kind(tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]
    add = ["targets", "add", "box", "ssh:server", "--no-check", *home, "--option"]
    assert main([*add, "python"]) == 2
    assert "Write NAME=VALUE" in capsys.readouterr().err
    assert main([*add, "password=secret"]) == 2
    assert "'password' is not an option of ssh" in capsys.readouterr().err
    assert not (tmp_path / "home" / "targets.json").exists()
