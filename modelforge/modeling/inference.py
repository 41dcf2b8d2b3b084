"""Losses of given answers and greedy answers of a model, in batches of similar length.

Sequences are padded on the left, so that the answers of a batch end together: one forward pass
computes the logits of a window at its end, and generated tokens follow their prompts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, StoppingCriteriaList

from modelforge.modeling.generate import StopCriteria
from modelforge.modeling.tokenize.encode import IGNORE_INDEX

# Logits of a batch: 128 MiB in 32 bits.
LOGITS = 2**25
# Tokens of a batch, which hold activations and a key-value cache.
BATCH_TOKENS = 16_384
MAX_BATCH = 32
# Losses with and without a cached prefix agree up to rounding.
PREFIX_TOLERANCE = 2e-3
# A cache is tried with so many tokens of the prefix.
TRIED_TOKENS = 256

OnLosses = Callable[[Sequence[int], Sequence["Loss"]], None]
OnAnswers = Callable[[Sequence[int], Sequence["Generated"]], None]


@dataclass(frozen=True)
class Labelled:
    """Token ids and labels of one sequence; labels are -100 where no loss is computed.

    For an encoder-decoder, `ids` are those of the encoder and `labels` those of the decoder.
    """

    ids: list[int]
    labels: list[int]

    @property
    def window(self) -> int:
        """The number of positions at the end from the first label to the last token."""
        first = next((at for at, label in enumerate(self.labels) if label != IGNORE_INDEX), None)
        return 0 if first is None else len(self.labels) - first


@dataclass(frozen=True)
class Loss:
    """The summed negative log-likelihood in nats, and the number of tokens with a loss."""

    nats: float
    tokens: int

    @property
    def mean(self) -> float:
        """The mean loss per token in nats."""
        return self.nats / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Generated:
    """The ids of an answer without the token that ends it, and whether it was cut off."""

    ids: list[int]
    is_cut: bool


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding: the ids that end an answer, the padding id, and the most new tokens."""

    stops: tuple[int, ...]
    pad: int
    max_new_tokens: int


class LanguageModel:
    """A causal model or an encoder-decoder in evaluation mode, on its device.

    `prefix` are token ids in front of every sequence. Their key-value cache is computed once where
    that gives the same losses, which is tried with the first sequence.
    """

    def __init__(
        self,
        model: Any,
        *,
        pad: int,
        head: Literal["causal", "seq2seq"] = "causal",
        prefix: Sequence[int] = (),
    ) -> None:
        self._model, self._pad, self._head = model, pad, head
        self._prefix = list(prefix)
        self._cache: Any = None
        self._tried = len(self._prefix) < 2
        self._vocabulary = model.get_input_embeddings().weight.shape[0]

    def set_prefix(self, prefix: Sequence[int]) -> None:
        """Put other token ids in front; they are cached if those before were."""
        self._prefix = list(prefix)
        if self._cache is not None:
            with torch.inference_mode():
                self._cache = self._cached()

    def losses(
        self, rows: Sequence[Labelled], on_batch: OnLosses = lambda _rows, _losses: None
    ) -> list[Loss]:
        """Return the loss of each sequence.

        `on_batch` gets the indices and the losses of each finished batch.
        """
        losses = [Loss(0.0, 0)] * len(rows)
        if rows and not self._tried:
            self._try_cache(rows[0])
        for batch in self._loss_batches(rows):
            with torch.inference_mode():
                new = self._batch_losses([rows[index] for index in batch])
            for index, loss in zip(batch, new, strict=True):
                losses[index] = loss
            on_batch(batch, new)
        return losses

    def greedy(
        self,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        on_batch: OnAnswers = lambda _rows, _new: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Generated]:
        """Return the greedy answer to each prompt.

        `on_batch` gets the indices and answers of each finished batch; `should_stop` is asked at
        every token, and leaves the rest of the answers empty.
        """
        answers = [Generated([], is_cut=True)] * len(prompts)
        if prompts and not self._tried:
            self._try_cache(Labelled(prompts[0], [IGNORE_INDEX, *prompts[0][1:]]))
        for batch in self._answer_batches(prompts, decoding.max_new_tokens):
            if should_stop():
                break
            with torch.inference_mode():
                new = self._generate([prompts[index] for index in batch], decoding, should_stop)
            for index, answer in zip(batch, new, strict=True):
                answers[index] = answer
            on_batch(batch, new)
        return answers

    def _loss_batches(self, rows: Sequence[Labelled]) -> Iterator[list[int]]:
        """Yield indices of rows of similar length, as many as the logits of one window allow."""
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), rows[i].window))
        batch: list[int] = []
        window = 0
        for index in order:
            row = rows[index]
            window = max(window, row.window + 1)
            tokens = (len(batch) + 1) * (len(row.ids) + len(self._prefix))
            is_full = (len(batch) + 1) * window * self._vocabulary > LOGITS or tokens > BATCH_TOKENS
            if batch and (is_full or len(batch) >= MAX_BATCH):
                yield batch
                batch, window = [], row.window + 1
            batch.append(index)
        if batch:
            yield batch

    def _batch_losses(self, rows: list[Labelled]) -> list[Loss]:
        if self._head == "seq2seq":
            return self._decoder_losses(rows)
        logits = self._logits([row.ids for row in rows], 1 + max(row.window for row in rows))
        # The first token of a sequence is not predicted, also where a prefix would predict it.
        labels = _left(
            [[IGNORE_INDEX, *row.labels[1:]] for row in rows], IGNORE_INDEX, self._device
        )
        return _sums(logits[:, :-1], labels[:, labels.shape[1] - logits.shape[1] + 1 :])

    def _decoder_losses(self, rows: list[Labelled]) -> list[Loss]:
        ids = pad_sequence(_tensors([row.ids for row in rows]), True, self._pad).to(self._device)
        lengths = torch.tensor([len(row.ids) for row in rows], device=self._device)
        mask = (torch.arange(ids.shape[1], device=self._device) < lengths[:, None]).long()
        targets = pad_sequence(_tensors([row.labels for row in rows]), True, IGNORE_INDEX)
        targets = targets.to(self._device)
        logits = self._model(input_ids=ids, attention_mask=mask, labels=targets).logits
        return _sums(logits, targets)

    def _logits(self, rows: list[list[int]], kept: int) -> torch.Tensor:
        """Return the logits (batch, kept, vocabulary) at the ends of sequences, or all of them."""
        kept = min(kept, max(map(len, rows)))
        inputs = self._inputs(rows)
        output = self._model(**inputs, logits_to_keep=kept, use_cache="past_key_values" in inputs)
        return output.logits[:, -kept:]

    def _inputs(self, rows: list[list[int]]) -> dict[str, Any]:
        """Return ids, mask and positions, padded on the left behind what is cached."""
        # The last token of the prefix stays, to predict the first one of each sequence.
        known = self._prefix[-1:] if self._cache is not None else self._prefix
        ids = _left([[*known, *row] for row in rows], self._pad, self._device)
        mask = _left([[1] * (len(known) + len(row)) for row in rows], 0, self._device)
        if self._cache is None:
            return {"input_ids": ids, "attention_mask": mask, "position_ids": _positions(mask)}
        front = torch.ones(len(rows), len(self._prefix) - 1, dtype=mask.dtype, device=self._device)
        mask = torch.cat([front, mask], dim=1)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": _positions(mask)[:, -ids.shape[1] :],
            "past_key_values": self._cache_for(len(rows)),
        }

    def _cache_for(self, count: int) -> Any:
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(count)
        return cache

    def _try_cache(self, row: Labelled) -> None:
        """Cache the prefix if losses with a cache of its beginning are those without."""
        self._tried = True
        whole = self._prefix
        self._prefix = whole[:TRIED_TOKENS]
        try:
            with torch.inference_mode():
                (plain,) = self._batch_losses([row])
                self._cache = self._cached()
                (cached,) = self._batch_losses([row])
                difference = abs(cached.nats - plain.nats)
                is_equal = difference <= PREFIX_TOLERANCE * max(1.0, abs(plain.nats))
                self._prefix = whole
                self._cache = self._cached() if is_equal else None
        except (RuntimeError, ValueError, TypeError, AttributeError):
            # A model without such a cache reads the prefix every time.
            self._prefix, self._cache = whole, None

    def _cached(self) -> Any:
        """Return the key-value cache of all of the prefix but its last token."""
        ids = torch.tensor([self._prefix[:-1]], device=self._device)
        return self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    def _answer_batches(
        self, prompts: Sequence[list[int]], max_new_tokens: int
    ) -> Iterator[list[int]]:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        batch: list[int] = []
        for index in order:
            size = len(prompts[index]) + len(self._prefix) + max_new_tokens
            if batch and ((len(batch) + 1) * size > BATCH_TOKENS or len(batch) >= MAX_BATCH):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _generate(
        self, prompts: list[list[int]], decoding: Decoding, should_stop: Callable[[], bool]
    ) -> list[Generated]:
        inputs = self._inputs_to_generate(prompts)
        ids = self._model.generate(
            **inputs,
            generation_config=_greedy_config(decoding),
            stopping_criteria=StoppingCriteriaList([StopCriteria(should_stop)]),
        )
        # The output of an encoder-decoder begins with its decoder start token.
        start = 1 if self._head == "seq2seq" else inputs["input_ids"].shape[1]
        return [_until_end(row, decoding.stops) for row in ids[:, start:].tolist()]

    def _inputs_to_generate(self, prompts: list[list[int]]) -> dict[str, Any]:
        if self._head == "seq2seq":
            rows = _tensors(prompts)
            mask = [torch.ones_like(row) for row in rows]
            return {
                "input_ids": pad_sequence(rows, True, self._pad).to(self._device),
                "attention_mask": pad_sequence(mask, True, 0).to(self._device),
            }
        inputs = self._inputs(prompts)
        # Generation computes the positions from the mask.
        del inputs["position_ids"]
        if "past_key_values" in inputs:
            # It takes the whole sequence, and skips what is in the cache.
            front = torch.tensor([self._prefix[:-1]] * len(prompts), device=self._device)
            inputs["input_ids"] = torch.cat([front, inputs["input_ids"]], dim=1)
        return inputs

    @property
    def _device(self) -> Any:
        return self._model.device


def _greedy_config(decoding: Decoding) -> GenerationConfig:
    # Explicit values, since those of the model's generation config would hold otherwise.
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,
        eos_token_id=list(decoding.stops),
        pad_token_id=decoding.pad,
    )


def _until_end(new: list[int], stops: Sequence[int]) -> Generated:
    end = next((at for at, token in enumerate(new) if token in stops), None)
    return Generated(new, is_cut=True) if end is None else Generated(new[:end], is_cut=False)


def _tensors(rows: list[list[int]]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.int64) for row in rows]


def _left(rows: list[list[int]], fill: int, device: Any) -> torch.Tensor:
    """Return rows of ids as (batch, seq) int64, padded on the left."""
    return pad_sequence(_tensors(rows), True, fill, "left").to(device)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _sums(logits: torch.Tensor, targets: torch.Tensor) -> list[Loss]:
    """Return the losses of logits (batch, seq, vocabulary) for targets (batch, seq)."""
    losses = []
    # Row by row, since 32-bit logits of the whole batch would be held a second time.
    for values, target in zip(logits, targets, strict=True):
        known = target != IGNORE_INDEX
        nats = cross_entropy(values[known].float(), target[known], reduction="sum")
        losses.append(Loss(float(nats), int(known.sum())))
    return losses
