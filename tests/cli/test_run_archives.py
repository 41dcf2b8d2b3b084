"""`modelforge runs pack|import`, `train --on notebook:` and `train --request-id`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelforge.cli.main import main
from modelforge.runs.layout import RunFolder
from tests.runs.homes import put_run
from tests.services.exports.test_run_archives import rewritten


@pytest.fixture
def there(tmp_path: Path) -> RunFolder:
    """A run in the home of another computer, on the sample of the starter."""
    run = put_run(tmp_path / "there", 1, name="Cook")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n", "utf-8")
    record = json.loads(run.config.read_text("utf-8"))
    record["dataset"]["path"] = str(rows)
    run.config.write_text(json.dumps(record), "utf-8")
    return run


def test_a_run_goes_from_one_home_to_another(there, tmp_path, capsys):
    file = tmp_path / "cook.zip"
    assert main(["runs", "pack", there.id, str(file), "--home", str(tmp_path / "there")]) == 0
    assert "cook.zip: written" in capsys.readouterr().out
    home = ["--home", str(tmp_path / "here")]
    assert main(["runs", "import", str(file), *home]) == 0
    assert "Cook" in capsys.readouterr().out
    assert main(["runs", "list", "--json", *home]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["id"], run["state"]) == (there.id, "finished")
    assert main(["runs", "import", str(file), *home]) == 2
    assert "is here already" in capsys.readouterr().err


def test_a_damaged_file_is_refused(there, tmp_path, capsys):
    file = tmp_path / "cook.zip"
    main(["runs", "pack", there.id, str(file), "--home", str(tmp_path / "there")])
    changed = rewritten(file, lambda new: new.writestr("../evil", "x"))
    assert main(["runs", "import", str(changed), "--home", str(tmp_path / "here")]) == 2
    assert "leaves the folder" in capsys.readouterr().err
    assert main(["runs", "import", "/no/file.zip", "--home", str(tmp_path / "here")]) == 2


def test_a_notebook_is_written_once_and_only_as_a_notebook(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    file = tmp_path / "birds.ipynb"
    call = ["train", recipe, "--set", "strategy=sft", "--name", "Birds", "--on"]
    assert main([*call, f"notebook:{file}"]) == 0
    assert "birds.ipynb: written" in capsys.readouterr().out
    assert json.loads(file.read_text("utf-8"))["nbformat"] == 4
    assert main([*call, f"notebook:{file}"]) == 2
    assert "The file exists" in capsys.readouterr().err
    assert main([*call, "notebook:birds.txt"]) == 2
    assert "not the name of a notebook" in capsys.readouterr().err
    assert not (tmp_path / "home" / "runs").exists(), "nothing is trained here"
