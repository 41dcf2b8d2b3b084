"""Bound the time and memory in which a chat template, which comes with a model, is rendered.

The sandbox of Transformers keeps a template from running code, but not from looping or from making
texts of any size. These limits hold in the process that renders:

- Memory: the address space may grow by a gigabyte (Linux), after which Python raises MemoryError.
- Time: after two seconds of processor time another thread raises an exception in the template.
- A single operation that never returns to Python, such as a huge power, is ended by the kernel,
  together with the process (POSIX).
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from modelforge.units import GIB

MAX_SECONDS = 2.0
MAX_OPERATION_SECONDS = 20.0
MAX_BYTES = GIB
MAX_TEMPLATE_CHARS = 2**20
_POLL_S = 0.1
_STATM = Path("/proc/self/statm")


class _OutOfTime(BaseException):
    """Raised inside a template; not an Exception, which Jinja catches while it compiles."""


class _Watch:
    """A thread that raises `_OutOfTime` in the thread that renders for too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rendering: tuple[int, float] | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        with self._lock:
            self._rendering = threading.get_ident(), time.process_time() + MAX_SECONDS
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="template-limit", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        with self._lock:
            self._rendering = None

    def _run(self) -> None:
        while True:
            time.sleep(_POLL_S)
            with self._lock:
                if self._rendering is None or time.process_time() < self._rendering[1]:
                    continue
                thread = ctypes.c_ulong(self._rendering[0])
                self._rendering = None
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_OutOfTime))


_watch = _Watch()
# The limits are those of the process, so one template is rendered at a time.
_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def limited_rendering() -> Iterator[None]:
    """Render within the limits; every error of the template becomes a jinja2.TemplateError."""
    try:
        with _one_at_a_time, _limited_memory(), _limited_operation():
            try:
                _watch.begin()
                yield
            finally:
                _watch.end()
    except jinja2.TemplateError:
        raise
    except _OutOfTime:
        text = f"it needs more than {MAX_SECONDS:.0f} seconds"
        raise jinja2.TemplateRuntimeError(text) from None
    except MemoryError:
        text = f"it needs more than {MAX_BYTES // GIB} GiB of memory"
        raise jinja2.TemplateRuntimeError(text) from None
    except Exception as error:
        # A template may divide by zero, count beyond every limit, or read a missing key.
        text = str(error) or type(error).__name__
        raise jinja2.TemplateRuntimeError(text) from error


def apply_template(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    """Return a conversation as the chat template of the tokenizer renders it."""
    if len(str(tokenizer.chat_template)) > MAX_TEMPLATE_CHARS:
        raise jinja2.TemplateRuntimeError("it is longer than a million characters")
    with limited_rendering():
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415  # only on POSIX

    pages = _STATM.read_text(encoding="ascii").split()[0]
    used = int(pages) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + MAX_BYTES
    if (soft != resource.RLIM_INFINITY and soft <= limit) or (
        hard != resource.RLIM_INFINITY and hard <= limit
    ):
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _limited_operation() -> Iterator[None]:
    """Let the kernel end the process, unless something else handles this signal."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGVTALRM) is not signal.SIG_DFL:
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_OPERATION_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
