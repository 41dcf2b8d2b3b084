"""Packed and foreign text read as UTF-8, a piece at a time: gzip, zstd, UTF-16, Latin-1."""

from __future__ import annotations

import codecs
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from modelforge.data.formats.errors import ReadError, read_error

COMPRESSIONS = (("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd"))
_PIECE = 2**16


class DecompressedStream(io.RawIOBase):
    """The bytes inside a gzip or zstd file; damage is told in words."""

    def __init__(self, path: Path, raw: BinaryIO, packing: str) -> None:
        self.path = path
        self.packing = packing
        self.raw = raw
        self.stream = _opened(raw, packing)
        self.errors = _errors(packing)

    def readable(self) -> bool:
        """Say that it is read from."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the front; zero at the end."""
        try:
            piece = self.stream.read(min(len(buffer), _PIECE))
        except self.errors as error:
            raise _damaged(self.path, self.packing) from error
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close the file below as well."""
        if not self.closed:
            self.stream.close()
            self.raw.close()
        super().close()


class TranscodedStream(io.RawIOBase):
    """Text in another encoding read as UTF-8."""

    def __init__(self, name: str, encoding: str, raw: BinaryIO) -> None:
        self.name = name
        self.encoding = encoding
        self.raw = raw
        self.decoder = codecs.getincrementaldecoder(encoding)("strict")
        self.waiting = b""
        self.line = 1

    def readable(self) -> bool:
        """Say that it is read from."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the front; zero at the end."""
        while not self.waiting:
            piece = self.raw.read(_PIECE)
            try:
                text = self.decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                what = f"is not {self.encoding.upper()} text ({error.reason})."
                remedy = "Save the file as UTF-8."
                raise read_error(
                    self.name, what, remedy, code="bad-encoding", line=self.line
                ) from error
            self.line += text.count("\n")
            # A lone surrogate cannot be UTF-8; the reader of the row names its line.
            self.waiting = text.encode("utf-8", errors="surrogatepass")
            if not piece:
                break
        size = min(len(buffer), len(self.waiting))
        buffer[:size] = self.waiting[:size]
        self.waiting = self.waiting[size:]
        return size

    def close(self) -> None:
        """Close the file below as well."""
        self.raw.close()
        super().close()


def read_decompressed_head(path: Path, packing: str, size: int) -> bytes:
    """Return the first `size` bytes inside; raises DataError when the packing is damaged."""
    with path.open("rb") as raw, DecompressedStream(path, raw, packing) as stream:
        pieces = bytearray()
        while len(pieces) < size and (piece := stream.read(_PIECE)):
            pieces += piece
        return bytes(pieces)


def _opened(raw: BinaryIO, packing: str) -> Any:
    if packing == "gzip":
        import gzip  # noqa: PLC0415

        return gzip.GzipFile(fileobj=raw, mode="rb")
    # pyarrow costs 0.2 s, which the other files need not pay.
    import pyarrow as pa  # noqa: PLC0415

    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")


def _errors(packing: str) -> tuple[type[Exception], ...]:
    if packing == "gzip":
        return (OSError, EOFError, zlib.error)
    return (OSError, ValueError)  # pyarrow's own are both


def _damaged(path: Path, packing: str) -> ReadError:
    what = f"is packed with {packing}, and the packing is damaged or cut off."
    return read_error(path.name, what, "Pack or download it again.", code="damaged-packing")
