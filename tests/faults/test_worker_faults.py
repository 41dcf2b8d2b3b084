"""Real workers on a tiny model: killed, with damaged checkpoints, on a full disk, out of memory."""

from __future__ import annotations

import os

import pytest

from tests.actors.points import POINTS
from tests.faults import damage, scarcity, worker_kills
from tests.faults.conftest import holds
from tests.faults.place import Place

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(os.name == "nt", reason="workers are forked, which is POSIX's"),
]


def test_a_killed_worker_is_known_to_be_gone_and_its_run_goes_on_to_the_byte(place, nursery, seed):
    holds(worker_kills.kills(place, nursery, 6, seed))


def test_an_interrupted_run_becomes_what_it_would_have_been(place, nursery, seed):
    holds(worker_kills.resumes(place, nursery, 1, seed))


def test_a_damaged_checkpoint_is_named_and_passed_over(place, nursery, seed):
    holds(damage.play(place, nursery, 12, seed))


def test_a_full_disk_is_named_and_nothing_of_before_is_lost(tmp_path, tiny, nursery, seed):
    if why := scarcity.why_no_small_disk():
        pytest.skip(why)
    with scarcity.small_disk(tmp_path) as disk:
        holds(scarcity.disk_full(Place.made(disk, tiny), nursery, 1, seed))


def test_memory_that_runs_out_is_named(place, nursery, seed):
    holds(scarcity.memory(place, nursery, 1, seed))


def test_a_run_goes_on_with_less_memory_and_learns_the_same(place, nursery, seed):
    holds(scarcity.autopilot(place, nursery, 1, seed))


def test_every_named_point_is_passed_by_a_worker(place, nursery):
    """A point that no worker passes would be tried in vain for ever."""
    from tests.faults.nursery import Blow
    from tests.faults.place import until

    passed = place.new_run(max_steps=4, eval_steps=1)
    nursery.start(place, passed, Blow(next(iter(POINTS)), "note"))
    until(passed.exit.exists, 60, "the worker has ended")
    log_text = passed.log.read_text(encoding="utf-8")
    assert [point for point in POINTS if f"passed: {point}" not in log_text] == []
