"""A run as one zip file, for another computer: its folder, its data, and the paths of where it ran.

`run.json` names the run and says what each path stands for; `run/` is the folder and `data/` the
files it was trained on.
"""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelforge import __version__
from modelforge.data.sources.load import source_entries
from modelforge.errors import DataError, Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, read_json
from modelforge.runs.layout import RunFolder
from modelforge.units import GIB, MIB, human_bytes

FORMAT = 1
MANIFEST = "run.json"
RUN, DATA, STARTER = "run", "data", "starter"
# The largest archive that can be sent to the server.
MAX_ARCHIVE_BYTES = 20 * GIB
MAX_FILES = 20_000
MAX_BYTES = 200 * GIB
# Event files and logs become 20 times smaller; weights do not shrink.
MAX_EXPANSION, FREE_EXPANSION = 100, 100 * MIB
MAX_MANIFEST_BYTES = 4 * MIB
# Files about processes of the other computer, and what is made again from the rest.
_LEFT_OUT = ("process.json", "merged", "trunk_cache", "ranks", "trackers", DATA)
_TEXTS = (".json", ".jsonl", ".log", ".txt", ".csv", ".yaml")
_NO_LINK = (0, stat.S_IFREG, stat.S_IFDIR)
_ENCRYPTED = 1
_DAMAGE = (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError)
_AGAIN = "Download it again, or write it again with `modelforge runs pack`."


@dataclass(frozen=True)
class RunArchive:
    """A checked archive.

    Attributes:
        run_id: The id of the run where it was trained.
        places: Path or name of the other computer → what it is here: `run`, `starter`, or a name
            that begins with `data`.
    """

    path: Path
    run_id: str
    places: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of the files when they are unpacked."""
        with zipfile.ZipFile(self.path) as archive:
            return sum(member.file_size for member in _files(archive))

    def extract(self, folder: Path) -> None:
        """Write the files of the run into `folder`, and its data into `folder/data`.

        Raises DataError for a damaged archive, RunError if the disk is full.
        """
        with zipfile.ZipFile(self.path) as archive:
            for member in _files(archive):
                if member.filename == MANIFEST:
                    continue
                parts = PurePosixPath(member.filename).parts
                place = folder.joinpath(*parts[1:] if parts[0] == RUN else parts)
                try:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _copy(archive, member, place)
                except (zipfile.BadZipFile, EOFError, struct.error) as error:
                    raise _damaged(self.path.name) from error
                except OSError as error:
                    raise disk_error(error, place) from error

    def located(self, value: Any, folder: Path, home: Home) -> Any:
        """Return JSON data in which every path of the other computer is the one here."""
        return _replaced(value, {old: self._here(new, folder, home) for old, new in self._ordered})

    @property
    def _ordered(self) -> list[tuple[str, str]]:
        """The places, the longest first: a file before the folder that it is in."""
        return sorted(self.places.items(), key=lambda place: -len(place[0]))

    def _here(self, name: str, folder: Path, home: Home) -> str:
        if name == STARTER:
            return str(home.starter_model)
        return str(folder if name == RUN else folder / name)


def write_archive(run: RunFolder, home: Home, target: Path) -> None:
    """Write a run into a new zip file; the file appears when it is complete.

    Raises FileExistsError, RunError if the disk is full or the record is damaged, DataError if a
    file of the data is missing.
    """
    record = read_json(run.config)
    files, places = _data_files(record)
    places |= {str(run.path): RUN, str(home.starter_model): STARTER}
    manifest = {"format": FORMAT, "modelforge": __version__, "run": run.id, "places": places}
    draft = target.with_name(f".{target.name}.part")
    with target.open("xb"):
        pass  # reserves the name
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
            for name, path in (*_run_files(run), *files.items()):
                archive.write(path, name, _compression(path))
        draft.replace(target)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk_error(error, target) from error
        raise


def open_archive(path: Path) -> RunArchive:
    """Check an archive and return it; nothing is written.

    Raises DataError for a file that is no archive of a run, is damaged, expands too much, or has
    links or paths that leave it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _files(archive)
            _refuse_unsafe(path.name, members)
            _refuse_large(path, members)
            manifest = _manifest(archive)
    except _DAMAGE as error:
        raise _damaged(path.name) from error
    names = {member.filename for member in members}
    run_id, places = manifest.get("run"), manifest.get("places")
    if manifest.get("format") != FORMAT or f"{RUN}/config.json" not in names:
        what = "is a zip file, but not one of a run."
        remedy = "Choose a file that `modelforge runs pack` or the notebook of a run has written."
        raise DataError(Problem(path.name, what, remedy))
    if not isinstance(run_id, str) or not isinstance(places, dict):
        raise _damaged(path.name)
    return RunArchive(path, run_id, _checked(path.name, places))


def _data_files(record: Mapping[str, Any]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files of the data by their names in the archive, and what their paths become."""
    files: dict[str, Path] = {}
    places: dict[str, str] = {}
    dataset = dict(record["dataset"])
    entries = [*source_entries(dataset), *source_entries(dataset, "validation")]
    for number, entry in enumerate(entries):
        paths = [Path(path) for path in entry["files"]]
        source = str((entry.get("source") or {}).get("path", ""))
        root = Path(source).expanduser() if source else None
        is_folder = root is not None and all(root.resolve() in path.parents for path in paths)
        base = root.resolve() if root is not None and is_folder else None
        for path in paths:
            if not path.is_file():
                what = "The file is missing; the run was trained on it."
                raise DataError(Problem(str(path), what, "Restore the file."))
            inside = path.relative_to(base).as_posix() if base else path.name
            files[f"{DATA}/{number}/{inside}"] = path
            places[str(path)] = f"{DATA}/{number}/{inside}"
        if base is not None:
            places[source] = places[str(base)] = f"{DATA}/{number}"
        elif root is not None and root.is_file():
            places[source] = places[str(paths[0])]
    return files, places


def _run_files(run: RunFolder) -> Iterator[tuple[str, Path]]:
    for path in sorted(run.path.rglob("*")):
        inside = path.relative_to(run.path)
        is_hidden = any(part.startswith(".") for part in inside.parts)
        if inside.parts[0] in _LEFT_OUT or is_hidden or path.is_symlink() or not path.is_file():
            continue
        yield f"{RUN}/{inside.as_posix()}", path


def _compression(path: Path) -> int:
    return zipfile.ZIP_DEFLATED if path.suffix in _TEXTS else zipfile.ZIP_STORED


def _files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [member for member in archive.infolist() if not member.is_dir()]


def _refuse_unsafe(name: str, members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        inside = member.filename
        parts = inside.split("/")
        why = ""
        if stat.S_IFMT(member.external_attr >> 16) not in _NO_LINK:
            why = "has a link or a device"
        elif (parts[0] not in (RUN, DATA) and inside != MANIFEST) or not all(map(_is_plain, parts)):
            why = "has a file whose path leaves the folder of the run"
        elif _place(inside) in seen:
            why = "has two files of one name"
        elif member.flag_bits & _ENCRYPTED:
            why = "has an encrypted file"
        if why:
            remedy = "Do not use it; ask for the original."
            raise DataError(Problem(name, f"{why}: {inside[:80]!r}.", remedy))
        seen.add(_place(inside))


def _place(inside: str) -> str:
    """Return where a file is written, as systems that ignore case compare it."""
    return inside.lower().removeprefix(f"{RUN}/")


def _is_plain(part: str) -> bool:
    """Return whether this is the name of a file on every system."""
    return part.strip(". ") != "" and part.isprintable() and not set(part) & set('\\:*?"<>|')


def _refuse_large(path: Path, members: list[zipfile.ZipInfo]) -> None:
    size = sum(member.file_size for member in members)
    limit = min(MAX_BYTES, FREE_EXPANSION + MAX_EXPANSION * path.stat().st_size)
    if len(members) > MAX_FILES:
        what = f"has {len(members):,} files; a run has up to {MAX_FILES:,}."
        raise DataError(Problem(path.name, what, "Do not use it; ask for the original."))
    if size > limit:
        what = f"would be {human_bytes(size)} unpacked, more than {human_bytes(limit)}."
        raise DataError(Problem(path.name, what, "Do not use it; ask for the original."))


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    if MANIFEST not in archive.namelist():
        return {}
    with archive.open(MANIFEST) as file:
        text = file.read(MAX_MANIFEST_BYTES)
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return values if isinstance(values, dict) else {}


def _checked(name: str, places: dict[str, Any]) -> dict[str, str]:
    for old, new in places.items():
        parts = new.split("/") if isinstance(new, str) else [""]
        is_known = new in (RUN, STARTER) or (parts[0] == DATA and all(map(_is_plain, parts)))
        if not old or not is_known:
            raise _damaged(name)
    return places


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    with archive.open(member) as source, place.open("xb") as target:
        while chunk := source.read(MIB):
            target.write(chunk)


def _replaced(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, places) for item in value]
    if not isinstance(value, str):
        return value
    for old, new in places.items():
        if value == old:
            return new
        if value.startswith(f"{old}/"):
            return new + value[len(old) :]
    return value


def _damaged(name: str) -> DataError:
    return DataError(Problem(name, "is damaged, incomplete, or not a zip file.", _AGAIN))
