"""Runs over ssh on this computer, with an sshd of the test's own and the real worker."""

from __future__ import annotations

import pytest

from modelforge.config.resolve import Layer
from modelforge.runs.states import RunState
from tests.launchers.conftest import until

pytestmark = pytest.mark.torch


def over(forge, run_id):
    def is_over():
        forge.tend()
        return forge.runs.state(run_id).is_over

    until(is_over, "the run is over")
    return forge.runs.state(run_id)


def test_a_run_trains_on_another_computer_to_its_end(forge, host, recipe):
    run_id = forge.runs.start(Layer("body", recipe), on=host)
    folder = forge.runs.folder(run_id)
    state = over(forge, run_id)
    assert state is RunState.FINISHED, (folder.relay_log.read_text(), folder.launch.read_text())
    assert folder.has_adapter
