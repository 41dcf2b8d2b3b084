"""Split a batch into microbatches with the same total gradient, by rows or by documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.train.trainer.state import collected_metrics

Batch = dict[str, Any]


@dataclass(frozen=True)
class Microbatch:
    """A part of a batch, with its share of the batch's rows and of its trained tokens (0 to 1)."""

    inputs: Batch
    row_share: float = 1.0
    token_share: float = 1.0


def split_batch(
    batch: Mapping[str, Any], full_size: int, splits: int, *, sides: int = 1, shifts: bool = True
) -> list[Microbatch]:
    """Return the microbatches of a batch when a full one of `full_size` rows is cut in `splits`.

    A padding-free batch of shape (1, tokens) is cut where a document begins. With two `sides` the
    first half of the rows is compared with the second, and pairs stay together. A batch that
    cannot be split is returned whole.

    Args:
        batch: Tensors of shape (rows, ...), or (1, tokens) without an attention mask.
        full_size: Rows of a full batch; the last batch of an epoch may have fewer.
        splits: How many microbatches to make of a full batch.
        sides: 2 where rows of the first half belong to rows of the second half.
        shifts: Whether the first token of a row is never trained, as in a causal model.
    """
    if splits <= 1:
        return [Microbatch(dict(batch))]
    parts = _by_documents(batch, splits) if _is_padding_free(batch) else None
    if parts is None:
        parts = _by_rows(batch, -(-full_size // splits), sides)
    if len(parts) == 1:
        return [Microbatch(dict(batch))]
    total_rows = sum(rows for _part, rows in parts)
    counts = [_trained_tokens(part, int(shifts)) for part, _rows in parts]
    total_tokens = sum(counts) or 1
    return [
        Microbatch(part, rows / total_rows, count / total_tokens)
        for (part, rows), count in zip(parts, counts, strict=True)
    ]


def _is_padding_free(batch: Mapping[str, Any]) -> bool:
    # Such batches have no mask: a position of 0 begins a document.
    return (
        "position_ids" in batch and "attention_mask" not in batch and len(batch["input_ids"]) == 1
    )


def _by_documents(batch: Mapping[str, Any], splits: int) -> list[tuple[Batch, int]] | None:
    width = batch["input_ids"].shape[1]
    if any(_shape(value)[:2] != (1, width) for value in batch.values() if _shape(value)):
        return None
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*[start for start in starts if start > 0], width]
    cuts, limit = [0], -(-width // splits)
    for index, end in enumerate(ends[:-1]):
        if ends[index + 1] - cuts[-1] > limit:
            cuts.append(end)
    return [
        (
            {name: value[:, a:b] if _shape(value) else value for name, value in batch.items()},
            b - a,
        )
        for a, b in zip(cuts, [*cuts[1:], width], strict=True)
    ]


def _by_rows(batch: Mapping[str, Any], size: int, sides: int) -> list[tuple[Batch, int]]:
    longest = max((_shape(value)[0] for value in batch.values() if _shape(value)), default=0)
    rows = longest // sides

    def part(value: Any, a: int, b: int) -> Any:
        count = _shape(value)[0] if _shape(value) else 0
        if sides == 2 and count == 2 * rows:
            return torch.cat([value[a:b], value[rows + a : rows + b]])
        return value[a:b] if count == rows else value

    parts = []
    for start in range(0, max(rows, 1), max(size, 1)):
        end = min(start + size, rows)
        inputs = {name: part(value, start, end) for name, value in batch.items()}
        parts.append((inputs, end - start))
    return parts


def _trained_tokens(part: Batch, first: int) -> int:
    labels = part.get("labels", part.get("chosen_labels"))
    if labels is not None:
        return int((labels[..., first:] != IGNORE_INDEX).sum())
    return int(part["completion_mask"].sum()) if "completion_mask" in part else 0


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


# Metrics that TRL averages over tokens, also where the loss is a mean over rows.
TOKEN_METRICS = ("entropy", "mean_token_accuracy")


def metric_lengths(trainer: Any, mode: str) -> dict[str, int]:
    """Return how many values each metric has since the last log line."""
    return {name: len(values) for name, values in _metric_lists(trainer, mode).items()}


def truncate_metrics(trainer: Any, mode: str, lengths: dict[str, int]) -> None:
    """Drop the values that were added after `lengths` was taken."""
    for name, values in _metric_lists(trainer, mode).items():
        del values[lengths.get(name, 0) :]


def merge_metrics(
    trainer: Any, mode: str, lengths: dict[str, int], parts: list[Microbatch], *, by_tokens: bool
) -> None:
    """Replace the values of the microbatches by the value of their batch."""
    if len(parts) == 1:
        return
    for name, values in _metric_lists(trainer, mode).items():
        start = lengths.get(name, 0)
        added = values[start:]
        if len(added) != len(parts):
            continue
        values[start:] = [_merged(name, added, parts, by_tokens=by_tokens)]


def _merged(name: str, values: list[Any], parts: list[Microbatch], *, by_tokens: bool) -> Any:
    if ".min_" in name:
        return min(values)
    if ".max_" in name:
        return max(values)
    is_token_mean = by_tokens or name.endswith(TOKEN_METRICS)
    weights = [part.token_share if is_token_mean else part.row_share for part in parts]
    return sum(value * weight for value, weight in zip(values, weights, strict=True))


def _metric_lists(trainer: Any, mode: str) -> dict[str, list[Any]]:
    return {
        f"{name}.{key}": values
        for name, collected in collected_metrics(trainer).items()
        for key, values in collected.get(mode, {}).items()
    }
