"""The files of a run's result as others get them: base model by name, model card, no local path."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.errors import NotFoundError, Problem
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.portable.base_model import CARD, BaseModel, base_model_of
from modelforge.runs.portable.model_card import Form, model_card

ADAPTER_CONFIG = "adapter_config.json"
BASE_MODEL = "base_model.json"
BASE_KEY = "base_model_name_or_path"
# Keys under which Transformers and PEFT store where a file was loaded from.
_PATH_KEYS = ("_name_or_path", "name_or_path", BASE_KEY)


def result_files(run: RunFolder) -> Iterator[tuple[str, Path | str]]:
    """Yield name and content of each file of a run's result: a file to copy, or a text.

    Raises:
        NotFoundError: The run has no result.
        RunError: Its record is damaged.
    """
    if not run.has_result:
        what = f"{run.id} has no model."
        raise NotFoundError(Problem("run", what, "Choose a finished run."))
    record = read_json(run.config)
    base = base_model_of(Plan.from_dict(record["plan"], record["config"]))
    yield from own_files(run, base)
    yield from side_files(run, Form("model" if run.has_model else "adapter"), base)


def own_files(
    run: RunFolder, base: BaseModel, folder: Path | None = None
) -> Iterator[tuple[str, Path | str]]:
    """Yield the files of a result without those of `side_files`.

    `folder` holds another adapter than that of the run, such as a combined one.
    """
    sources = _regular_files(run.output)
    if folder is not None:
        sources |= _regular_files(folder)
    for name, path in sorted(sources.items()):
        if name not in (CARD, BASE_MODEL):
            yield name, _portable(path, base)


def side_files(run: RunFolder, form: Form, base: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield name and text of the files beside the weights: model card and identity of the base."""
    if base.name:
        yield BASE_MODEL, _json(base.as_dict())
    yield CARD, str(model_card(run, base, form))


def write_files(
    files: Iterator[tuple[str, Path | str]],
    target: Path,
    progress: Callable[[float], None] = lambda _share: None,
) -> None:
    """Write files into a folder; raises OSError if the disk is full."""
    known = list(files)
    sizes = [content.stat().st_size if isinstance(content, Path) else 0 for _, content in known]
    total, done = sum(sizes) or 1, 0
    for (name, content), size in zip(known, sizes, strict=True):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, place)
        else:
            place.write_text(content, encoding="utf-8")
        done += size
        progress(done / total)


def _regular_files(folder: Path) -> dict[str, Path]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _portable(path: Path, base: BaseModel) -> Path | str:
    """Return a file to copy, or the text of one that names the base model without its path."""
    if path.suffix != ".json":
        return path
    values = find_json(path) if path.name.endswith("config.json") else None
    if values is None or not any(key in values for key in _PATH_KEYS):
        return path
    return _json(portable_config(values, base))


def portable_config(values: Mapping[str, Any], base: BaseModel) -> dict[str, Any]:
    """Return a config in which the base model has its name instead of its path."""
    kept = {key: base.name if key in _PATH_KEYS else value for key, value in values.items()}
    if BASE_KEY in values and base.revision:
        kept["revision"] = base.revision
    return kept


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
