"""TRL's supervised loss, computed in chunks: their size, losses of single rows, and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import nll_loss
from torch.overrides import TorchFunctionMode
from trl.trainer import sft_trainer


@contextmanager
def sft_loss_chunk(size: int) -> Iterator[None]:
    """Let SFTTrainers that are constructed inside compute the loss over `size` tokens at a time.

    The constructor reads a module constant of TRL; there is no argument for it.
    """
    before = sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE
    sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE = size
    try:
        yield
    finally:
        sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE = before


def chunk_lm_head_loss(model: Any, size: int) -> None:
    """Patch `forward` to compute the loss over `size` trained tokens at a time, as SFT does."""
    sft_trainer._patch_chunked_ce_lm_head(model, chunk_size=size)


class _LossRecorder(TorchFunctionMode):
    """Calls `record` with the losses of trained tokens wherever `nll_loss` is computed."""

    def __init__(self, record: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self._record = record

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is nll_loss:
            log_p, labels = args[0].detach(), args[1]
            is_trained = labels >= 0
            with torch.no_grad():
                chosen = log_p.gather(1, labels.clamp(min=0)[:, None])[:, 0]
                self._record(-chosen[is_trained])
        return function(*args, **(kwargs or {}))


@contextmanager
def record_chunk_losses(record: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Give `record` the losses of the trained tokens of each chunk of TRL's SFT loss inside.

    They are read from the log-probabilities of the chunk. Chunks that are computed again in the
    backward pass, after this context has ended, are not recorded.
    """
    original, is_open = sft_trainer._chunk, True

    def chunk(*args: Any) -> Any:
        if not is_open:
            return original(*args)
        with _LossRecorder(record):
            return original(*args)

    sft_trainer._chunk = chunk
    try:
        yield
    finally:
        is_open = False
        sft_trainer._chunk = original


class _LossWeighter(TorchFunctionMode):
    """Multiplies the losses that `nll_loss` adds up by weights, a float tensor of their shape."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self._weights = weights

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not nll_loss:
            return function(*args, **(kwargs or {}))
        losses = function(*args, **{**(kwargs or {}), "reduction": "none"})
        return (losses * self._weights).sum()


@contextmanager
def weight_chunk_losses(weights: torch.Tensor) -> Iterator[None]:
    """Multiply the losses of TRL's SFT loss inside by the weights of the trained tokens.

    `weights`: (tokens,) float, in the order of the trained tokens of the batch, which TRL moves to
    the front of its labels. A chunk is a slice of them, so its offset in them is that of its
    weights, also when it is computed again in the backward pass.
    """
    original = sft_trainer._chunk

    def chunk(hidden: Any, head: Any, bias: Any, labels: torch.Tensor, *rest: Any) -> Any:
        start = labels.storage_offset()
        part = weights[start : start + len(labels)]
        with _LossWeighter(torch.nn.functional.pad(part, (0, len(labels) - len(part)))):
            return original(hidden, head, bias, labels, *rest)

    sft_trainer._chunk = chunk
    try:
        yield
    finally:
        sft_trainer._chunk = original
