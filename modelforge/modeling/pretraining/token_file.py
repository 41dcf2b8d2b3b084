"""Token files: the documents of a corpus as one row of token ids on disk.

A corpus may be larger than memory: documents are tokenized in groups and written at once, and read
through a memory map. Each document begins with the document token. Nothing is cut off: windows of
the context follow one another, and each token but the first of the file is predicted once.

TOKENS.bin     ids, little-endian uint16, or uint32 for vocabularies of more than 65,536 tokens
TOKENS.json    how many tokens, documents and bytes of text, and the hash of the texts
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from modelforge.errors import DataError, Problem
from modelforge.runs.atomic_files import write_json

# Documents are tokenized in groups of so many, or of so many characters if they are long: a token
# takes some hundred bytes of memory meanwhile.
GROUP, GROUP_CHARACTERS = 512, 500_000
# Of a million documents, how many go to the evaluation for each per mille.
_BUCKETS = 1_000_000
# Longer documents are divided, so that a single long text has parts for the evaluation, too.
PART_CHARACTERS = 20_000


class Encoder(Protocol):
    """Turns texts into token ids, without special tokens."""

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text."""


@dataclass(frozen=True)
class TokenFileFacts:
    """What a token file holds.

    Attributes:
        tokens: ids in the file, document tokens included.
        documents: documents, or parts of long ones.
        text_bytes: UTF-8 bytes of the texts.
        sha256: hash of the texts in their order.
        item_bytes: 2 or 4 bytes per id.
    """

    tokens: int
    documents: int
    text_bytes: int
    sha256: str
    item_bytes: int


def is_held_out(text: str, share: float) -> bool:
    """Return whether a document is evaluated instead of trained: by its hash alone.

    The same text is always on the same side, wherever it stands and however often.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _BUCKETS < share * _BUCKETS


def parts_of(text: str, size: int = PART_CHARACTERS) -> list[str]:
    """Divide a text into parts of at least `size` characters, each up to the end of a line.

    Joined they are the text. A last part of less than half the size stays with the one before.
    """
    parts, start = [], 0
    while len(text) - start > size + size // 2:
        end = text.find("\n", start + size)
        if end < 0:
            break
        parts.append(text[start : end + 1])
        start = end + 1
    if start < len(text) or not parts:
        parts.append(text[start:])
    return parts


def write_token_file(
    path: Path,
    texts: Iterable[str],
    encode: Encoder,
    *,
    document_id: int,
    vocab_size: int,
    tell: Callable[[int], None] = lambda _: None,
) -> TokenFileFacts:
    """Tokenize documents into `path` (.bin), with its facts beside it; `tell` gets the tokens.

    Raises OSError where the disk is full, RunError where the facts cannot be written.
    """
    kind = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    tokens = documents = text_bytes = 0
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for group in _groups(texts):
            for text, ids in zip(group, encode(group), strict=True):
                raw = text.encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "big") + raw)
                text_bytes += len(raw)
                # The error of `tofile` on a full disk does not say that it is full.
                file.write(np.asarray([document_id, *ids], kind).tobytes())
                tokens += len(ids) + 1
            documents += len(group)
            tell(tokens)
    facts = TokenFileFacts(tokens, documents, text_bytes, digest.hexdigest(), kind.itemsize)
    # A process may be killed at any time: a file with facts is complete.
    write_json(path.with_suffix(".json"), asdict(facts))
    return facts


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    characters = 0
    for text in texts:
        group.append(text)
        characters += len(text)
        if len(group) >= GROUP or characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def read_facts(path: Path) -> TokenFileFacts:
    """Return the facts of a token file; raises OSError or ValueError where it is damaged."""
    return TokenFileFacts(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))


class TokenWindows:
    """The windows of a token file, as a map-style dataset.

    Window i has the tokens from i × context, and as its targets those one position further:
    `input_ids` and `shift_labels`, both (context,) int64. Tokens behind the last whole window
    are left over, fewer than the context.
    """

    def __init__(self, path: Path, context: int) -> None:
        """Open a token file.

        Raises:
            DataError: the text has fewer tokens than one window needs.
        """
        facts = read_facts(path)
        if facts.tokens <= context:
            raise DataError(
                Problem(
                    "dataset",
                    f"The text has {facts.tokens:,} tokens; one context needs {context + 1:,}.",
                    "Add text, or set a shorter context (max_seq_length).",
                )
            )
        self.facts, self.context = facts, context
        self._tokens = np.memmap(path, np.dtype(f"<u{facts.item_bytes}"), "r")

    def __len__(self) -> int:
        return (self.facts.tokens - 1) // self.context

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self.context
        ids = self._tokens[start : start + self.context + 1].astype(np.int64)
        return {"input_ids": ids[:-1], "shift_labels": ids[1:]}
