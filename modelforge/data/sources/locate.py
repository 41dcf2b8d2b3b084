"""Where the rows of a source lie: a file, the files of a folder, an upload, a sample, the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from modelforge.config.rules.data import HUB_PREFIX
from modelforge.config.schema.data import Source
from modelforge.data.formats.sniff import FORMAT_NAMES, SUFFIXES
from modelforge.data.sources.library import find_dataset_file
from modelforge.errors import DataError, NotFoundError, Problem
from modelforge.paths import Home

MAX_FILES = 1000
_HUB_NAME = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?\Z", re.ASCII)
_PROSE = (".txt", ".md", ".markdown")
_PACKED = (".gz", ".zst")


def find_source_files(source: Source, home: Home) -> list[Path]:
    """Return the files of a source; raises NotFoundError, or DataError for a folder without any."""
    if source.path.startswith(HUB_PREFIX):
        return [_fetched_file(source, home)]
    folder = _folder(source.path)
    return [find_dataset_file(source.path, home)] if folder is None else find_folder_files(folder)


def find_folder_files(folder: Path) -> list[Path]:
    """Return the data files in a folder and below, by name; hidden ones and links are left out.

    Texts count only where there is no table, so that a README is not taken for rows.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if not hidden and suffix_of(path) in SUFFIXES and path.is_file() and not path.is_symlink():
            found.append(path)
        if len(found) > MAX_FILES:
            what = f"{folder} holds more than {MAX_FILES:,} data files."
            raise DataError(Problem("dataset", what, "Name a folder inside it, or join the files."))
    tables = [path for path in found if suffix_of(path) not in _PROSE]
    if not found:
        what = f"{folder} holds no data file."
        raise DataError(Problem("dataset", what, f"Name a folder with {FORMAT_NAMES}."))
    return tables or found


def suffix_of(path: Path) -> str:
    """Return what kind of file the name says it is, packed or not."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _PACKED else suffix


def fetched_path(home: Home, name: str, subset: str | None, split: str | None) -> Path:
    """Return the file in which a data set of the Hub is kept once it is fetched.

    Raises NotFoundError for what cannot be a name there.
    """
    if not _HUB_NAME.match(name):
        remedy = f"Write {HUB_PREFIX}OWNER/NAME."
        raise NotFoundError(Problem("dataset", f"{name[:80]!r} is no name on the Hub.", remedy))
    parts = [name.replace("/", "--"), subset or "", split or "train"]
    stem = "__".join(_safe(part) for part in parts if part)
    return home.datasets / f"{stem}.parquet"


def _safe(part: str) -> str:
    """Return `part` as a piece of a file name; what is not a plain letter is written as %XX."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda found: f"%{ord(found.group()):02X}", part)


def _fetched_file(source: Source, home: Home) -> Path:
    name = source.path.removeprefix(HUB_PREFIX)
    path = fetched_path(home, name, source.subset, source.split)
    if path.is_file():
        return path
    subset = f" --subset {source.subset}" if source.subset else ""
    split = f" --split {source.split}" if source.split else ""
    raise NotFoundError(
        Problem(
            "dataset",
            f"{source.path} has not been fetched to this computer.",
            f"Fetch it first: modelforge data fetch {name}{subset}{split}",
        )
    )


def _folder(said: str) -> Path | None:
    try:
        path = Path(said).expanduser()
        return path.resolve() if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None
