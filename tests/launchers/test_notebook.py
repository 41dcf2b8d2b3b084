"""A notebook: what is inside, what is refused, and that its cells are programs."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError, NotFoundError
from modelforge.forge import Forge
from modelforge.launchers import notebook as notebooks
from modelforge.launchers.paths_there import HERE
from modelforge.paths import Home
from tests.models.folders import write_model


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(Home(tmp_path / "home"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "my model")


@pytest.fixture
def settings(model: Path, tmp_path: Path) -> dict[str, Any]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "Who?", "output": "A secret bird."}\n' * 20, "utf-8")
    return {"task": "text-generation", "strategy": "sft", "model_name": str(model),
            "dataset": str(rows), "max_steps": 3}  # fmt: skip


def made(forge: Forge, settings: dict[str, Any], name: str = "") -> notebooks.Notebook:
    machine = Layer("this machine", {"compute_specs": "low_end"})
    own = Layer("recipe", settings)
    return forge.notebooks.make([machine, own], [own], name)


def sources(notebook: notebooks.Notebook, kind: str = "code") -> list[str]:
    cells = json.loads(notebook.text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def payload(notebook: notebooks.Notebook) -> zipfile.ZipFile:
    parts = re.findall(r'PARTS\.append\("([^"]+)"\)', "\n".join(sources(notebook)))
    return zipfile.ZipFile(io.BytesIO(base64.b64decode("".join(parts))))


def test_code_recipe_model_and_data_are_inside(forge, settings):
    archive = payload(made(forge, settings))
    names = archive.namelist()
    recipe = json.loads(archive.read("recipe.json"))
    assert any(re.fullmatch(r"code/modelforge_app-.*\.whl", name) for name in names)
    assert "torch==" in archive.read("code/pins.txt").decode()
    data = recipe["dataset"].removeprefix(f"{HERE}/")
    assert archive.read(data).decode().startswith('{"input": "Who?"')
    folder = recipe["model_name"].removeprefix(f"{HERE}/")
    assert f"{folder}/config.json" in names
    assert recipe["max_steps"] == 3
    assert "compute_specs" not in recipe, "it is planned for the hardware there"


def test_a_setting_of_the_user_is_kept_also_if_it_is_of_this_machine(forge, settings):
    recipe = json.loads(
        payload(made(forge, settings | {"compute_specs": "low_end"})).read("recipe.json")
    )
    assert recipe["compute_specs"] == "low_end"


def test_no_path_of_this_computer_is_inside(forge, settings, tmp_path):
    notebook = made(forge, settings)
    assert str(tmp_path) not in notebook.text
    archive = payload(notebook)
    for name in archive.namelist():
        if not name.endswith(".whl"):
            assert str(tmp_path).encode() not in archive.read(name), name


@pytest.mark.parametrize("ends", ["", "```", "```python\n1 +\n```\n{{ payload }}"])
def test_every_cell_is_a_program_and_small(forge, settings, ends):
    name = f'It\'s "a" `name` {{% x %}} $y <b>\nz {ends}'
    notebook = made(forge, settings, name)
    for source in sources(notebook):
        ast.parse(source)
        assert len(source) < notebooks.CELL_CHARS + 200
    (text, *_rest) = sources(notebook, "markdown")
    assert "\\<b\\>" in text
    train = next(source for source in sources(notebook) if source.startswith("#@title Train"))
    assert f'"--name", {name!r})' in train


def test_a_sample_and_the_starter_take_no_space(forge, settings, home_with_starter):
    forge = Forge(Home(home_with_starter))
    named = {"model_name": "starter", "dataset": "sample:captain"}
    notebook = made(forge, settings | named)
    recipe = json.loads(payload(notebook).read("recipe.json"))
    assert recipe["model_name"] == "starter"
    assert recipe["dataset"] == "sample:captain"
    assert set(notebook.sizes) == {"code"}
    assert notebook.downloads == ["starter"]
    install = next(s for s in sources(notebook) if s.startswith("#@title Install"))
    assert "convert_starter" in install


def test_an_upload_and_a_folder_of_data_go_along(forge, settings, tmp_path):
    upload = forge.home.uploads / "mine.jsonl"
    upload.parent.mkdir(parents=True)
    upload.write_text('{"input": "a", "output": "b"}\n' * 9, "utf-8")
    folder = tmp_path / "texts"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n' * 9, "utf-8")
    rest = {name: value for name, value in settings.items() if name != "dataset"}
    given = [{"path": "mine.jsonl"}, {"path": str(folder)}]
    rest |= {"dataset": "mine.jsonl", "data": {"sources": given}}
    archive = payload(made(forge, rest))
    recipe = json.loads(archive.read("recipe.json"))
    first, second = (
        source["path"].removeprefix(f"{HERE}/") for source in recipe["data"]["sources"]
    )
    assert archive.read(first)
    assert archive.read(f"{second}/inner/rows.jsonl")


def test_too_much_data_is_refused_with_its_size_and_the_bound(forge, settings, monkeypatch):
    monkeypatch.setattr(notebooks, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"code .* MiB.*of at most 1,000 B") as refused:
        made(forge, settings)
    assert "Hub" in refused.value.problems[0].remedy


def test_missing_data_is_named(forge, settings):
    with pytest.raises(NotFoundError):
        made(forge, settings | {"dataset": "/no/such/rows.jsonl"})


def test_each_notebook_has_a_request_of_its_own(forge, settings):
    ids = {
        re.search(r'"--request-id", "(\w+)"', made(forge, settings).text.replace('\\"', '"'))[1]
        for _ in range(2)
    }
    assert len(ids) == 2


def test_files_that_a_run_would_write_here_are_left_out(forge, settings):
    more = {"logging": {"log_file": "/somewhere/here.log"}}
    recipe = json.loads(payload(made(forge, settings | more)).read("recipe.json"))
    assert "log_file" not in recipe.get("logging", {})
