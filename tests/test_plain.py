"""What comes out of data files cannot steer a terminal."""

from __future__ import annotations

import pytest

from modelforge.cli.output import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("über 中文 🙂", "über 中文 🙂"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("one\ntwo\r\x07", "one⏎two\\r\\x07"),
        ("safe\u202etxt.exe", "safe\\u202etxt.exe"),
        ("half \ud800 pair", "half \\ud800 pair"),
    ],
)
def test_marks_that_steer_a_terminal_are_shown_instead_of_obeyed(text, shown):
    assert plain(text) == shown
