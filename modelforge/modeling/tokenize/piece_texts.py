"""The text of single tokens, as a person can read them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BROKEN = "\ufffd"
# No letter has more bytes than a few; after so many tokens the sign stands for itself.
LONGEST = 8


class PieceTexts:
    """Tells the text of tokens. Of those that share a letter the last one has it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Behind a letter a token keeps the space it begins with, which decoders drop in front.
        self._anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._before = len(self._decode(self._anchor))
        self._known: dict[int, str] = {}

    def of(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; empty for one that is only a part of a letter."""
        texts: list[str] = []
        waiting: list[int] = []
        for token in ids:
            waiting.append(token)
            text = self._text(waiting)
            if text.endswith(BROKEN) and len(waiting) < LONGEST:
                texts.append("")
                continue
            texts.append(text)
            waiting = []
        if waiting:
            texts[-1] = self._text(waiting)
        return texts

    def _text(self, ids: list[int]) -> str:
        if len(ids) > 1:
            return self._decode([*self._anchor, *ids])[self._before :]
        token = ids[0]
        if token not in self._known:
            self._known[token] = self._decode([*self._anchor, token])[self._before :]
        return self._known[token]

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
