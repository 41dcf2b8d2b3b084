"""Bits per byte by the bytes of each token: special tokens have none and are not counted.

Bits per byte is nats / (ln 2 x bytes), where `nats` is the summed loss of the predicted tokens and
`bytes` the length of the text that they stand for, in UTF-8. It does not depend on the vocabulary,
so models with different tokenizers can be compared.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch

IGNORED = -100
# SentencePiece writes a space as this character.
_SPACE = "\u2581"


def document_id(tokenizer: Any) -> int:
    """Return the token in front of every document: that of the beginning, else that of the end."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError("The tokenizer has neither a token of the beginning nor one of the end.")


def token_bytes(tokenizer: Any, vocab_size: int) -> torch.Tensor:
    """Return how many bytes of text each token stands for.

    Args:
        tokenizer: a fast tokenizer: byte-level BPE, or one of SentencePiece with byte fallback.
        vocab_size: rows of the embedding, at least the tokens of the tokenizer.

    Returns:
        (vocab_size,) int64; 0 for special tokens and for ids without a token.
    """
    sizes = torch.zeros(vocab_size, dtype=torch.int64)
    is_byte_level = _is_byte_level(tokenizer)
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids)
    for piece, token in tokenizer.get_vocab().items():
        if token in special or token >= vocab_size or (token in added and added[token].special):
            continue
        if token in added:
            sizes[token] = len(added[token].content.encode())
        else:
            sizes[token] = len(piece) if is_byte_level else _piece_bytes(piece)
    return sizes


class ByteMeter:
    """Adds up the batches of an evaluation; `sizes` are those of `token_bytes`."""

    def __init__(self, sizes: torch.Tensor) -> None:
        self._sizes = sizes
        self.reset()

    def reset(self) -> None:
        """Forget the last evaluation."""
        self._nats, self._bytes, self._tokens = 0.0, 0, 0

    def without_special(self, labels: torch.Tensor) -> torch.Tensor:
        """Return labels without those of special tokens, which are then -100.

        Args:
            labels: (batch, seq) int64, -100 where nothing is predicted.
        """
        sizes = self._sizes.to(labels.device)
        return labels.masked_fill(sizes[labels.clamp(min=0)] == 0, IGNORED)

    def add(self, loss: float, labels: torch.Tensor) -> None:
        """Add a batch by its mean loss in nats.

        Args:
            loss: mean over the labels that are not -100; any number where there are none.
            labels: (batch, seq) int64 from `without_special`, of the tokens that were predicted:
                those at the place of their prediction, not one further.
        """
        kept = labels[labels != IGNORED]
        if not len(kept):
            return
        self._nats += loss * len(kept)
        self._tokens += len(kept)
        self._bytes += int(self._sizes.to(kept.device)[kept].sum())

    @property
    def metrics(self) -> dict[str, float]:
        """`bits_per_byte` so far; empty without a byte or where the loss is not finite."""
        if not self._bytes or not math.isfinite(self._nats):
            return {}
        return {"bits_per_byte": self._nats / (math.log(2) * self._bytes)}

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of a token, on average; None before the first batch."""
        return self._bytes / self._tokens if self._tokens else None


def _is_byte_level(tokenizer: Any) -> bool:
    """Return whether each character of a piece stands for one byte, as in GPT-2."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    return any(part.get("type") == "ByteLevel" for part in parts)


def _piece_bytes(piece: str) -> int:
    """Return the bytes of a piece of SentencePiece: `<0x0A>` is one byte, and so is a space."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return 1
    return len(piece.replace(_SPACE, " ").encode())
