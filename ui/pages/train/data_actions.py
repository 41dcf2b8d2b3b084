"""What the card of the data asks the front door: doctor, tokens, lengths, repair, and uploads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from modelforge.config.schema.data import Source
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.formats.read import read_rows
from modelforge.data.sources.locate import find_source_files
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import DataError, ForgeError, Problem
from modelforge.forge import Forge
from modelforge.units import MIB
from ui.html.markup import Safe, el, join
from ui.pages.train import column_mapping, data_card, data_findings, plan_panel, token_view
from ui.pages.train import token_view as lengths
from ui.pages.train.form import Entered
from ui.pages.train.layers import stack

SOURCES = "data.sources"
_PLACE = frozenset({"path", "subset", "split"})
SEEN_ROWS = 20
EXAMINED_BYTES = 64 * MIB
Reply = dict[str, Any]


def said_sources(layers: Sequence[Any], part: str = "sources") -> list[dict[str, Any]]:
    """Return the sources of the answers as they were said; the last layer that says them wins."""
    found: object = None
    for layer in layers:
        nested = layer.values.get("data")
        inner = nested.get(part) if isinstance(nested, Mapping) else None
        found = layer.values.get(f"data.{part}", inner if inner is not None else found)
    listed = found if isinstance(found, list) else []
    return [dict(one) for one in listed if isinstance(one, Mapping)]


def opened(forge: Forge, said: Sequence[Mapping[str, Any]]) -> list[Source]:
    """Return sources as they were said, checked; raises ConfigError."""
    found: list[Source] = []
    for one in said:
        fields = {name: value for name, value in one.items() if name != "path"}
        found += forge.data.sources(str(one.get("path") or ""), fields)
    return found


def sources(forge: Forge, layers: Sequence[Any], dataset: str) -> list[Source]:
    """Return the sources of the answers, though other answers may be wrong."""
    return opened(forge, said_sources(layers) or [{"path": dataset}])


def look(forge: Forge, layers: Sequence[Any], dataset: str) -> DatasetSummary | None:
    """Return the look at data that stands in answers which are wrong elsewhere."""
    if not dataset.strip():
        return None
    bare: list[dict[str, Any]] = [
        {name: one[name] for name in ("path", "subset", "split") if name in one}
        for one in said_sources(layers)
    ]
    # While how a source is read is only half said, where it lies is still known.
    for said in (said_sources(layers), bare):
        try:
            return forge.data.look(opened(forge, said or [{"path": dataset}]))
        except ForgeError:
            continue
    return None


def glimpsed(forge: Forge, entered: Entered) -> Reply:
    """Return the first rows alone, at once, while the whole of the data is still being read."""
    found = stack(forge, entered)
    try:
        seen = forge.data.glimpse(sources(forge, found.layers, found.values["dataset"]))
    except ForgeError:
        return {}  # what is wrong comes with the check
    first = data_card.part(seen, (), said_sources(found.layers))
    return {"parts": {"data": first, "sum-data": join([f"{seen.name} · reading every row …"])}}


def editor(forge: Forge, said: Sequence[Mapping[str, Any]], dataset: str) -> Safe:
    """Return the form that maps columns, with only what the files have."""
    shown = list(said) or [{"path": dataset}]
    return column_mapping.editor(shown, [columns(forge, one) for one in shown])


def columns(forge: Forge, said: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return a file's columns and the names inside the lists of its first rows."""
    outer: dict[str, None] = {}
    inner: dict[str, None] = {}
    place = {name: said.get(name) for name in ("path", "subset", "split")}
    try:
        # Only where it lies matters here, whatever else is said of it.
        first = find_source_files(Source.model_construct(**place), forge.home)[0]
        for row in islice(read_rows(first), SEEN_ROWS):
            outer.update(dict.fromkeys(str(name) for name in row.data))
            for value in row.data.values():
                turns = value if isinstance(value, list) else ()
                for turn in turns[:SEEN_ROWS]:
                    inner.update(dict.fromkeys(map(str, turn)) if isinstance(turn, dict) else {})
    except ForgeError:
        pass  # what the first rows say stands; what is wrong with the rest is said elsewhere
    return {"columns": list(outer), "inner": list(inner)}


def examined(forge: Forge, entered: Entered) -> Reply:
    """Return the doctor's findings, their count for the tab, and those under the tokens."""
    try:
        found = stack(forge, entered)
        aside = opened(forge, said_sources(found.layers, "validation_sources"))
        longest = _whole(found.values["max_seq_length"])
        examined = forge.data.examine(_asked(forge, entered), aside, longest)
        files = [one.as_dict() for one in examined]
    except ForgeError as error:
        told = plan_panel.problems(_named(error))
        chip = el("span.chip.bad", str(len(error.problems)), el("span.gone", " findings"))
        return {"parts": {"doctor": told, "doctor-count": chip, "doctor-brief": Safe("")}}
    return {
        "parts": {
            "doctor": data_findings.part(files),
            "doctor-count": join([data_findings.chip(files)]),
            "doctor-brief": data_findings.brief(files),
        }
    }


def seen(forge: Forge, entered: Entered, number: int, *, together: bool = False) -> Reply:
    """Return row `number` of all sources, counted from 1, as the model sees it."""
    found = stack(forge, entered)
    total = 1
    try:
        supplies = forge.data.supplies(_asked(forge, entered))
        total = max(1, sum(supply.rows for supply in supplies))
        number = max(1, min(number, total))
        place, source = number - 1, 0
        while place >= supplies[source].rows and source < len(supplies) - 1:
            place -= supplies[source].rows
            source += 1
        count = token_view.TOGETHER if together else 1
        page = forge.data.tokens(*found.layers, row=place, count=count, source=source)
    except ForgeError as error:
        pager = token_view.pager(number, total, together=together)
        return {"parts": {"sees": join([pager, plan_panel.problems(_named(error))])}}
    return {"parts": {"sees": token_view.part(page, number, total, together=together)}}


def measured(forge: Forge, entered: Entered) -> Reply:
    """Return how long rows are in tokens."""
    try:
        told = forge.data.lengths(*stack(forge, entered).layers)
    except ForgeError as error:
        return {"parts": {"lengths": plan_panel.problems(_named(error))}}
    return {"parts": {"lengths": lengths.length_histogram(told)}}


def mended(forge: Forge, entered: Entered, code: str) -> Reply:
    """Write repaired copies and return the sources that name them; the originals stay."""
    found = stack(forge, entered)
    was = said_sources(found.layers) or [{"path": found.values["dataset"]}]
    asked = _asked(forge, entered)
    done = forge.data.repair(asked, [code] if code else None)
    # A folder has as many copies as files; how its rows are read holds for each of them.
    copies, now = iter(done), []
    for one, source in zip(was, asked, strict=True):
        kept = {name: value for name, value in one.items() if name not in _PLACE}
        count = len(find_source_files(source, forge.home))
        now += [{"path": copy.dataset, **kept} for copy in islice(copies, count)]
    changed = sum(sum(one.changes.values()) for one in done)
    told = f"{changed:,} {'place was' if changed == 1 else 'places were'} mended in a copy."
    names = ", ".join(one.dataset for one in done)
    return {"sources": now, "toast": f"{told} It is used now: {names}."}


def keep(forge: Forge, filename: str, pieces: Iterator[bytes]) -> dict[str, Any]:
    """Keep an upload whose rows can at least be looked at, mended or mapped by hand.

    What nobody can read is deleted again, and the reason raised.
    """
    path = forge.data.upload(filename, pieces, MAX_UPLOAD_BYTES)
    try:
        forge.data.glimpse(forge.data.sources(path.name))
    except DataError:
        mends = any(finding.repair for finding in check_file(path).findings)
        if not mends and not columns(forge, {"path": path.name})["columns"]:
            path.unlink(missing_ok=True)
            raise
    return {"dataset": path.name}


def _asked(forge: Forge, entered: Entered) -> list[Source]:
    found = stack(forge, entered)
    return sources(forge, found.layers, found.values["dataset"])


def _named(error: ForgeError) -> list[Problem]:
    return [Problem(one.where, one.what, one.remedy) for one in error.problems]


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) > 0 else None
