"""Rows of the data by their numbers: show one as it is stored, leave it out, or change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.data.repair.edit import LOCATION, RowEdits, as_texts, text_label
from modelforge.forge import Forge
from ui.contract import RepairReply, Reply
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction, number
from ui.html.templates import render
from ui.pages.train.data_actions import parse_sources

SEED = "trainer.seed"
MAX_TEXT_CHARS = 200_000
TALL_CHARS = 80
JsonObject = Mapping[str, Any]


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions of the row editor.

    A request has the original `sources`, the `seed`, the numbers of the rows in `left_out`, and
    the new texts of rows by their numbers in `changed`.
    """

    def show_row(request: Any) -> Reply:
        chosen, edits = number(request, "row"), read_edits(request)
        sources = parse_sources(forge, _sources(request))
        loaded = forge.datasets.load_sources(sources)
        total = sum(source.rows for source in loaded)
        chosen = max(1, min(chosen, total))
        [row] = forge.datasets.rows(sources, [chosen], read_seed(request))
        texts = as_texts(row.data) | dict((edits.changed or {}).get(chosen, {}))
        columns = [
            (name, *text_label(row.data, name), text, _height(text)) for name, text in texts.items()
        ]
        place = f"{row.file.name}, line {row.line:,}"
        is_out, is_changed = chosen in edits.left_out, chosen in (edits.changed or {})
        part = render("data", "row_editor", chosen, total, place, columns, is_out, is_changed)
        return Reply(parts={"row-editor": part})

    def edit_rows(request: Any) -> RepairReply:
        stated, edits = _sources(request), read_edits(request)
        if not edits.numbers:
            return RepairReply(sources=stated)
        sources = parse_sources(forge, stated)
        files = forge.datasets.edit_rows(sources, edits, read_seed(request))
        return RepairReply(sources=edited_sources(stated, sources, files), toast=_text(edits))

    return [show_row, edit_rows]


def _height(text: str) -> int:
    return min(12, 1 + text.count("\n") + len(text) // TALL_CHARS)


def _text(edits: RowEdits) -> str:
    """Return how the copy differs from the original."""
    changed = len((edits.changed or {}).keys() - edits.left_out)
    texts = []
    if edits.left_out:
        texts.append(f"{fmt.plural(len(edits.left_out), 'row')} left out")
    if changed:
        texts.append(f"{fmt.plural(changed, 'row')} changed")
    return f"The next run uses a copy: {', '.join(texts)}."


def edited_sources(
    stated: Sequence[JsonObject], sources: Sequence[Any], files: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Return the sources with their copies; a folder with a copy becomes one source per file."""
    edited: list[dict[str, Any]] = []
    # A stated path may stand for several sources, of which none is then edited by itself.
    if len(stated) != len(sources):
        stated = [source.model_dump(mode="json", exclude_unset=True) for source in sources]
    for original, paths in zip(stated, files, strict=True):
        names = [path for path in paths if ".edited-" in path]
        if not names:
            edited.append(dict(original))
            continue
        options = {name: value for name, value in original.items() if name not in LOCATION}
        edited += [{"path": _name(path), **options} for path in paths]
    return edited


def _name(path: str) -> str:
    """Return an edited copy by its name among the uploads, any other file by its path."""
    name = fmt.file_name(path)
    return name if ".edited-" in name else path


def read_seed(request: object) -> int:
    """Return the seed of the run, with which samples are drawn."""
    value = request.get("seed") if isinstance(request, Mapping) else None
    digits = str(value)
    is_number = digits.isdecimal() and len(digits) < 12
    return int(digits) if is_number else int(specs_by_name()[SEED].default)


def read_edits(request: object) -> RowEdits:
    """Return the edits of a request; entries of another type are ignored."""
    data = request if isinstance(request, Mapping) else {}
    left_out, changed = data.get("left_out"), data.get("changed")
    numbers = {each for each in left_out if _is_number(each)} if isinstance(left_out, list) else ()
    texts: dict[int, dict[str, str]] = {}
    if isinstance(changed, Mapping):
        for key, columns in changed.items():
            if str(key).isdecimal() and len(str(key)) < 12 and isinstance(columns, Mapping):
                texts[int(key)] = {
                    str(column): str(text)[:MAX_TEXT_CHARS] for column, text in columns.items()
                }
    return RowEdits(frozenset(numbers), texts)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _sources(request: object) -> list[dict[str, Any]]:
    listed = request.get("sources") if isinstance(request, Mapping) else None
    found = listed if isinstance(listed, list) else []
    return [dict(source) for source in found if isinstance(source, Mapping)]
