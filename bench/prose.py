"""Natural prose in the public domain: the six novels of Jane Austen, 4.0 MB, by chapters.

They come with the Debian package r-cran-janeaustenr (texts of Project Gutenberg; nothing of it is
run, and R is not needed). Its lines are joined to paragraphs. Every twentieth chapter or so is held
out, by the hash of its text.

    python bench/prose.py FOLDER     write train.jsonl and held_out.jsonl
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "r-cran-janeaustenr"
MEMBER = "./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
HELD_OUT_SHARE = 0.05
# Of the text of version 1.0.0, chapters in their order.
SHA256 = "adf8408fbed0218e3325896095fa7a224b939cc2bbcb28d58c70894ae93ba94a"
HEADING = re.compile(r"(?m)^(?=\s*chapter\s+[0-9ivxlc]+\.?\s*$)", re.IGNORECASE)
# What R writes before the lines of a character vector in UTF-8, version 3: "X\n" and 12 bytes, the
# length of the name of the encoding, and the name.
R_HEADER = b"X\n"
R_ENCODING_AT = 14


@dataclass(frozen=True)
class Prose:
    """Chapters to train on, and chapters that are held out."""

    train: list[str]
    held_out: list[str]

    def gzip_bits(self) -> float:
        """Return the bits per byte that gzip needs for all chapters."""
        raw = "".join(self.train + self.held_out).encode()
        return 8 * len(gzip.compress(raw, 9)) / len(raw)


def novels() -> Prose:
    """Return the novels, from the package that apt-get downloads.

    Raises:
        RuntimeError: the package has another text than the one that was measured.
    """
    raw = member_of(downloaded(), MEMBER)
    chapters = [chapter for lines in r_vectors(raw) for chapter in chapters_of(lines)]
    if (found := hashlib.sha256("\0".join(chapters).encode()).hexdigest()) != SHA256:
        raise RuntimeError(f"{PACKAGE} has another text than the one measured: {found}")
    return divided(chapters)


def downloaded() -> bytes:
    """Return the package."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["apt-get", "download", PACKAGE]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (package,) = Path(folder).glob("*.deb")
        return package.read_bytes()


def divided(chapters: list[str]) -> Prose:
    """Return the chapters divided by the hash of their texts."""
    sides: tuple[list[str], list[str]] = ([], [])
    for chapter in chapters:
        digest = hashlib.sha256(chapter.encode()).digest()
        sides[int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64].append(chapter)
    return Prose(*sides)


def member_of(package: bytes, name: str) -> bytes:
    """Return a file of a Debian package: an ar archive with an archive data.tar.*."""
    at = len(b"!<arch>\n")
    while at < len(package):
        title, size = package[at : at + 16].strip(), int(package[at + 48 : at + 58])
        body = package[at + 60 : at + 60 + size]
        if title.startswith(b"data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                file = archive.extractfile(name)
                assert file is not None, "a regular file"
                return file.read()
        at += 60 + size + size % 2
    raise ValueError("The package has no data.")


def r_vectors(database: bytes) -> Iterator[list[str]]:
    """Yield the character vectors of a database of R for lazy loading.

    Each is its length, and then compressed as R serializes it, with big-endian numbers.
    """
    while database:
        stream = zlib.decompressobj()
        yield _strings(stream.decompress(database[4:]))
        database = stream.unused_data


def _strings(raw: bytes) -> list[str]:
    if not raw.startswith(R_HEADER):
        raise ValueError("Not a serialization of R.")
    (encoding,) = struct.unpack_from(">I", raw, R_ENCODING_AT)
    at = R_ENCODING_AT + 4 + encoding
    _kind, count = struct.unpack_from(">II", raw, at)
    at += 8
    lines = []
    for _ in range(count):
        _flags, length = struct.unpack_from(">II", raw, at)
        lines.append(raw[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return lines


def chapters_of(lines: list[str]) -> list[str]:
    """Return the chapters of a novel: paragraphs of one line each, divided by an empty line."""
    paragraphs = [
        " ".join(line.strip() for line in paragraph.split("\n")).strip()
        for paragraph in re.split(r"\n\s*\n", "\n".join(lines))
    ]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return [part.strip() + "\n" for part in HEADING.split(text) if part.strip()]


def write(prose: Prose, folder: Path) -> tuple[Path, Path]:
    """Write train.jsonl and held_out.jsonl, one document per line, and return their paths."""
    paths = (folder / "train.jsonl", folder / "held_out.jsonl")
    for path, chapters in zip(paths, (prose.train, prose.held_out), strict=True):
        lines = (json.dumps({"text": chapter}, ensure_ascii=False) for chapter in chapters)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def main(folder: Path) -> None:
    """Write the files and say how large they are."""
    prose = novels()
    folder.mkdir(parents=True, exist_ok=True)
    write(prose, folder)
    for name, chapters in (("train", prose.train), ("held out", prose.held_out)):
        size = sum(len(chapter.encode()) for chapter in chapters)
        print(f"{name}: {len(chapters)} chapters, {size:,} bytes")
    print(f"gzip: {prose.gzip_bits():.2f} bits per byte")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
