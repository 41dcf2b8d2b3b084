"""Errors of the chat process as people read them."""

from __future__ import annotations

import pytest

from modelforge.chat.protocol import _problem_of


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModuleNotFoundError("No module named 'x'\nmore"), "No module named 'x'."),
        (ValueError(""), "could not answer: ValueError."),
        (RuntimeError("CUDA out of memory"), "out of memory"),
    ],
)
def test_a_failure_names_its_cause_and_where_to_look(error, text):
    problem = _problem_of(error)
    assert text in problem.what
    assert "\n" not in problem.what
    assert problem.remedy
