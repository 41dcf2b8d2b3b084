"""The support bundle: a zip file to diagnose a run, without private data."""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelforge.diagnosis.redact import Redactor
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json
from modelforge.runs.events import tail_events
from modelforge.runs.layout import RunFolder
from modelforge.services.runs import log_tail
from modelforge.units import MIB

EVENT_BYTES = MIB
LOG_BYTES = 2**18
LONGEST_LINE = 2000
FIRST_EVENTS = 50
# Texts of the user or the data, which are replaced by their length.
ROWS = {"prompt", "completion", "messages", "answer", "question", "reference", "context"}
TEXTS = {"system_prompt", "chat_template", "prompt_format", "system"}
README = """\
Support bundle of the ModelForge run {run}.

Contents: the settings of the run, the preflight report, versions, events, the end of the log, the
exit code, the probable cause, and the checks of the computer.

Removed: rows of the data and output of the model, tokens and passwords, names of users and of the
computer, home folders and addresses. They are replaced by [hidden], ~ or someone.
Check the files before you send them: other texts that libraries wrote to the log are kept.
"""


def write_bundle(folder: RunFolder, reports: Mapping[str, Any], home: Home) -> Path:
    """Write a zip file about a run and return its path; `reports` are further files by name."""
    redactor = Redactor.for_this_computer(more_homes=_outer(home.root))
    with tempfile.NamedTemporaryFile(prefix="modelforge-", suffix=".zip", delete=False) as file:
        target = Path(file.name)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _files(folder, reports, redactor):
            archive.writestr(f"{folder.id}/{name}", text)
    return target


def _files(
    folder: RunFolder, reports: Mapping[str, Any], redactor: Redactor
) -> Iterator[tuple[str, str]]:
    def as_json(data: Any) -> str:
        hidden = redactor.redact_data(data)
        return json.dumps(hidden, ensure_ascii=False, indent=1, default=str) + "\n"

    yield "README.txt", README.format(run=folder.id)
    for path in (folder.config, folder.preflight, folder.environment, folder.exit):
        if (data := find_json(path)) is not None:
            yield path.name, as_json(_without_texts(data))
    if (launched := find_json(folder.process)) is not None:
        # The pid is of no use, and the host name is private.
        kept = {"launched", "launching", "spare", "after", "memory_kills"}
        yield folder.process.name, as_json({k: v for k, v in launched.items() if k in kept})
    yield folder.events.name, "".join(_events(folder.events, redactor))
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = log_tail(folder.log, LOG_BYTES).splitlines()
    yield folder.log.name, redactor.redact("".join(f"{line[:LONGEST_LINE]}\n" for line in lines))
    yield "files.json", as_json(list(_listing(folder)))
    for name, data in reports.items():
        if data is not None:
            yield f"{name}.json", as_json(data)


def _events(path: Path, redactor: Redactor) -> Iterator[str]:
    """Yield the first and the last events, without texts of the data or the model."""
    newest = [event.as_dict() for event in tail_events(path, EVENT_BYTES)]
    since = newest[0]["n"] if newest else None
    early = [one for one in _beginning(path) if since is None or one["n"] < since]
    for event in (*early, *newest):
        if event["kind"] != "sample":
            redacted = redactor.redact_data(_without_texts(event, rows=True))
            yield json.dumps(redacted, ensure_ascii=False) + "\n"


def _beginning(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            lines = [file.readline(LONGEST_LINE) for _ in range(FIRST_EVENTS)]
            events = [json.loads(line or b"0") for line in lines]
    except (OSError, ValueError):
        return []
    return [one for one in events if isinstance(one, dict) and "n" in one and "kind" in one]


def _without_texts(data: Any, *, rows: bool = False) -> Any:
    """Return data with the texts of users, and of rows, replaced by their length."""
    if isinstance(data, Mapping):
        return {
            key: f"[{len(value)} characters]"
            if isinstance(value, str) and (key in TEXTS or (rows and key in ROWS))
            else _without_texts(value, rows=rows)
            for key, value in data.items()
        }
    return [_without_texts(one, rows=rows) for one in data] if isinstance(data, list) else data


def _listing(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield the name and size of every file of the run."""
    for path in sorted(folder.path.rglob("*")):
        try:
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(folder.path).as_posix()
                yield {"name": name, "bytes": path.stat().st_size}
        except OSError:
            continue


def _outer(root: Path) -> list[str]:
    """Return the path of the home as given, absolute and resolved."""
    return list({str(root), str(root.absolute()), str(root.resolve())})
