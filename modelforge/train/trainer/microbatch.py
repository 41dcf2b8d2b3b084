"""A batch divided into smaller ones that mean the same together: by rows, or by documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.train.trainer.state import MEASURES

Batch = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """A part of a batch, with its share of the batch's rows and of the tokens that are learned."""

    inputs: Batch
    rows: float = 1.0
    tokens: float = 1.0


def divide(
    batch: Mapping[str, Any], most: int, times: int, *, sides: int = 1, shifts: bool = True
) -> list[Piece]:
    """Return the pieces of a batch when a full one of `most` rows is taken in `times` turns.

    A batch laid end to end is cut where a document begins. With two `sides` the first half of
    its rows is compared with the second, and pairs stay together. What cannot be divided is one
    piece. `shifts` says that the first token of a row is never learned, as nothing stands before.
    """
    if times <= 1:
        return [Piece(dict(batch))]
    parts = _by_documents(batch, times) if _is_end_to_end(batch) else None
    if parts is None:
        parts = _by_rows(batch, -(-most // times), sides)
    if len(parts) == 1:
        return [Piece(dict(batch))]
    sizes = [rows for _part, rows in parts]
    counts = [_trained(part, int(shifts)) for part, _rows in parts]
    learned = sum(counts) or 1
    return [
        Piece(part, rows / sum(sizes), count / learned)
        for (part, rows), count in zip(parts, counts, strict=True)
    ]


def _is_end_to_end(batch: Mapping[str, Any]) -> bool:
    # Such batches have no mask: positions that begin again tell the documents apart.
    return (
        "position_ids" in batch and "attention_mask" not in batch and len(batch["input_ids"]) == 1
    )


def _by_documents(batch: Mapping[str, Any], times: int) -> list[tuple[Batch, int]] | None:
    width = batch["input_ids"].shape[1]
    if any(_shape(value)[:2] != (1, width) for value in batch.values() if _shape(value)):
        return None
    begins = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*[begin for begin in begins if begin > 0], width]
    cuts, most = [0], -(-width // times)
    for at, end in enumerate(ends[:-1]):
        if ends[at + 1] - cuts[-1] > most:
            cuts.append(end)
    edges = zip(cuts, [*cuts[1:], width], strict=True)
    return [
        ({name: value[:, a:b] if _shape(value) else value for name, value in batch.items()}, b - a)
        for a, b in edges
    ]


def _by_rows(batch: Mapping[str, Any], size: int, sides: int) -> list[tuple[Batch, int]]:
    longest = max((_shape(value)[0] for value in batch.values() if _shape(value)), default=0)
    rows = longest // sides

    def part(value: Any, a: int, b: int) -> Any:
        many = _shape(value)[0] if _shape(value) else 0
        if sides == 2 and many == 2 * rows:
            return torch.cat([value[a:b], value[rows + a : rows + b]])
        return value[a:b] if many == rows else value

    return [
        (
            {name: part(value, at, min(at + size, rows)) for name, value in batch.items()},
            min(at + size, rows) - at,
        )
        for at in range(0, max(rows, 1), max(size, 1))
    ]


def _trained(part: Batch, first: int) -> int:
    labels = part.get("labels", part.get("chosen_labels"))
    if labels is not None:
        return int((labels[..., first:] != IGNORE_INDEX).sum())
    return int(part["completion_mask"].sum()) if "completion_mask" in part else 0


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


# What TRL measures over tokens, also where the loss is a mean over rows.
OF_TOKENS = ("entropy", "mean_token_accuracy")


def _measured(trainer: Any, mode: str) -> dict[str, list[Any]]:
    """Return the lists in which the trainer collects what it measures, by one name each."""
    return {
        f"{name}.{key}": values
        for name in MEASURES
        if name in vars(trainer)
        for key, values in vars(trainer)[name].get(mode, {}).items()
    }


def marks_of(trainer: Any, mode: str) -> dict[str, int]:
    """Return how long each list is by now."""
    return {name: len(values) for name, values in _measured(trainer, mode).items()}


def cut(trainer: Any, mode: str, marks: dict[str, int]) -> None:
    """Forget what was measured since then."""
    for name, values in _measured(trainer, mode).items():
        del values[marks.get(name, 0) :]


def merge(
    trainer: Any, mode: str, marks: dict[str, int], pieces: list[Piece], *, by_tokens: bool
) -> None:
    """Make one measurement of those of the pieces, as the whole batch would have given it."""
    if len(pieces) == 1:
        return
    for name, values in _measured(trainer, mode).items():
        at = marks.get(name, 0)
        fresh = values[at:]
        if len(fresh) != len(pieces):
            continue
        counts = by_tokens or name.endswith(OF_TOKENS)
        weights = [piece.tokens if counts else piece.rows for piece in pieces]
        least_or_most = min if ".min_" in name else max if ".max_" in name else None
        if least_or_most is not None:
            values[at:] = [least_or_most(fresh)]
        else:
            pairs = zip(fresh, weights, strict=True)
            values[at:] = [sum(value * weight for value, weight in pairs)]
