"""Streams that decompress gzip and zstd, and convert text to UTF-8 piece by piece."""

from __future__ import annotations

import codecs
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from modelforge.data.formats.errors import ReadError, read_error
from modelforge.units import KIB

COMPRESSIONS = (("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd"))
COMPRESSION_SUFFIXES = (".gz", ".zst", ".gzip", ".zstd")
_PIECE_BYTES = 64 * KIB


class DecompressedStream(io.RawIOBase):
    """The content of a gzip or zstd file; raises ReadError where it is damaged."""

    def __init__(self, path: Path, raw: BinaryIO, compression: str) -> None:
        self.path = path
        self.compression = compression
        self.raw = raw
        self.stream = _open(raw, compression)
        self.errors = _errors(compression)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; return the number of bytes, 0 at the end."""
        try:
            piece = self.stream.read(min(len(buffer), _PIECE_BYTES))
        except self.errors as error:
            raise _damaged(self.path, self.compression) from error
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close the stream and the file below it."""
        if not self.closed:
            self.stream.close()
            self.raw.close()
        super().close()


class TranscodedStream(io.RawIOBase):
    """Text in another encoding as UTF-8; raises ReadError where it cannot be decoded."""

    def __init__(self, name: str, encoding: str, raw: BinaryIO) -> None:
        self.name = name
        self.encoding = encoding
        self.raw = raw
        self.decoder = codecs.getincrementaldecoder(encoding)("strict")
        self.pending = b""
        self.line = 1

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; return the number of bytes, 0 at the end."""
        while not self.pending:
            piece = self.raw.read(_PIECE_BYTES)
            text = self._decode(piece)
            self.line += text.count("\n")
            # A lone surrogate is not valid UTF-8; the reader of the row reports its line.
            self.pending = text.encode("utf-8", errors="surrogatepass")
            if not piece:
                break
        size = min(len(buffer), len(self.pending))
        buffer[:size] = self.pending[:size]
        self.pending = self.pending[size:]
        return size

    def _decode(self, piece: bytes) -> str:
        try:
            return self.decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            reason = getattr(error, "reason", str(error))
            line = self.line
            if isinstance(error, UnicodeDecodeError):
                line += error.object.count(b"\n", 0, error.start)
            what = f"is not valid {self.encoding.upper()} text ({reason})."
            remedy = "Save the file as UTF-8, or set `encoding` of the source."
            raise read_error(self.name, what, remedy, code="bad-encoding", line=line) from error

    def close(self) -> None:
        """Close the stream and the file below it."""
        self.raw.close()
        super().close()


def read_decompressed_head(path: Path, compression: str, size: int) -> bytes:
    """Return the first `size` bytes of the content; raises ReadError if it is damaged."""
    head = bytearray()
    with path.open("rb") as raw, DecompressedStream(path, raw, compression) as stream:
        while len(head) < size:
            piece = stream.read(_PIECE_BYTES)
            if not piece:
                break
            head += piece
    return bytes(head)


def _open(raw: BinaryIO, compression: str) -> Any:
    if compression == "gzip":
        import gzip  # noqa: PLC0415

        return gzip.GzipFile(fileobj=raw, mode="rb")
    # Importing pyarrow takes 0.2 s, which other files do not need.
    import pyarrow as pa  # noqa: PLC0415

    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")


def _errors(compression: str) -> tuple[type[Exception], ...]:
    if compression == "gzip":
        return (OSError, EOFError, zlib.error)
    return (OSError, ValueError)  # the base classes of pyarrow's errors


def _damaged(path: Path, compression: str) -> ReadError:
    what = f"is compressed with {compression}, and the data is damaged or incomplete."
    remedy = "Compress or download it again."
    return read_error(path.name, what, remedy, code="damaged-compression")
