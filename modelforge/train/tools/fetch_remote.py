"""Download data files from object storage (s3://, gs://) into the home folder, with pyarrow.

The clients in pyarrow find the credentials themselves, in the environment or in the files of
`aws` and `gcloud`; they are neither read nor stored here.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from modelforge.data.formats.sniff import FORMAT_NAMES, SUFFIXES, content_suffix
from modelforge.data.sources.locate import MAX_FILES
from modelforge.data.sources.remote import RemotePath, local_name
from modelforge.errors import DataError, NotFoundError, Problem, RunError
from modelforge.paths import Home
from modelforge.units import MIB, human_bytes

CHUNK = 8 * MIB
# Disk space that stays free.
SPARE = 256 * MIB
RETRY_S = 5
# Addresses of other services with the interface of S3 or Google Cloud Storage.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("STORAGE_EMULATOR_HOST",),
}
Progress = Callable[..., None]


def fetch(remote: RemotePath, home: Home, progress: Progress) -> dict[str, Any]:
    """Download a file, or all data files below a key, and return the path, files and bytes.

    An earlier copy is replaced when the new one is complete.

    Raises:
        NotFoundError: There is no such file, the access is denied, or the storage is unreachable.
        DataError: There are no data files, or too many.
        RunError: The disk has too little space, or the files cannot be written.
    """
    progress(text=f"Looking up {remote}")
    system, files = _open(remote)
    total = sum(files.values())
    target = remote.copy_in(home)
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_space(remote, total, target.parent)
        if remote.is_folder:
            staged.mkdir()
        done = 0
        for name in files:
            place = _place(staged, remote, name) if remote.is_folder else staged
            with place.open("wb") as file:
                for chunk in _chunks(remote, system, name):
                    file.write(chunk)
                    done += len(chunk)
                    shares = f"{human_bytes(done)} of {human_bytes(total)}"
                    progress(text=f"Downloading {PurePosixPath(name).name}: {shares}")
        if target.is_dir():
            shutil.rmtree(target)
        staged.replace(target)
    except OSError as error:
        what = f"{remote} cannot be written: {error.strerror or type(error).__name__}."
        raise RunError(Problem("home", what, "Check the folder and its disk.")) from error
    finally:
        if staged.is_dir():
            shutil.rmtree(staged, ignore_errors=True)
        staged.unlink(missing_ok=True)
    return {"path": str(target), "files": len(files), "bytes": total}


def _open(remote: RemotePath) -> tuple[fs.FileSystem, dict[str, int]]:
    """Return the file system, and the data files of an address with their sizes in bytes.

    Without credentials, or where they are refused, it asks as an anonymous user, who may read
    public data.
    """
    try:
        system = _file_system(remote)
        found = _sizes(system, remote)
    except (OSError, pa.ArrowException) as error:
        if _reason(error) != "denied":
            raise _explain(remote, error) from error
        try:
            system = _file_system(remote, anonymous=True)
            found = _sizes(system, remote)
        except (OSError, pa.ArrowException):
            raise _explain(remote, error) from error
    if not found:
        what = f"{remote} has no data files."
        raise DataError(Problem("dataset", what, f"Name a file or folder with {FORMAT_NAMES}."))
    if len(found) > MAX_FILES:
        what = f"{remote} has {len(found):,} data files; {MAX_FILES:,} are allowed."
        raise DataError(Problem("dataset", what, "Name a folder inside it."))
    return system, found


def _file_system(remote: RemotePath, *, anonymous: bool = False) -> fs.FileSystem:
    named = (os.environ.get(name) for name in _ENDPOINTS[remote.scheme])
    endpoint = next(filter(None, named), None)
    options: dict[str, Any] = {"anonymous": anonymous}
    if endpoint:
        scheme, separator, place = endpoint.rpartition("://")
        options |= {"endpoint_override": place, "scheme": scheme if separator else "https"}
        options["anonymous"] = anonymous or remote.scheme == "gs"  # an emulator has no log-in
    if remote.scheme == "gs":
        limit = datetime.timedelta(seconds=RETRY_S)
        return fs.GcsFileSystem(retry_time_limit=limit, **options)
    if proxy := None if endpoint else urllib.request.getproxies().get("https"):
        options["proxy_options"] = proxy
    if not endpoint:
        options["region"] = fs.resolve_s3_region(remote.bucket)
    return fs.S3FileSystem(**options)


def _sizes(system: fs.FileSystem, remote: RemotePath) -> dict[str, int]:
    """Return the sizes of the data files of an address, by their names in the storage.

    Raises FileNotFoundError if there is nothing.
    """
    path = f"{remote.bucket}/{remote.key}".rstrip("/")
    if not remote.is_folder:
        info = system.get_file_info(path)
        if info.type != fs.FileType.File:
            raise FileNotFoundError
        return {path: info.size or 0}
    found = system.get_file_info(fs.FileSelector(path, recursive=True))
    files = {info.path: info.size or 0 for info in found if info.type == fs.FileType.File}
    return {
        name: files[name]
        for name in sorted(files)
        if content_suffix(Path(name)) in SUFFIXES
        and not any(part.startswith(".") for part in _below(remote, name))
    }


def _below(remote: RemotePath, name: str) -> tuple[str, ...]:
    """Return the parts of the name of a file below the key of a folder."""
    key = f"{remote.bucket}/{remote.key}".rstrip("/")
    return PurePosixPath(name.removeprefix(key).lstrip("/")).parts


def _place(staged: Path, remote: RemotePath, name: str) -> Path:
    """Return where a file belongs in the folder of the copy, which is made."""
    place = staged.joinpath(*map(local_name, _below(remote, name)))
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _chunks(remote: RemotePath, system: fs.FileSystem, name: str) -> Any:
    """Yield the content of a file."""
    try:
        with system.open_input_stream(name) as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except (OSError, pa.ArrowException) as error:
        raise _explain(remote, error) from error


def _reason(error: Exception) -> str:
    """Return what an error of a client is about: missing, denied, unreachable or other."""
    text = str(error)
    if isinstance(error, FileNotFoundError) or re.search(r"NO_SUCH|NOT_FOUND|PATH_NOT", text):
        return "missing"
    denied = r"ACCESS_DENIED|_TOKEN|_KEY_ID|SIGNATURE|PERMISSION|UNAUTH|access token|CREDENTIAL"
    if isinstance(error, PermissionError) or re.search(denied, text):
        return "denied"
    unreachable = r"NETWORK_CONNECTION|UNAVAILABLE|DEADLINE|TIMEOUT|Couldn't resolve|curlCode"
    return "unreachable" if re.search(unreachable, text) else "other"


def _explain(remote: RemotePath, error: Exception) -> NotFoundError:
    """Return the error that explains one of a client.

    Its own words are left out, since they may name keys.
    """
    service, reason = remote.service, _reason(error)
    if reason == "missing":
        what = f"{service.name} has no file or folder {remote}."
        return NotFoundError(Problem("dataset", what, "Check the bucket and the name."))
    if reason == "denied":
        what = f"{service.name} denies the access to {remote}."
        remedy = f"{service.login}, and start the app again."
        return NotFoundError(Problem("dataset", what, remedy))
    if reason == "unreachable":
        what = f"{service.name} cannot be reached, so {remote} cannot be downloaded."
        return NotFoundError(Problem("dataset", what, "Check the network, or use a local file."))
    code = re.search(r"AWS Error ([A-Z_]{1,40})|Status\(([A-Z_]{1,40})", str(error))
    name = next(filter(None, code.groups()), "") if code else type(error).__name__
    what = f"{service.name} has not given {remote}: {name}."
    return NotFoundError(Problem("dataset", what, "Check the address, and try again."))


def _require_space(remote: RemotePath, total: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if total + SPARE > free:
        what = f"{remote} has {human_bytes(total)}; the disk has {human_bytes(free)} free."
        remedy = f"Free {human_bytes(total + SPARE - free)}, or name fewer files."
        raise RunError(Problem("home", what, remedy))
