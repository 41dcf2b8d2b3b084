"""Find the files of a source: a file, a folder, an upload, a sample, or a download."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelforge.config.rules.data import HUB_PREFIX, hub_name
from modelforge.config.schema.data import Source
from modelforge.data.chats.detect import SLACK_LISTS, SLACK_USERS
from modelforge.data.formats.sniff import FORMAT_NAMES, SUFFIXES, content_suffix
from modelforge.data.sources.library import find_dataset_file
from modelforge.data.sources.remote import downloaded_path, remote_path
from modelforge.errors import DataError, NotFoundError, Problem
from modelforge.paths import Home

MAX_FILES = 1000
# Files of any kind that are looked at.
MAX_ENTRIES = 50_000
# The names that the client of the Hub accepts.
_PART = r"\w(?:[\w.-]{0,94}\w)?"
_HUB_NAME = re.compile(rf"(?!.*(?:--|\.\.)){_PART}(/{_PART})?(?<!\.git)\Z", re.ASCII)
_DESCRIBES = re.compile(r"readme|licen[cs]e|notice|changelog|citation|copying", re.IGNORECASE)
_TEXT_SUFFIXES = (".txt", ".md", ".markdown")


def find_source_files(source: Source, home: Home) -> list[Path]:
    """Return the files of a source; raises NotFoundError, or DataError for a folder without any."""
    if source.path.startswith(HUB_PREFIX):
        return [_fetched_file(source, home)]
    if remote := remote_path(source.path):
        copy = downloaded_path(remote, home)
        return find_folder_files(copy) if remote.is_folder else [copy]
    folder = _existing_folder(source.path)
    if folder is not None:
        return find_folder_files(folder)
    try:
        return [find_dataset_file(source.path, home)]
    except NotFoundError:
        if hub_name(source.path) is None:
            raise
        return [_fetched_file(source, home)]


def find_folder_files(folder: Path) -> list[Path]:
    """Return the data files below a folder, by name, without hidden files and links.

    Texts are used only if there are no tables, so that a README is not taken for data.
    """
    texts, tables = _data_files(folder)
    if not texts and not tables:
        what = f"{folder} has no data files."
        raise DataError(Problem("dataset", what, f"Name a folder with {FORMAT_NAMES}."))
    return tables or texts


def unread_texts(source: Source, files: Sequence[Path]) -> list[Path]:
    """Return the texts of a folder that are not among its `files`, since it has tables as well.

    Files that describe the data, as a README, are not counted.
    """
    folder = _existing_folder(source.path)
    if folder is None or any(content_suffix(path) in _TEXT_SUFFIXES for path in files):
        return []
    texts, _tables = _data_files(folder)
    return [path for path in texts if not _DESCRIBES.match(path.name)]


def _data_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the texts and the tables below a folder, by name."""
    files = []
    for count, path in enumerate(_visible_files(folder), 1):
        if count > MAX_ENTRIES:
            what = f"{folder} has more than {MAX_ENTRIES:,} files."
            raise DataError(Problem("dataset", what, "Name a folder inside it."))
        if content_suffix(path) in SUFFIXES and _is_regular(path):
            files.append(path)
        if len(files) > MAX_FILES:
            what = f"{folder} has more than {MAX_FILES:,} data files."
            raise DataError(Problem("dataset", what, "Name a folder inside it, or join the files."))
    files = sorted(_without_slack_lists(files))
    texts = [path for path in files if content_suffix(path) in _TEXT_SUFFIXES]
    return texts, [path for path in files if path not in texts]


def _without_slack_lists(files: list[Path]) -> list[Path]:
    """Return the files without those of a Slack export that list users and channels."""
    exports = {path.parent for path in files if path.name == SLACK_USERS}
    return [path for path in files if path.parent not in exports or path.name not in SLACK_LISTS]


def _visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder as they are found; folders that cannot be read are empty.

    A folder without files counts as one, so that a tree of folders ends the search as well.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names or ("",) if not name.startswith("."))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # deleted in the meantime
        return False


def fetched_path(home: Home, name: str, subset: str | None, split: str | None) -> Path:
    """Return the file to which a dataset of the Hub is downloaded.

    Raises NotFoundError for an invalid name.
    """
    if not _HUB_NAME.match(name):
        what = f"{name[:80]!r} is not the name of a dataset on the Hub."
        raise NotFoundError(Problem("dataset", what, f"Write {HUB_PREFIX}OWNER/NAME."))
    parts = [name.replace("/", "--"), subset or "", split or "train"]
    stem = "__".join(_escape(part) for part in parts if part)
    return home.datasets / f"{stem}.parquet"


def missing_download(source: Source, home: Home) -> str | None:
    """Return the name or address of data that is not downloaded yet; None for other sources."""
    if remote := remote_path(source.path):
        copy = remote.copy_in(home)
        return None if copy.exists() else str(remote)
    name = hub_name(source.path)
    if name is None:
        return None
    try:
        fetched_path(home, name, source.subset, source.split)
        find_source_files(source, home)
    except NotFoundError:
        return name if _HUB_NAME.match(name) else None
    except DataError:
        pass  # a folder without data files
    return None


def _escape(part: str) -> str:
    """Return a text as part of a file name; unsafe characters become %XX."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"%{ord(match.group()):02X}", part)


def _fetched_file(source: Source, home: Home) -> Path:
    name = source.path.removeprefix(HUB_PREFIX)
    path = fetched_path(home, name, source.subset, source.split)
    if path.is_file():
        return path
    subset = f" --subset {source.subset}" if source.subset else ""
    split = f" --split {source.split}" if source.split else ""
    is_bare = name == source.path
    what = f"{source.path} {'is not a file here and ' if is_bare else ''}has not been downloaded."
    remedy = f"Download it from the Hub first: modelforge data fetch {name}{subset}{split}"
    raise NotFoundError(Problem("dataset", what, remedy))


def _existing_folder(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path.resolve() if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None
