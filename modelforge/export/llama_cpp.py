"""llama.cpp inside the package xllamacpp: its C functions, called through ctypes.

Structs whose layout changes between versions are passed as opaque blocks with the defaults that
llama.cpp itself returns; only `llama_batch`, unchanged for years, is spelled out. A crash in here
ends the process, so only processes of their own use this module.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata, util
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelforge.errors import MissingPackageError, Problem, RunError

PACKAGE = "xllamacpp"
_pointer, _int = ctypes.c_void_p, ctypes.c_int32
_N_CTX, _N_BATCH, _N_UBATCH = 0, 1, 2  # places of uint32 fields in llama_context_params
_DEFAULT_BATCH, _DEFAULT_UBATCH = 2048, 512
# Rows of logits that are in memory at once when a loss is computed.
_LOSS_ROWS = 64


class _Params(ctypes.Structure):
    """Space for llama_model_params or llama_context_params, which are smaller."""

    _fields_ = [("block", ctypes.c_uint8 * 4096)]


class _Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", _int),
        ("token", ctypes.POINTER(_int)),
        ("embd", _pointer),
        ("pos", ctypes.POINTER(_int)),
        ("n_seq_id", ctypes.POINTER(_int)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(_int))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _pointer)
_ERROR = 4
# What llama.cpp logged as errors; the last one says why a file is refused.
_errors: deque[str] = deque(maxlen=20)


@_LOG  # type: ignore[untyped-decorator]
def _keep_errors(level: int, text: bytes, _data: object) -> None:
    if level == _ERROR:
        _errors.append(text.decode("utf-8", "replace").strip().split(": ", 1)[-1])


_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LOG, _pointer]),
    "llama_model_default_params": (_Params, []),
    "llama_context_default_params": (_Params, []),
    "llama_model_load_from_file": (_pointer, [ctypes.c_char_p, _Params]),
    "llama_init_from_model": (_pointer, [_pointer, _Params]),
    "llama_model_get_vocab": (_pointer, [_pointer]),
    "llama_vocab_n_tokens": (_int, [_pointer]),
    "llama_vocab_is_eog": (ctypes.c_bool, [_pointer, _int]),
    "llama_vocab_eos": (_int, [_pointer]),
    "llama_vocab_get_add_bos": (ctypes.c_bool, [_pointer]),
    "llama_set_n_threads": (None, [_pointer, _int, _int]),
    "llama_adapter_lora_init": (_pointer, [_pointer, ctypes.c_char_p]),
    "llama_set_adapters_lora": (
        _int,
        [_pointer, ctypes.POINTER(_pointer), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)],
    ),
    "llama_get_memory": (_pointer, [_pointer]),
    "llama_memory_clear": (None, [_pointer, ctypes.c_bool]),
    "llama_batch_init": (_Batch, [_int, _int, _int]),
    "llama_batch_free": (None, [_Batch]),
    "llama_decode": (_int, [_pointer, _Batch]),
    "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [_pointer]),
    "llama_free": (None, [_pointer]),
    "llama_model_free": (None, [_pointer]),
    "llama_tokenize": (
        _int,
        [_pointer, ctypes.c_char_p, _int, ctypes.POINTER(_int), _int, ctypes.c_bool, ctypes.c_bool],
    ),
}


@cache
def library() -> Any:
    """Return the shared library of the installed package; raises MissingPackageError."""
    spec = util.find_spec(PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in Path(folder).glob(f"{PACKAGE}*.[sp][oy]*")]
    binary = next((file for file in files if file.suffix in (".so", ".pyd")), None)
    if binary is None:
        raise MissingPackageError(
            Problem(
                "gguf",
                f"The package {PACKAGE}, which contains llama.cpp, is not installed.",
                "Run `python launch.py setup --with gguf`.",
            )
        )
    loaded = ctypes.CDLL(str(binary))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    loaded.llama_log_set(_keep_errors, None)
    loaded.llama_backend_init()
    return loaded


def version() -> str:
    """Return the version of the installed package."""
    return metadata.version(PACKAGE)


@contextmanager
def serve(path: Path, context: int) -> Iterator[str]:
    """Run llama.cpp's own HTTP server on a free port of this computer; give its address."""
    library()
    import xllamacpp  # noqa: PLC0415  (an optional package)

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.port = str(path), context, 0
    params.warmup, params.ui, params.verbosity = False, False, 0
    server = xllamacpp.Server(params)
    try:
        yield server.listening_address
    finally:
        del server


class LlamaModel:
    """A GGUF file that llama.cpp has opened, with space for `context` tokens."""

    def __init__(self, path: Path, context: int = 2048, adapter: Path | None = None) -> None:
        """Open the file, with the LoRA adapter of another one; raises RunError if refused."""
        self._library, self._context = library(), None
        params = self._library.llama_model_default_params()
        _errors.clear()
        self._model = self._library.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise _refused(path)
        self._vocab = self._library.llama_model_get_vocab(self._model)
        self.vocabulary = int(self._library.llama_vocab_n_tokens(self._vocab))
        self._open_context(context)
        if adapter:
            self._add_adapter(adapter)

    def _open_context(self, context: int) -> None:
        params = self._library.llama_context_default_params()
        fields = np.frombuffer(params.block, dtype=np.uint32)
        if (fields[_N_BATCH], fields[_N_UBATCH]) != (_DEFAULT_BATCH, _DEFAULT_UBATCH):
            what = f"{PACKAGE} {version()} is not the version that was tested."
            raise RunError(Problem("gguf", what, "Run `python launch.py setup --with gguf`."))
        fields[_N_CTX] = fields[_N_BATCH] = self.context = context
        self._context = self._library.llama_init_from_model(self._model, params)
        if not self._context:
            what = "llama.cpp cannot compute with this model."
            raise RunError(Problem("gguf", what, "Free some memory, or export it again."))
        threads = _threads()
        self._library.llama_set_n_threads(self._context, threads, threads)

    def _add_adapter(self, path: Path) -> None:
        adapter = self._library.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise _refused(path)
        adapters, scales = (_pointer * 1)(adapter), (ctypes.c_float * 1)(1.0)
        self._library.llama_set_adapters_lora(self._context, adapters, 1, scales)

    def __enter__(self) -> LlamaModel:
        """Return the model."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Free its memory."""
        if self._context:
            self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)

    @property
    def end_token(self) -> int:
        """The token that the file names as the end of an answer."""
        return int(self._library.llama_vocab_eos(self._vocab))

    @property
    def adds_begin(self) -> bool:
        """Whether llama.cpp puts the token of the beginning before a text."""
        return bool(self._library.llama_vocab_get_add_bos(self._vocab))

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Return the ids of a text, in which special tokens are recognized."""
        raw = text.encode()
        room = len(raw) + 8
        ids = (_int * room)()
        count = self._library.llama_tokenize(
            self._vocab, raw, len(raw), ids, room, add_special, True
        )
        return list(ids[:count])

    def ends_answer(self, token: int) -> bool:
        """Return whether llama.cpp stops at this token."""
        return bool(self._library.llama_vocab_is_eog(self._vocab, token))

    def logits(self, ids: Sequence[int], first: int = 0) -> NDArray[np.float32]:
        """Return the logits (len(ids) - first, vocabulary) float32 after ids[first] and later."""
        self._clear()
        return self._decode(ids, 0, first)

    def generate(self, ids: Sequence[int], most: int) -> list[int]:
        """Return the greedy continuation, up to and without the token that ends it."""
        answer: list[int] = []
        row = self.logits(ids, len(ids) - 1)[-1]
        while len(answer) < most:
            token = int(row.argmax())
            if self.ends_answer(token):
                break
            answer.append(token)
            row = self._decode([token], len(ids) + len(answer) - 1)[-1]
        return answer

    def loss(self, ids: Sequence[int]) -> float:
        """Return the sum of the negative log probabilities of ids[1:], in nats."""
        self._clear()
        total = 0.0
        for first in range(0, len(ids) - 1, _LOSS_ROWS):
            part = ids[first : min(first + _LOSS_ROWS, len(ids) - 1)]
            for place, row in enumerate(self._decode(part, first)):
                total -= float(log_softmax(row)[ids[first + place + 1]])
        return total

    def _clear(self) -> None:
        memory = self._library.llama_get_memory(self._context)
        self._library.llama_memory_clear(memory, True)

    def _decode(self, ids: Sequence[int], position: int, first: int = 0) -> NDArray[np.float32]:
        batch = self._library.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, token in enumerate(ids):
                batch.token[place], batch.pos[place] = token, position + place
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                batch.logits[place] = place >= first
            code = self._library.llama_decode(self._context, batch)
        finally:
            self._library.llama_batch_free(batch)
        if code:
            what = f"llama.cpp could not compute {len(ids):,} tokens (code {code})."
            raise RunError(Problem("gguf", what, "Export it again."))
        values = self._library.llama_get_logits(self._context)
        shape = (len(ids) - first, self.vocabulary)
        return np.ctypeslib.as_array(values, shape=shape).copy()


def log_softmax(row: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the log probabilities (vocabulary,) of the logits of one token."""
    wide = row.astype(np.float64)
    wide -= wide.max()
    result: NDArray[np.float64] = wide - np.log(np.exp(wide).sum())
    return result


def _refused(path: Path) -> RunError:
    why = f": {_errors[0]}" if _errors else ""
    return RunError(Problem("gguf", f"llama.cpp cannot open {path.name}{why}.", "Export it again."))


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
