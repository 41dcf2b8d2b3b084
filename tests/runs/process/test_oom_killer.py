"""Whether the system has ended processes for want of memory, by Linux's own counts."""

from __future__ import annotations

import pytest

from modelforge.runs.process.oom_killer import oom_kill_counts, was_oom_killed


def test_the_counts_of_the_own_group_and_of_the_computer_are_read(tmp_path):
    own, groups, whole = tmp_path / "cgroup", tmp_path / "groups", tmp_path / "vmstat"
    own.write_text("0::/user.slice/forge\n")
    (groups / "user.slice" / "forge").mkdir(parents=True)
    events = groups / "user.slice" / "forge" / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    whole.write_text("pgfault 1\noom_kill 7\n")
    assert oom_kill_counts(own, groups, whole) == {"group": 2, "computer": 7}
    events.unlink()
    assert oom_kill_counts(own, groups, whole) == {"computer": 7}
    assert oom_kill_counts(tmp_path / "x", tmp_path / "y", tmp_path / "z") == {}


@pytest.mark.parametrize(
    ("before", "now", "ran_out"),
    [
        ({"group": 1, "computer": 5}, {"group": 2, "computer": 6}, True),
        ({"group": 1, "computer": 5}, {"group": 1, "computer": 6}, False),
        ({"computer": 5}, {"computer": 6}, True),
        ({"computer": 5}, {"group": 9, "computer": 5}, False),
        ({}, {"computer": 5}, False),
        (None, {"computer": 5}, False),
        ({"group": 1}, {}, False),
    ],
)
def test_memory_ran_out_when_a_count_has_grown(before, now, ran_out):
    assert was_oom_killed(before, now) == ran_out
