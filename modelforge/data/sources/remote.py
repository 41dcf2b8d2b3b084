"""Data in object storage, s3:// and gs://: its addresses, and where downloaded copies are kept."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelforge.config.rules.data import STORAGE_ADDRESS
from modelforge.data.formats.sniff import SUFFIXES, content_suffix
from modelforge.errors import NotFoundError, Problem
from modelforge.paths import Home

# Longer names are replaced by a hash; most file systems allow 255 bytes.
_MAX_NAME = 180


@dataclass(frozen=True)
class StorageService:
    """An object storage, and how to log in to it."""

    name: str
    login: str


SERVICES = {
    "s3": StorageService(
        "S3",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    ),
    "gs": StorageService(
        "Google Cloud Storage",
        "Set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    ),
}


@dataclass(frozen=True)
class RemotePath:
    """An address in object storage: `scheme://bucket/key`."""

    scheme: str
    bucket: str
    key: str

    @property
    def service(self) -> StorageService:
        """The object storage of this address."""
        return SERVICES[self.scheme]

    @property
    def is_folder(self) -> bool:
        """Whether it names all data files below a key, and not one file."""
        return self.key.endswith("/") or content_suffix(Path(self.key)) not in SUFFIXES

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def copy_in(self, home: Home) -> Path:
        """Return the file or folder of a home to which it is downloaded."""
        key = PurePosixPath(self.key).parts
        parts = [self.scheme, self.bucket, *(key if self.is_folder else key[:-1])]
        # A file has the suffix of its format, so none has this name.
        name = "folder" if self.is_folder else local_name(key[-1]).replace("__", "%5F%5F")
        stem = "__".join(_escape(part) for part in parts)
        if len(stem) + len(name) > _MAX_NAME:
            stem = f"{self.scheme}__{hashlib.sha256(stem.encode()).hexdigest()[:32]}"
        return home.datasets / f"{stem}__{name}"


def remote_path(path: str) -> RemotePath | None:
    """Return the address in object storage that a path is; None for other paths."""
    found = STORAGE_ADDRESS.match(path)
    if found is None:
        return None
    return RemotePath(found["scheme"].lower(), found["bucket"], found["key"] or "")


def local_name(name: str) -> str:
    """Return the name of a remote file as the name of a file here, with its suffix."""
    safe = re.sub(r"[^A-Za-z0-9. _-]", lambda match: f"%{ord(match.group()):02X}", name)
    if len(safe) > _MAX_NAME // 2:
        suffixes = "".join(PurePosixPath(safe).suffixes[-2:])[-20:]
        safe = f"{hashlib.sha256(name.encode()).hexdigest()[:32]}{suffixes}"
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def downloaded_path(remote: RemotePath, home: Home) -> Path:
    """Return the copy of a remote file or folder; raises NotFoundError before the download."""
    copy = remote.copy_in(home)
    if copy.is_dir() if remote.is_folder else copy.is_file():
        return copy
    raise NotFoundError(
        Problem(
            "dataset",
            f"{remote} has not been downloaded.",
            f"Download it first: modelforge data fetch {remote}",
        )
    )


def _escape(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"%{ord(match.group()):02X}", part)
