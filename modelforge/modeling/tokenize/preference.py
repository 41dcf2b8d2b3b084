"""Answers compared or judged, as tokens: the question both share, then each answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from trl.trainer.dpo_trainer import DataCollatorForPreference

from modelforge.modeling.tokenize.encode import IGNORED, Dialect, Encoded, encode
from modelforge.modeling.tokenize.options import Manner

_MODES = {"left": "keep_end", "right": "keep_start"}


@dataclass(frozen=True)
class Pair:
    """One preference as tokens; both answers follow the same question."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def sides(self) -> tuple[Encoded, Encoded]:
        """The better and the worse answer, each behind the question."""
        return _behind(self.prompt, self.chosen), _behind(self.prompt, self.rejected)

    def as_row(self) -> dict[str, list[int]]:
        """Return the columns that TRL's trainers of preferences read."""
        return {
            "prompt_ids": self.prompt,
            "chosen_ids": self.chosen,
            "rejected_ids": self.rejected,
        }


def encode_pair(row: dict[str, Any], dialect: Dialect) -> Pair | None:
    """Return a preference as tokens, or None where the template cannot write one of its answers.

    What follows the end token of an answer is left away, so that only the answer is compared.
    """
    better, worse = (_answered(row, row[part], dialect) for part in ("chosen", "rejected"))
    if better is None or worse is None:
        return None
    starts = min(_first(better), _first(worse))
    alike = zip(better.ids[:starts], worse.ids[:starts], strict=True)
    shared = sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], alike))
    return Pair(better.ids[:shared], better.ids[shared:], worse.ids[shared:])


def encode_judged(row: dict[str, Any], dialect: Dialect) -> Encoded | None:
    """Return a judged answer as tokens behind its question, or None as `encode_pair` does.

    What another than the model says within the answer is judged with it, as it is in a pair.
    """
    found = _answered(row, row["completion"], dialect)
    return _behind(found.ids[: _first(found)], found.ids[_first(found) :]) if found else None


def parted(answer: Encoded) -> tuple[list[int], list[int]]:
    """Return the question and the answer of what `encode_judged` gave, whole or cut."""
    begins = _first(answer)
    return answer.ids[:begins], answer.ids[begins:]


def undivided(manner: Manner) -> Manner:
    """Return the manner for answers that are compared: in pieces, only the first has a question."""
    truncation = "right" if manner.truncation == "split" else manner.truncation
    return replace(manner, truncation=truncation, left_whole=False)


def fits(pair: Pair, manner: Manner) -> bool:
    """Say whether a pair is trained on: something of both answers is left, or nothing is cut."""
    longest = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
    if longest <= manner.max_length:
        return True
    if manner.truncation == "delete":
        return False
    return manner.truncation == "left" or len(pair.prompt) < manner.max_length


def pair_collator(manner: Manner, pad: int) -> DataCollatorForPreference:
    """Return what lays pairs out as a batch and cuts them: the one that trains, and is shown."""
    return DataCollatorForPreference(
        pad_token_id=pad,
        max_length=manner.max_length,
        truncation_mode=_MODES.get(manner.truncation, "keep_start"),
    )


def collate_pairs(pairs: Sequence[Pair], manner: Manner, pad: int) -> dict[str, Any]:
    """Return the batch that DPO sees: the chosen rows first, then the rejected ones."""
    batch: dict[str, Any] = pair_collator(manner, pad)([pair.as_row() for pair in pairs])
    return batch


def _behind(question: list[int], answer: list[int]) -> Encoded:
    return Encoded([*question, *answer], [IGNORED] * len(question) + answer)


def _answered(
    row: dict[str, Any], answer: list[dict[str, Any]], dialect: Dialect
) -> Encoded | None:
    """Return question and answer as tokens, with only the turns of the answer trained."""
    question = row["prompt"]
    whole = {"messages": [*question, *answer]} | {k: row[k] for k in ("tools",) if k in row}
    earlier = sum(turn["role"] == "assistant" for turn in question)
    (found,) = encode([whole], dialect, after=earlier)
    if not found.trained:
        return None
    last = max(at for at, label in enumerate(found.labels) if label != IGNORED)
    return Encoded(found.ids[: last + 1], found.labels[: last + 1])


def _first(row: Encoded) -> int:
    return next(at for at, label in enumerate(row.labels) if label != IGNORED)
