"""What held-out text costs a model that writes: perplexity, and bits per byte.

Perplexity is exp(nats / tokens) and bits per byte is nats / (ln 2 x bytes), where `nats` is the sum
of the losses of all trained tokens of the held-out rows and `bytes` the length of their text in
UTF-8. Special tokens, such as the one that ends an answer, have no bytes; what they cost is
counted. Bits per byte do not depend on how a tokenizer cuts text, so that models with different
ones can be compared: Gao et al., The Pile, 2020, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

from modelforge.modeling.tokenize.encode import IGNORE_INDEX

BATCH = 256


class PerplexityMeter:
    """Adds up batches of held-out rows whose trained texts have so many bytes in all."""

    def __init__(self, size: int) -> None:
        self._bytes = size
        self._nats = 0.0
        self._tokens = 0

    def reset(self) -> None:
        """Forget the last evaluation."""
        self._nats, self._tokens = 0.0, 0

    def add(self, loss: float, labels: Any) -> None:
        """Add a batch: its mean loss, and the labels that it is the mean over."""
        # Nothing comes before the first token, so no model is asked for it.
        tokens = int((labels[..., 1:] != IGNORE_INDEX).sum())
        self._nats += loss * tokens
        self._tokens += tokens

    @property
    def metrics(self) -> dict[str, float]:
        """Return what was measured; nothing without a token or a byte."""
        if not self._tokens or not self._bytes or not math.isfinite(self._nats):
            return {}
        mean = self._nats / self._tokens
        return {
            # Past this a float has no room, and no model is worse.
            "perplexity": math.exp(min(mean, 700.0)),
            "bits_per_byte": self._nats / (math.log(2) * self._bytes),
        }


def count_text_bytes(labels: Iterable[list[int]], tokenizer: Any) -> int:
    """Return the bytes of what is trained in these rows, without special tokens."""
    total = 0
    rows = iter(labels)
    while batch := list(islice(rows, BATCH)):
        written = [[token for token in row[1:] if token != IGNORE_INDEX] for row in batch]
        texts = tokenizer.batch_decode(
            written, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        total += sum(len(text.encode()) for text in texts)
    return total
