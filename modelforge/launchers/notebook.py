"""A notebook for Colab or Kaggle that trains a recipe: our code, the recipe and its data inside."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from modelforge.errors import ConfigError, Problem
from modelforge.launchers.paths_there import HERE, replace_strings
from modelforge.launchers.wheel import Code
from modelforge.paths import resource_folder
from modelforge.setup.stages import STARTER
from modelforge.units import KIB, MIB, human_bytes

# The largest payload: Colab and Kaggle open larger notebooks slowly, or refuse them.
MAX_BYTES = 20 * MIB
# Base64 of one cell. The length is a multiple of 4, so that each cell ends with whole bytes.
CELL_CHARS = 512 * KIB
TEMPLATE = "notebook.md"
PAYLOAD = "{{ payload }}"
_CODE = re.compile(r"```python\n(.*?)```\n?", re.DOTALL)
_LARGEST_SHOWN = 3


@dataclass(frozen=True)
class NotebookContent:
    """What a notebook trains.

    Attributes:
        settings: Settings of the recipe; a path of this computer is the key of one of `files`.
        files: Path of this computer, of a file or a folder that goes into the notebook.
        fetches: Arguments of `modelforge` for each download before the training.
        request_id: Makes a second run of all cells continue the run of the first.
        model, data: What is trained and on what, for its reader.
        downloads: Names of what is downloaded there, for its reader.
    """

    settings: Mapping[str, Any]
    files: Sequence[Path]
    request_id: str
    model: str
    data: str
    name: str = ""
    fetches: Sequence[Sequence[str]] = ()
    downloads: Sequence[str] = ()
    needs_starter: bool = False


@dataclass(frozen=True)
class Notebook:
    """A notebook as the text of its file.

    Attributes:
        text: JSON in format 4.5.
        sizes: Bytes of each part of what is inside, as compressed, by name.
        downloads: What is downloaded where it runs.
    """

    text: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    downloads: Sequence[str] = ()


def make_notebook(content: NotebookContent, code: Code) -> Notebook:
    """Return a notebook; raises ConfigError if what it needs is too much for one."""
    payload, sizes = _payload(content, code)
    size = sum(sizes.values())
    if size > MAX_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST_SHOWN]
        listed = ", ".join(f"{name} {human_bytes(sizes[name])}" for name in largest)
        what = f"It would hold {human_bytes(size)} ({listed}), of at most {human_bytes(MAX_BYTES)}."
        remedy = "Use a dataset or a model of the Hub, which is downloaded there, or less data."
        raise ConfigError(Problem("notebook", what, remedy))
    cells = list(_cells(content, payload, size))
    metadata = {
        "accelerator": "GPU",
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    return Notebook(text, sizes, content.downloads)


def _payload(content: NotebookContent, code: Code) -> tuple[bytes, dict[str, int]]:
    """Return a zip of code, recipe and files, and the compressed bytes of each part."""
    names = {str(path): f"files/{number}/{path.name}" for number, path in enumerate(content.files)}

    def there(text: str) -> str:
        return f"{HERE}/{names[text]}" if text in names else text

    recipe = json.dumps(replace_strings(content.settings, there), ensure_ascii=False, indent=1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(code.wheel, f"code/{code.wheel.name}")
        archive.writestr("code/requirements.txt", "\n".join([*code.requirements, ""]))
        archive.writestr("code/pins.txt", "\n".join([*code.pins, ""]))
        archive.writestr("recipe.json", recipe)
        for path in content.files:
            for file, inside in _files(path):
                archive.write(file, "/".join(filter(None, [names[str(path)], inside])))
        sizes: dict[str, int] = {}
        for member in archive.infolist():
            part = member.filename.split("/")[2] if member.filename.startswith("files/") else "code"
            sizes[part] = sizes.get(part, 0) + member.compress_size
    return buffer.getvalue(), sizes


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the regular files below a path, with their names below it."""
    if path.is_file():
        yield path, ""
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(
            part.startswith(".") for part in file.parts[len(path.parts) :]
        ):
            yield file, file.relative_to(path).as_posix()


def _cells(content: NotebookContent, payload: bytes, size: int) -> Iterator[dict[str, Any]]:
    text = (resource_folder("assets") / "templates" / TEMPLATE).read_text("utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)  # no HTML
    title = content.name or "Training run"
    values = {
        "payload": PAYLOAD,
        "title": _in_markdown(title),
        "model": _in_markdown(content.model),
        "data": _in_markdown(content.data),
        "size": human_bytes(size),
        "file": re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower() or "run",
        "sha256": hashlib.sha256(payload).hexdigest(),
        "here": HERE,
        "starter": STARTER if content.needs_starter else "",
        "fetches": [list(fetch) for fetch in content.fetches],
        "request_id": content.request_id,
        "name": repr(content.name) if content.name else "",
    }
    number = 0
    # Divided before the values are in it, which may look like the ends of code.
    for at, part in enumerate(_CODE.split(text)):
        source = environment.from_string(part).render(values).strip()
        if at % 2:
            yield _cell(number := number + 1, "code", source)
            continue
        for prose in filter(None, map(str.strip, source.split(PAYLOAD))):
            yield _cell(number := number + 1, "markdown", prose)
        if PAYLOAD in source:
            for piece in _parts(payload):
                yield _cell(number := number + 1, "code", piece)


def _parts(payload: bytes) -> Iterator[str]:
    text = base64.b64encode(payload).decode()
    starts = range(0, len(text), CELL_CHARS)
    for number, start in enumerate(starts, 1):
        title = f"#@title Content, part {number} of {len(starts)}"
        yield f'{title}\nPARTS.append("{text[start : start + CELL_CHARS]}");'


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    if kind == "code":
        hidden = source.startswith("#@title Content")
        cell["metadata"] = (
            {"cellView": "form", "jupyter": {"source_hidden": True}} if hidden else {}
        )
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": source.splitlines(keepends=True)}


def _in_markdown(text: str) -> str:
    """Return a text as Markdown that shows it, whatever it holds."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]()#+!<>|~&$])", r"\\\1", line)
