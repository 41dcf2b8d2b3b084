"""Hidden states behind a frozen trunk on disk, so that it runs once for each text of the data.

KEY.txt        what all texts depend on
rows.jsonl     per text: hash of its tokens, place in the file, tokens, dtype and checksum
states.bin     hidden states of the texts, one after another
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.masking_utils import find_packed_sequence_indices

from modelforge.modeling.growing.layers import decoder_layers

# Key of a text and its places in the batch, (rows, columns) as `nonzero` returns them.
_Batch = list[tuple[str, tuple[torch.Tensor, ...]]]


def trunk_key(model: Any, layers: int, *facts: str) -> str:
    """Return a hash of the weights of the embeddings and the first layers, the config and facts.

    Args:
        model: causal model of Transformers.
        layers: number of first layers.
        facts: what else the results depend on, such as the attention implementation and hashes of
            the data and the chat template.
    """
    config = model.config.to_dict()
    config.pop("_name_or_path", None)
    digest = hashlib.blake2b(json.dumps([config, facts], default=str, sort_keys=True).encode())
    for module in (model.get_input_embeddings(), *decoder_layers(model)[:layers]):
        for name, values in module.state_dict().items():
            if isinstance(values, torch.Tensor):
                digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
                digest.update(_bytes(values))
    return digest.hexdigest()


class TrunkCache:
    """Stores what a frozen trunk computes, and returns it instead of running the trunk.

    A text is a row of a batch without its padding, or one of the texts that are packed into a row;
    it is found by its tokens and positions. A batch with all texts stored skips the trunk; of any
    other batch the texts are added while they fit into the limit. Loss and gradients are those
    without a cache where the trunk computes a text alike in every batch.

    Attributes:
        hits: batches that skipped the trunk.
        misses: batches that did not.
    """

    def __init__(self, folder: Path, key: str, *, limit_bytes: int) -> None:
        """Open the cache in a folder of its own; rows of another key are deleted."""
        self._limit = limit_bytes
        self.hits = self.misses = 0
        stored_key = folder / "KEY.txt"
        if not stored_key.is_file() or stored_key.read_text(encoding="utf-8") != key:
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("KEY.txt", "rows.jsonl", "states.bin"):
                (folder / name).unlink(missing_ok=True)
            stored_key.write_text(key, encoding="utf-8")
        self._rows = {row["key"]: row for row in _whole_rows(folder / "rows.jsonl")}
        self._size = max((row["end"] for row in self._rows.values()), default=0)
        self._index = (folder / "rows.jsonl").open("w", encoding="utf-8")
        for row in self._rows.values():
            self._index.write(json.dumps(row) + "\n")
        self._index.flush()
        (folder / "states.bin").touch()
        self._states = (folder / "states.bin").open("r+b")
        # What an interrupted write left behind.
        self._states.truncate(self._size)
        self._batch: _Batch = []
        self._found: torch.Tensor | None = None
        self._restore: list[Callable[[], object]] = []

    @property
    def size_bytes(self) -> int:
        """Bytes of the stored states, at most the limit."""
        return self._size

    def attach(self, model: Any, layers: int) -> None:
        """Use the cache for the first layers of a model, at least one, which must be frozen.

        Raises:
            ValueError: the model has dropout, so that the trunk never computes the same twice.
        """
        if getattr(model.config, "attention_dropout", 0):
            raise ValueError("The trunk has dropout: attention_dropout must be 0.")
        decoder = model.get_decoder()
        hook = decoder.register_forward_pre_hook(self._look_up, with_kwargs=True)
        self._restore = [hook.remove]
        for index, layer in enumerate(decoder.layers[:layers]):
            before = layer.forward
            layer.forward = self._forward(before, is_last=index == layers - 1)
            self._restore.append(partial(setattr, layer, "forward", before))

    def detach(self) -> None:
        """Let the trunk run in every step again."""
        for restore in self._restore:
            restore()
        self._restore = []

    def close(self) -> None:
        """Detach, and close the files; the rows stay."""
        self.detach()
        self._index.close()
        self._states.close()

    def _forward(self, forward: Callable[..., Any], *, is_last: bool) -> Callable[..., Any]:
        def run(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._found is not None:
                return self._found.to(hidden_states.device) if is_last else hidden_states
            states = forward(hidden_states, *args, **kwargs)
            if is_last:
                self._store(states)
            return states

        return run

    def _look_up(self, decoder: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        """Read the states of a batch before the model runs, if all its rows are stored."""
        self._batch, self._found = _keyed(decoder.config, kwargs), None
        if not self._batch:
            return
        parts = [part for key, _ in self._batch if (part := self._read(key)) is not None]
        if len(parts) < len(self._batch):
            self.misses += 1
            return
        self.hits += 1
        shape = (*kwargs["input_ids"].shape, parts[0].shape[-1])
        self._found = torch.zeros(shape, dtype=parts[0].dtype)
        for (_, places), part in zip(self._batch, parts, strict=True):
            self._found[places] = part

    def _read(self, key: str) -> torch.Tensor | None:
        row = self._rows.get(key)
        if row is None:
            return None
        self._states.seek(row["start"])
        data = self._states.read(row["end"] - row["start"])
        if zlib.crc32(data) != row["checksum"]:
            del self._rows[key]
            return None
        states = torch.frombuffer(bytearray(data), dtype=getattr(torch, row["dtype"]))
        return states.view(row["tokens"], -1)

    def _store(self, states: torch.Tensor) -> None:
        states = states.detach().cpu()
        for key, places in self._batch:
            if key not in self._rows:
                self._write(key, states[places])

    def _write(self, key: str, states: torch.Tensor) -> None:
        data = _bytes(states)
        if self._size + len(data) > self._limit:
            return
        self._states.seek(self._size)
        self._states.write(data)
        self._states.flush()
        row = {
            "key": key,
            "start": self._size,
            "end": self._size + len(data),
            "tokens": len(states),
            "dtype": str(states.dtype).removeprefix("torch."),
            "checksum": zlib.crc32(data),
        }
        self._index.write(json.dumps(row) + "\n")
        self._index.flush()
        self._rows[key] = row
        self._size += len(data)


def _keyed(config: Any, kwargs: dict[str, Any]) -> _Batch:
    """Return the key and the places of each text of a batch.

    Empty where tokens do not identify the texts: in generation, with embeddings as inputs, or
    with a mask of attention that is not one of padding.
    """
    ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
    is_padding = mask is None or mask.dim() == 2
    if ids is None or kwargs.get("past_key_values") is not None or not is_padding:
        return []
    ids = ids.cpu()
    texts = torch.arange(len(ids))[:, None].expand_as(ids).clone()
    positions = kwargs.get("position_ids")
    if positions is not None:
        positions = positions.cpu().expand_as(ids)
        if mask is None and _is_divided(config, kwargs):
            parts = find_packed_sequence_indices(positions)
            texts = texts if parts is None else texts * ids.shape[1] + parts
    if mask is not None:
        texts[mask.cpu() == 0] = -1
    batch = []
    for text in texts[texts >= 0].unique().tolist():
        places = (texts == text).nonzero(as_tuple=True)
        digest = hashlib.blake2b(_bytes(ids[places]), digest_size=16)
        if positions is not None:
            digest.update(_bytes(positions[places]))
        batch.append((digest.hexdigest(), places))
    return batch


def _is_divided(config: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether Transformers lets no text see another where positions begin again."""
    use_cache = kwargs.get("use_cache")
    use_cache = config.use_cache if use_cache is None else use_cache
    return getattr(config, "is_causal", True) and not use_cache


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an index up to a line that was not written whole."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _bytes(values: torch.Tensor) -> bytes:
    return values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
