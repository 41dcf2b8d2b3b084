"""Tokenize preference data: pairs for DPO and ORPO, single labelled completions for KTO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import pyarrow as pa
from datasets import Dataset
from trl.trainer.dpo_trainer import DataCollatorForPreference

from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.counters import TokenizeCounts, has_reasoning
from modelforge.modeling.tokenize.dataset import (
    DatasetRequest,
    Progress,
    ReservoirSample,
    TableBuilder,
    Tokenized,
    finish,
    iter_split_rows,
)
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample, encode
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate

_TRUNCATION_MODES = {"left": "keep_end", "right": "keep_start"}
_IDS = pa.list_(pa.int32())
# Batches are grouped by `length`.
_PAIR_SCHEMA = pa.schema(
    {"prompt_ids": _IDS, "chosen_ids": _IDS, "rejected_ids": _IDS, "length": pa.int32()}
)
_UNPAIRED_SCHEMA = pa.schema({"prompt_ids": _IDS, "completion_ids": _IDS, "label": pa.bool_()})

Columns = dict[str, Any]


@dataclass(frozen=True)
class PreferencePair:
    """Token ids of a prompt and of two completions of it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def sides(self) -> tuple[TokenizedExample, TokenizedExample]:
        """Prompt with chosen completion, and prompt with rejected completion."""
        return _example(self.prompt, self.chosen), _example(self.prompt, self.rejected)

    def as_columns(self) -> dict[str, list[int]]:
        """Return the columns of TRL's preference trainers."""
        return {
            "prompt_ids": self.prompt,
            "chosen_ids": self.chosen,
            "rejected_ids": self.rejected,
        }


def tokenize_pairs(
    request: DatasetRequest, template: ChatTemplate, progress: Progress
) -> Tokenized:
    """Tokenize all pairs; TRL's collator truncates them.

    Raises:
        WorkerError: No pair is left, or a row is not a pair.
    """
    return _tokenize(request, template, progress, _PAIR_SCHEMA, _pair_columns)


def tokenize_unpaired(
    request: DatasetRequest, template: ChatTemplate, progress: Progress
) -> Tokenized:
    """Tokenize and truncate labelled completions; a pair becomes a good and a bad one.

    They are shuffled by the seed, because KTO compares each with its neighbour in the dataset.

    Raises:
        WorkerError: No completion is left, or a row is neither labelled nor a pair.
    """
    tokenized = _tokenize(request, template, progress, _UNPAIRED_SCHEMA, _unpaired_columns)
    tokenized.train = _shuffled(tokenized.train, request.seed)
    if tokenized.eval is not None:
        tokenized.eval = _shuffled(tokenized.eval, request.seed)
    return tokenized


def encode_pair(row: dict[str, Any], template: ChatTemplate) -> PreferencePair | None:
    """Encode a pair, or return None if the template refuses one of its completions.

    Text that the template writes after the end token of a completion is dropped.
    """
    chosen, rejected = (_answered(row, row[side], template) for side in ("chosen", "rejected"))
    if chosen is None or rejected is None:
        return None
    start = min(_completion_start(chosen), _completion_start(rejected))
    both = zip(chosen.input_ids[:start], rejected.input_ids[:start], strict=True)
    shared = sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], both))
    return PreferencePair(
        chosen.input_ids[:shared], chosen.input_ids[shared:], rejected.input_ids[shared:]
    )


def encode_unpaired(row: dict[str, Any], template: ChatTemplate) -> TokenizedExample | None:
    """Encode prompt and labelled completion, or return None as `encode_pair` does.

    Messages of other roles within the completion are trained with it, as in a pair.
    """
    answered = _answered(row, row["completion"], template)
    return _example(*split_prompt(answered)) if answered else None


def split_prompt(example: TokenizedExample) -> tuple[list[int], list[int]]:
    """Return the token ids of prompt and completion, before or after truncation."""
    start = _completion_start(example)
    return example.input_ids[:start], example.input_ids[start:]


def without_split(options: TokenizeOptions) -> TokenizeOptions:
    """Return the options without "split" and packing: only the first part would have a prompt."""
    truncation = "right" if options.truncation == "split" else options.truncation
    return replace(options, truncation=truncation, packing_truncates=False)


def fits(pair: PreferencePair, options: TokenizeOptions) -> bool:
    """Return whether truncation leaves something of both completions."""
    longest = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
    if longest <= options.max_length:
        return True
    if options.truncation == "delete":
        return False
    return options.truncation == "left" or len(pair.prompt) < options.max_length


def pair_collator(options: TokenizeOptions, pad: int) -> DataCollatorForPreference:
    """Return TRL's collator that truncates and pads pairs."""
    return DataCollatorForPreference(
        pad_token_id=pad,
        max_length=options.max_length,
        truncation_mode=_TRUNCATION_MODES.get(options.truncation, "keep_start"),
    )


def collate_pairs(
    pairs: Sequence[PreferencePair], options: TokenizeOptions, pad: int
) -> dict[str, Any]:
    """Return DPO's batch of n pairs: rows 0 to n-1 are chosen, n to 2n-1 rejected.

    Returns:
        `input_ids`, `attention_mask` and `completion_mask`, each (2n, seq) int64.
    """
    batch: dict[str, Any] = pair_collator(options, pad)([pair.as_columns() for pair in pairs])
    return batch


def _pair_columns(
    row: Canonical, template: ChatTemplate, options: TokenizeOptions, counts: TokenizeCounts
) -> Iterator[Columns]:
    """Yield the pair unless it is left out."""
    if "chosen" not in row:
        raise WorkerError("wrong-kind", _not_a_pair())
    pair = encode_pair(row, template)
    length = max(len(side.input_ids) for side in pair.sides) if pair else 0
    is_long = length > options.max_length
    is_kept = pair is not None and fits(pair, options)
    counts.rows += 1
    counts.truncated += is_long
    counts.dropped += not is_kept and not (is_long and options.truncation == "delete")
    counts.with_tools += "tools" in row
    counts.with_reasoning += has_reasoning(row)
    if pair is None or not is_kept:
        return
    for part in (part for side in pair.sides for part in options.truncate(side)):
        counts.trained_tokens += part.trained_tokens
        counts.all_tokens += len(part.input_ids)
    yield {**pair.as_columns(), "length": length}


def _unpaired_columns(
    row: Canonical, template: ChatTemplate, options: TokenizeOptions, counts: TokenizeCounts
) -> Iterator[Columns]:
    """Yield the completion, or both completions of a pair, with their labels."""
    for labelled in _labelled_rows(row):
        example = encode_unpaired(labelled, template) or TokenizedExample([], [])
        for part in counts.add(labelled, example, options):
            prompt, completion = split_prompt(part)
            yield {"prompt_ids": prompt, "completion_ids": completion, "label": labelled["label"]}


def _tokenize(
    request: DatasetRequest,
    template: ChatTemplate,
    progress: Progress,
    schema: pa.Schema,
    columns: Callable[..., Iterator[Columns]],
) -> Tokenized:
    request = replace(request, options=without_split(request.options))
    splits = TableBuilder(schema), TableBuilder(schema)
    sample = ReservoirSample(request.keep_eval_rows, request.seed)
    for row, is_eval in iter_split_rows(request, progress):
        split = splits[is_eval]
        for part in columns(row, template, request.options, split.counts):
            split.add(part)
        if is_eval:
            sample.add(row)
    return finish(splits, request, template, sample.rows)


def _labelled_rows(row: Canonical) -> Iterator[Canonical]:
    if "completion" in row:
        yield row
        return
    if "chosen" not in row:
        raise WorkerError("wrong-kind", _not_labelled())
    shared: Canonical = {name: row[name] for name in ("prompt", "tools") if name in row}
    yield {**shared, "completion": row["chosen"], "label": True}
    yield {**shared, "completion": row["rejected"], "label": False}


def _example(prompt: list[int], completion: list[int]) -> TokenizedExample:
    return TokenizedExample([*prompt, *completion], [IGNORE_INDEX] * len(prompt) + completion)


def _answered(
    row: dict[str, Any], completion: list[dict[str, Any]], template: ChatTemplate
) -> TokenizedExample | None:
    """Encode prompt and completion, with only the completion's messages trained."""
    prompt = row["prompt"]
    chat: dict[str, Any] = {"messages": [*prompt, *completion]}
    if "tools" in row:
        chat["tools"] = row["tools"]
    earlier = sum(message["role"] == "assistant" for message in prompt)
    (example,) = encode([chat], template, skip_answers=earlier)
    if not example.trained_tokens:
        return None
    end = 1 + max(at for at, label in enumerate(example.labels) if label != IGNORE_INDEX)
    return TokenizedExample(example.input_ids[:end], example.labels[:end])


def _completion_start(example: TokenizedExample) -> int:
    return next(at for at, label in enumerate(example.labels) if label != IGNORE_INDEX)


def _shuffled(dataset: Dataset, seed: int) -> Dataset:
    shuffled = dataset.shuffle(seed=seed, keep_in_memory=True)
    return shuffled.flatten_indices(keep_in_memory=True)


def _not_a_pair() -> Problem:
    return Problem(
        "dataset",
        "A row is not a pair of a chosen and a rejected completion, which this loss compares.",
        "Give rows with prompt, chosen and rejected; for completions marked good or bad choose "
        "the preference loss kto.",
    )


def _not_labelled() -> Problem:
    return Problem(
        "dataset",
        "A row is neither a completion marked good or bad nor a pair of completions.",
        "Give rows with prompt, completion and label, or with prompt, chosen and rejected.",
    )
