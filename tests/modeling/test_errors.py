"""Failures: a stable cause, a message and a remedy."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from modelforge.errors import DataError, NotFoundError, Problem, RunError
from modelforge.modeling.errors import WorkerError, explain

CASES = [
    (MemoryError(), "out-of-memory"),
    (RuntimeError("CUDA error: out of memory"), "out-of-memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
    (RuntimeError("Error while serializing: I/O error: No space left on device"), "disk-full"),
    (PermissionError(errno.EACCES, "Permission denied", "output"), "no-permission"),
    (DataError(Problem("rows.jsonl:3", "is not JSON.", "Close it.")), "data"),
    (NotFoundError(Problem("model", "is not there.")), "not-found"),
    (RunError(Problem("events.jsonl", "cannot be written.")), "run"),
    (
        WorkerError("loss-not-finite", Problem("training", "The loss became nan.")),
        "loss-not-finite",
    ),
    (ZeroDivisionError("division by zero\nand more"), "unexpected"),
]


@pytest.mark.parametrize(("error", "cause"), CASES, ids=[cause for _, cause in CASES])
def test_every_known_error_has_its_cause(error, cause):
    failure = explain(error)
    assert failure.cause == cause
    assert failure.what
    assert "\n" not in failure.what


def test_an_unknown_error_names_its_class_and_first_line():
    failure = explain(ZeroDivisionError("division by zero\nand more"))
    assert failure.what == "ZeroDivisionError: division by zero."
    assert "log" in failure.remedy


def test_forge_errors_keep_their_message_and_remedy():
    failure = explain(DataError(Problem("rows.jsonl:3", "is not JSON.", "Close it.")))
    assert (failure.what, failure.remedy) == ("rows.jsonl:3: is not JSON.", "Close it.")


def test_an_import_error_is_explained_by_the_error_behind_it():
    error = ModuleNotFoundError("Could not import module 'set_seed'. Are they defined correctly?")
    assert explain(error).what.endswith("defined correctly?")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    failure = explain(error)
    assert failure.cause == "library-mismatch"
    assert failure.what.endswith(": operator torchvision::nms does not exist.")
    assert "doctor" in failure.remedy


@pytest.mark.torch
def test_loading_names_the_error_behind_an_import_error():
    from modelforge.modeling.providers.huggingface import _worker_error

    error = ModuleNotFoundError("Could not import module 'LlamaForCausalLM'.")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    failure = _worker_error(SimpleNamespace(model_path="m"), error)
    assert failure.cause == "library-mismatch"
    assert "torchvision::nms" in str(failure)
