"""Streams that decompress gzip and zstd, and convert text to UTF-8 piece by piece."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

from modelforge.data.formats.errors import ReadError, read_error
from modelforge.units import KIB, MIB, human_bytes

COMPRESSIONS = (("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd"))
COMPRESSION_SUFFIXES = (".gz", ".zst", ".gzip", ".zstd")
# Text is seldom compressed to less than a twentieth.
MAX_EXPANSION = 100
MAX_EXPANDED_BYTES = 256 * MIB
_PIECE_BYTES = 64 * KIB
_BUFFER_BYTES = 256 * KIB
_Pieces = Generator[bytes, None, None]
# Of damaged or encrypted data: OSError and ValueError are the base classes of pyarrow's errors.
_ERRORS = (
    *(OSError, EOFError, zlib.error, ValueError, KeyError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError),
)


def decompress(path: Path, compression: str, member: str = "") -> BinaryIO:
    """Open the content of a gzip or zstd file, or of the file `member` of a ZIP archive.

    Reading raises ReadError where it is damaged.
    """
    raw = path.open("rb")
    return io.BufferedReader(
        _PieceStream(raw, _decompressed(path, raw, compression, member)), _BUFFER_BYTES
    )


def transcode(name: str, encoding: str, raw: BinaryIO) -> BinaryIO:
    """Return a text as UTF-8; reading raises ReadError where it cannot be decoded."""
    return io.BufferedReader(_PieceStream(raw, _transcoded(name, encoding, raw)), _BUFFER_BYTES)


def replace_cr(raw: BinaryIO) -> BinaryIO:
    """Return a text whose lines end in CR with LF instead."""
    pieces = (piece.replace(b"\r", b"\n") for piece in iter(lambda: raw.read(_PIECE_BYTES), b""))
    return io.BufferedReader(_PieceStream(raw, pieces), _BUFFER_BYTES)


class _PieceStream(io.RawIOBase):
    """Pieces that are made from `raw`, as a stream; closing it also closes `raw`."""

    def __init__(self, raw: BinaryIO, pieces: _Pieces) -> None:
        self.raw = raw
        self.pieces = pieces
        self.pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.pending = self.pending or next(self.pieces, b"")
        size = min(len(buffer), len(self.pending))
        buffer[:size] = self.pending[:size]
        self.pending = self.pending[size:]
        return size

    def close(self) -> None:
        self.pieces.close()
        self.raw.close()
        super().close()


def _open_compressed(raw: BinaryIO, compression: str, member: str) -> Any:
    """Return the decompressed stream; raises one of _ERRORS for damaged data."""
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if compression == "zip":
        return zipfile.ZipFile(raw).open(member)
    # Importing pyarrow takes 0.2 s, which other files do not need.
    import pyarrow as pa  # noqa: PLC0415

    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")


def _decompressed(path: Path, raw: BinaryIO, compression: str, member: str) -> _Pieces:
    try:
        with _open_compressed(raw, compression, member) as stream:
            limit = max(MAX_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
            size = 0
            while piece := stream.read(_PIECE_BYTES):
                size += len(piece)
                if size > limit:
                    raise _expands_too_much(path, limit)
                yield piece
    except _ERRORS as error:
        what = f"is compressed with {compression}, and the data is damaged or incomplete."
        remedy = "Compress or download it again."
        raise read_error(path.name, what, remedy, code="damaged-compression") from error


def _expands_too_much(path: Path, limit: int) -> ReadError:
    what = f"holds more than {human_bytes(limit)}, over {MAX_EXPANSION} times its size."
    remedy = "Decompress it, and use the file inside if it is yours."
    return read_error(path.name, what, remedy, code="expands-too-much")


def _transcoded(name: str, encoding: str, raw: BinaryIO) -> _Pieces:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    piece = raw.read(_PIECE_BYTES)
    while True:
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            reason = getattr(error, "reason", str(error))
            if isinstance(error, UnicodeDecodeError):
                line += error.object.count(b"\n", 0, error.start)
            what = f"is not valid {encoding.upper()} text ({reason})."
            remedy = "Save the file as UTF-8, or set `encoding` of the source."
            raise read_error(name, what, remedy, code="bad-encoding", line=line) from error
        line += text.count("\n")
        if text:
            # A lone surrogate is not valid UTF-8; the reader of the row reports its line.
            yield text.encode("utf-8", errors="surrogatepass")
        if not piece:
            return
        piece = raw.read(_PIECE_BYTES)
