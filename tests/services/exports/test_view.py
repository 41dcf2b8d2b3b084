"""What callers see of an export in progress."""

from __future__ import annotations

import os

import pytest

from modelforge.runs.jobs import JobStep
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.services.exports.view import view_export
from tests.runs.homes import put_export, put_run


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 66.0), (0.01, 66.0), (0.05, 456.0), (0.5, 66.0), (0.1, 216.0), (1.0, 66.0)],
)
def test_the_rest_is_that_of_the_current_step_once_its_pace_is_known(tmp_path, share, expected):
    """At its first hundredth a step has mostly loaded its model, which says nothing of the rest."""
    run = put_run(tmp_path, 1)
    step = JobStep("self-test", "The trained model answers", share, 24.0)
    me = ProcessIdentity.of(os.getpid()).as_dict()
    folder = put_export(tmp_path, run, state="running", process=me, steps=[step])
    view = view_export(folder)
    assert view.seconds_left == expected
