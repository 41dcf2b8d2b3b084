"""Look into a ZIP archive: a workbook, a Slack export, or an archive of one data file."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from modelforge.data.chats.detect import SLACK_USERS, is_named_whatsapp
from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.streams import MAX_EXPANDED_BYTES, MAX_EXPANSION
from modelforge.units import KIB, MIB, human_bytes

MAX_MEMBERS = 20_000
MAX_DIRECTORY_BYTES = 8 * MIB
_END = b"PK\x05\x06"
_END_BYTES = 22
_MAX_COMMENT_BYTES = 64 * KIB
_PACKED = (".zip", ".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz")
_TABLES = (".parquet", ".arrow", ".feather", ".xlsx", ".xlsm")
_TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md")
_WORKBOOK = "xl/workbook.xml"
_OFFICE = ("[Content_Types].xml", "mimetype", "META-INF/manifest.xml")
_ENCRYPTED = 1


ArchiveKind = Literal["file", "slack", "workbook"]


@dataclass(frozen=True)
class Archive:
    """What a ZIP archive is: the name of its data file, or the files of a Slack export."""

    kind: ArchiveKind
    members: tuple[str, ...] = ()


def read_archive(path: Path) -> Archive:
    """Return what an archive holds; nothing is unpacked to the disk.

    Raises ReadError for an archive that is damaged, encrypted, too large when unpacked, or that has
    several data files, archives inside, or paths that leave its folder.
    """
    kind: ArchiveKind = "file"
    members = _members(path)
    names = [member.filename for member in members]
    if _WORKBOOK in names or "xl/workbook.bin" in names:
        kind = "workbook"
    elif any(name in names for name in _OFFICE):
        what, remedy = "is an office document.", "Save the table as XLSX or CSV."
        raise read_error(path.name, what, remedy, code="unsupported-format")
    elif any(PurePosixPath(name).name == SLACK_USERS for name in names):
        kind = "slack"
    else:
        names = [_data_file(path, names)]
    used = members if kind == "workbook" else [each for each in members if each.filename in names]
    _refuse_large(path, used)
    if any(member.flag_bits & _ENCRYPTED for member in used):
        what, remedy = "is an encrypted ZIP archive.", "Unpack it, and use the file inside."
        raise read_error(path.name, what, remedy, code="encrypted")
    return Archive(kind, tuple(names))


def damaged_archive(name: str) -> ReadError:
    """Return the error for a ZIP archive that cannot be read."""
    what = "is a ZIP archive or an office document, and it is damaged or incomplete."
    remedy = "Compress or download it again."
    return read_error(name, what, remedy, code="damaged-compression")


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """Return the files of an archive, without folders and the copies that macOS adds."""
    _refuse_large_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise damaged_archive(path.name) from error
    if len(members) > MAX_MEMBERS:
        raise _too_many(path)
    for member in members:
        name = member.filename
        parts = name.replace("\\", "/").split("/")
        if not parts[0] or ".." in parts or parts[0][1:2] == ":":
            what = f"has a file whose path leaves the archive: {name[:80]!r}."
            remedy = "Unpack it with care, and use the data file inside."
            raise read_error(path.name, what, remedy, code="unsafe-archive")
    return [
        member
        for member in members
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and not PurePosixPath(member.filename).name.startswith(".")
    ]


def _refuse_large_directory(path: Path) -> None:
    """Raise ReadError for a list of files that would need much memory."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_BYTES - _MAX_COMMENT_BYTES))
        tail = file.read()
    at = tail.rfind(_END)
    if at == -1 or len(tail) < at + _END_BYTES:
        raise damaged_archive(path.name)
    count, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    # Archives with the extension for large files have 0xFFFFFFFF here.
    if count > MAX_MEMBERS or directory_bytes > MAX_DIRECTORY_BYTES:
        raise _too_many(path)


def _too_many(path: Path) -> ReadError:
    what = f"is a ZIP archive with more than {MAX_MEMBERS:,} files."
    return read_error(path.name, what, "Use the data file inside.", code="unsupported-format")


def _refuse_large(path: Path, members: list[zipfile.ZipInfo]) -> None:
    limit = max(MAX_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
    if sum(member.file_size for member in members) > limit:
        what = f"holds more than {human_bytes(limit)}, over {MAX_EXPANSION} times its size."
        remedy = "Unpack it, and use the file inside if it is yours."
        raise read_error(path.name, what, remedy, code="expands-too-much")


def _data_file(path: Path, names: list[str]) -> str:
    """Return the name of the only data file of an archive; images beside it are left out."""
    data = [name for name in names if name.lower().endswith((*_TEXTS, *_TABLES, *_PACKED))]
    # A chat that was exported with its media may hold documents of any kind.
    chats = [name for name in data if name.lower().endswith(".txt") and is_named_whatsapp(name)]
    data = chats if len(chats) == 1 else data
    shown = ", ".join(PurePosixPath(name).name[:60] for name in data[:5])
    if not data:
        what = f"is a ZIP archive without a data file among its {len(names):,} files."
        remedy = "Put one file with rows into it, such as JSON Lines or CSV."
    elif len(data) > 1:
        more = f" and {len(data) - 5:,} more" if len(data) > 5 else ""
        what = f"is a ZIP archive with {len(data):,} data files: {shown}{more}."
        remedy = "Unpack it, and use one file or the folder."
    elif data[0].lower().endswith(_PACKED):
        what = f"is a ZIP archive with an archive inside: {shown}."
        remedy = "Unpack it, and use the file inside."
    elif data[0].lower().endswith(_TABLES):
        what = f"is a ZIP archive with a binary table: {shown}."
        remedy = "Unpack it, and use the file inside."
        raise read_error(path.name, what, remedy, code="compressed-table")
    else:
        return data[0]
    raise read_error(path.name, what, remedy, code="archive-without-one-file")
