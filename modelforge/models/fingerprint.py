"""A hash that tells whether the files of a model have changed, without reading them whole."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from modelforge.paths import open_regular

_CONFIG, _WEIGHTS = "config.json", "*.safetensors"
_MAX_HEADER_BYTES = 100 * 2**20
# Read at each end of every tensor.
_SAMPLED_BYTES = 1024


def fingerprint(folder: Path) -> str:
    """Return a hash of the config, and of names, shapes and sampled values of all weights.

    It is empty if a file is missing or unreadable. Training changes the values of nearly every
    tensor, so a sample of each shows that a model is another one. The files are read again only
    if a size or a time has changed.
    """
    try:
        files = [folder / _CONFIG, *sorted(folder.glob(_WEIGHTS))]
        return _hash(tuple(_stamp(path) for path in files)) if len(files) > 1 else ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        return ""


def _stamp(path: Path) -> tuple[Path, int, int, int]:
    """Return what changes with the content of a file."""
    status = path.stat()
    return path.absolute(), status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=32)
def _hash(stamps: tuple[tuple[Path, int, int, int], ...]) -> str:
    digest = hashlib.sha256()
    config, *weights = (path for path, *_stamp in stamps)
    with open_regular(config) as file:
        digest.update(file.read())
    for path in weights:
        with open_regular(path) as file:
            for part in _sampled(file):
                digest.update(part)
    return digest.hexdigest()


def _sampled(file: BinaryIO) -> Iterator[bytes]:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = file.read(length)
    yield header
    for name, tensor in json.loads(header).items():
        if name == "__metadata__":
            continue
        first, last = tensor["data_offsets"]
        size = min(_SAMPLED_BYTES, last - first)
        for offset in (first, last - size):
            file.seek(8 + length + offset)
            yield file.read(size)
