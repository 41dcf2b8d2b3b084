"""The supervisor alone over stand-in workers: strangers, stubborn ones, odd times, stale locks."""

from __future__ import annotations

import os

import pytest

from tests.faults import clicks, clocks, strangers, stubborn
from tests.faults.conftest import holds
from tests.faults.place import Place

pytestmark = [
    pytest.mark.torch,  # not for torch: for the time it takes
    pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's"),
]


@pytest.fixture
def place(tmp_path) -> Place:
    return Place.made(tmp_path, tmp_path / "no-model")


def test_no_other_process_is_ever_signalled(place, seed):
    holds(strangers.play(place, 1, seed))


def test_stubborn_workers_are_ended_with_all_their_children(place, seed):
    holds(stubborn.play(place, 1, seed))


def test_files_with_the_times_of_another_day_change_nothing(place, seed):
    holds(clocks.in_the_files(place, 1, seed, clocks.DAYS))


def test_a_lock_whose_holder_was_killed_is_free_at_once(place, seed):
    holds(clicks.stale_locks(place, 2, seed))
