"""Server side of the data card: previews, checks, tokens, lengths, repairs, uploads, downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from modelforge.config.schema.data import Source
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.repair.copy import RepairResult
from modelforge.data.repair.log import RemovalError
from modelforge.data.sources.locate import find_source_files, missing_download
from modelforge.data.sources.remote import remote_path
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import DataError, ForgeError
from modelforge.forge import Forge
from modelforge.services.layers import LayerStack
from modelforge.units import MIB
from ui.contract import DatasetReply, RepairReply, Reply, error_text
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.train import column_mapping, data_card, data_findings, plan_panel, token_view
from ui.pages.train.form import Entered
from ui.streams import progress_lines

SOURCES = "data.sources"
# Larger data is checked only on request.
MAX_CHECKED_BYTES = 64 * MIB
_LOCATION = ("path", "subset", "split")


def stated_sources(layers: Sequence[Any], part: str = "sources") -> list[dict[str, Any]]:
    """Return the sources in the layers, unchecked; the last layer that has some wins."""
    found: object = None
    for layer in layers:
        nested = layer.values.get("data")
        inner = nested.get(part) if isinstance(nested, Mapping) else None
        found = layer.values.get(f"data.{part}", inner if inner is not None else found)
    listed = found if isinstance(found, list) else []
    return [dict(source) for source in listed if isinstance(source, Mapping)]


def parse_sources(forge: Forge, stated: Sequence[Mapping[str, Any]]) -> list[Source]:
    """Return validated sources; raise ConfigError."""
    found: list[Source] = []
    for source in stated:
        options = {name: value for name, value in source.items() if name != "path"}
        found += forge.datasets.parse_sources(str(source.get("path") or ""), options)
    return found


def _sources(forge: Forge, found: LayerStack) -> list[Source]:
    """Return the sources of a form, even if other settings are invalid."""
    stated = stated_sources(found.layers) or [{"path": found.texts["dataset"]}]
    return parse_sources(forge, stated)


def find_summary(forge: Forge, layers: Sequence[Any], dataset: str) -> DatasetSummary | None:
    """Return the summary of the data although other settings are invalid, or None."""
    if not dataset.strip():
        return None
    stated = stated_sources(layers)
    located = [{name: one[name] for name in _LOCATION if name in one} for one in stated]
    # While the column mapping is incomplete, the location is still known.
    for sources in (stated, located):
        try:
            return forge.datasets.summarize(parse_sources(forge, sources or [{"path": dataset}]))
        except ForgeError:
            continue
    return None


def preview(forge: Forge, entered: Entered) -> Reply:
    """Return the first rows at once, while all of the data is still being read."""
    found = forge.layers.stack(entered)
    try:
        first = forge.datasets.summarize_head(_sources(forge, found))
    except ForgeError:
        return Reply()  # the reply of the check shows the error
    summary = join([f"{first.name} · reading all rows …"])
    rows = data_card.rows(first)
    return Reply(parts={"data": rows, "sum-data": summary})


def mapping_editor(forge: Forge, stated: Sequence[Mapping[str, Any]], dataset: str) -> Markup:
    """Return the rows of the files with the role of each column."""
    sources = list(stated) or [{"path": dataset}]
    columns = [column_mapping.read_columns(forge.home, source) for source in sources]
    return column_mapping.editor(sources, columns)


def check(forge: Forge, entered: Entered) -> Reply:
    """Return the findings of the data checks, and their number for the tab."""
    try:
        found = forge.layers.stack(entered)
        evaluation = parse_sources(forge, stated_sources(found.layers, "validation_sources"))
        length = found.texts["max_seq_length"]
        max_length = int(length) if length.isdecimal() and int(length) > 0 else None
        checked = forge.datasets.check(_sources(forge, found), evaluation, max_length)
        files = [file.as_dict() for file in checked]
    except ForgeError as error:
        return Reply(
            parts={
                "checks": plan_panel.problem_list(error.problems),
                "checks-count": data_findings.error_count(len(error.problems)),
                "checks-brief": EMPTY,
            }
        )
    return Reply(
        parts={
            "checks": data_findings.part(files, _role_buttons(forge, found)),
            "checks-count": data_findings.count_chip(files),
            "checks-brief": data_findings.brief(files),
        }
    )


def _role_buttons(forge: Forge, found: LayerStack) -> dict[str, Markup]:
    """Return the buttons that give the overlooked columns of each file a role."""
    sources = stated_sources(found.layers) or [{"path": found.texts["dataset"]}]
    buttons = {}
    for place, source in enumerate(sources):
        columns = column_mapping.read_columns(forge.home, source)
        if shown := column_mapping.role_buttons(place, source, columns):
            buttons[columns.file] = shown
    return buttons


def preview_tokens(forge: Forge, entered: Entered, number: int, *, as_batch: bool) -> Reply:
    """Return row `number` of all sources, counted from 1, as the model sees it."""
    found = forge.layers.stack(entered)
    total = 1
    try:
        supplies = forge.datasets.load_sources(_sources(forge, found))
        total = max(1, sum(supply.rows for supply in supplies))
        number = max(1, min(number, total))
        row, source = number - 1, 0
        while row >= supplies[source].rows and source < len(supplies) - 1:
            row -= supplies[source].rows
            source += 1
        count = token_view.BATCH_ROWS if as_batch else 1
        page = forge.datasets.tokens(*found.layers, row=row, count=count, source=source)
    except ForgeError as error:
        pager = token_view.pager(number, total, as_batch=as_batch)
        return Reply(parts={"tokens": join([pager, plan_panel.problem_list(error.problems)])})
    return Reply(parts={"tokens": token_view.part(page, number, total, as_batch=as_batch)})


def measure_lengths(forge: Forge, entered: Entered) -> Reply:
    """Return the lengths of the rows in tokens."""
    try:
        lengths = forge.datasets.lengths(*forge.layers.stack(entered).layers)
    except ForgeError as error:
        return Reply(parts={"lengths": plan_panel.problem_list(error.problems)})
    return Reply(parts={"lengths": token_view.length_histogram(lengths)})


def repair(
    forge: Forge, entered: Entered, code: str, *, allow_removal: bool = False
) -> RepairReply:
    """Write repaired copies and return the sources that name them; the originals stay.

    If many rows would be removed, return the question whether they may be.
    """
    found = forge.layers.stack(entered)
    stated = stated_sources(found.layers) or [{"path": found.texts["dataset"]}]
    sources = _sources(forge, found)
    codes = [code] if code else None
    try:
        repaired = forge.datasets.repair(sources, codes, allow_removal=allow_removal)
    except RemovalError as error:
        return RepairReply(sources=[], question=error_text(error))
    # A folder has one copy per file; each keeps the column mapping of the folder.
    copies, repaired_sources = iter(repaired), []
    for original, source in zip(stated, sources, strict=True):
        options = {name: value for name, value in original.items() if name not in _LOCATION}
        count = len(find_source_files(source, forge.home))
        repaired_sources += [{"path": copy.dataset, **options} for copy in islice(copies, count)]
    return RepairReply(sources=repaired_sources, toast=_repaired_text(repaired))


def _repaired_text(repaired: Sequence[RepairResult]) -> str:
    """Return how many rows were fixed and removed, with the first removed lines."""
    fixed, removed = (
        sum(getattr(each, name) for each in repaired) for name in ("fixed", "removed")
    )
    lines = [f"{line:,}" for copy in repaired for line in copy.removed_lines[:5]]
    more = removed - len(lines)
    places = f" (lines {', '.join(lines)}{f' and {more:,} more' if more else ''})" if lines else ""
    names = ", ".join(copy.dataset for copy in repaired)
    return (
        f"{fmt.plural(fixed, 'row')} repaired, {removed:,} left out{places}. "
        f"The copy is used now: {names}."
    )


def hub_offer(forge: Forge, sources: Sequence[Mapping[str, Any]]) -> Markup:
    """Return a button that downloads each dataset of the Hub or a storage that is not here yet."""
    missing = []
    for source in sources:
        located = {name: source[name] for name in _LOCATION if isinstance(source.get(name), str)}
        # Only the location matters here, so the other fields are not validated.
        where = Source.model_construct(**{"path": "", "subset": None, "split": None, **located})
        if name := missing_download(where, forge.home):
            place = "" if remote_path(name) else " from the Hub"
            missing.append({"name": name, "place": place, **located})
    return render("data", "hub_offer", missing)


def store_upload(forge: Forge, filename: str, chunks: Iterator[bytes]) -> DatasetReply:
    """Store an upload whose rows can be read, repaired or mapped by hand.

    A file that cannot be used in any of these ways is deleted, and its error raised.
    """
    path = forge.datasets.upload(filename, chunks, MAX_UPLOAD_BYTES)
    try:
        forge.datasets.summarize_head(forge.datasets.parse_sources(path.name))
    except DataError:
        findings = check_file(path).findings
        # Which person of a chat the model shall be is set afterwards.
        can_repair = any(each.repair or each.code == "chat-person" for each in findings)
        columns = column_mapping.read_columns(forge.home, {"path": path.name}).columns
        if not can_repair and not columns:
            path.unlink(missing_ok=True)
            raise
    return DatasetReply(dataset=path.name)


def fetch_lines(forge: Forge, name: str, subset: str | None, split: str | None) -> Iterator[str]:
    """Yield JSON lines of a download from the Hub: progress, then the dataset or an error."""

    def fetch(show: Callable[[str], None]) -> str:
        dataset = forge.datasets.fetch(
            name,
            subset=subset,
            split=split,
            on_progress=lambda progress: show(_progress_text(progress)),
        )
        return dataset.name

    return progress_lines(fetch, _fetch_error)


def _fetch_error(error: Exception) -> str:
    if isinstance(error, ForgeError):
        return error_text(error)
    return f"The download failed: {type(error).__name__}."


def _progress_text(progress: Mapping[str, Any]) -> str:
    text = str(progress.get("text") or "Downloading rows")
    count, total = progress.get("done"), progress.get("total")
    if count is None:
        return f"{text} …"
    return f"{text}: {fmt.progress(count, total)} …"
