"""Four facts determine the state."""

from __future__ import annotations

import itertools

import pytest

from modelforge.runs.process.launch import Launch, Target
from modelforge.runs.states import RunFacts, RunState

TABLE = [
    # launched, alive, stop_requested, milestone -> state
    (False, False, False, None, "queued"),
    (False, False, True, None, "stopped"),
    (True, True, False, None, "starting"),
    (True, True, False, "started", "running"),
    (True, True, True, None, "stopping"),
    (True, True, True, "started", "stopping"),
    (True, False, False, None, "lost"),
    (True, False, False, "started", "lost"),
    (True, False, True, "started", "stopped"),
    (True, True, False, "finished", "finished"),
    (True, False, True, "finished", "finished"),
    (True, False, False, "stopped", "stopped"),
    (True, False, True, "failed", "failed"),
]


@pytest.mark.parametrize(("launched", "alive", "stop_requested", "milestone", "state"), TABLE)
def test_four_facts_determine_the_state(launched, alive, stop_requested, milestone, state):
    assert RunFacts(launched, alive, stop_requested, milestone).state == state


def test_every_state_can_be_reached_and_every_combination_has_one():
    milestones = [None, "started", "finished", "stopped", "failed"]
    reached = {
        RunFacts(launched, alive, stop_requested, milestone).state
        for launched, alive, stop_requested, milestone in itertools.product(
            *[[False, True]] * 3, milestones
        )
    }
    assert reached == set(RunState)


def test_a_state_is_active_over_or_queued():
    for state in RunState:
        assert [state.is_active, state.is_over, state is RunState.QUEUED].count(True) == 1


@pytest.mark.parametrize(
    ("launched", "is_over", "stop_requested", "milestone", "state"),
    [
        (True, False, False, None, "starting"),
        (True, False, False, "started", "running"),
        (True, False, True, "started", "stopping"),
        (True, True, False, "started", "lost"),
        (True, True, True, "started", "stopped"),
        (True, False, False, "finished", "finished"),
        (False, False, False, None, "queued"),
    ],
)
def test_a_job_elsewhere_does_not_end_with_its_relay(
    launched, is_over, stop_requested, milestone, state
):
    launch = Launch(Target("box", "ssh", "box"), is_over=is_over)
    assert RunFacts(launched, False, stop_requested, milestone, None, launch).state == state
