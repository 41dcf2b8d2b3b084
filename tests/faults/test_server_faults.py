"""The real server over stand-in workers: killed, crowded, flooded, and with a clock that jumps."""

from __future__ import annotations

import os

import pytest

from tests.faults import clicks, clocks, floods, server_kills
from tests.faults.conftest import holds

pytestmark = [
    pytest.mark.torch,  # not for torch, which the tiny model alone needs: for the time it takes
    pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX's"),
]


def test_a_killed_server_finds_its_run_again_and_nothing_is_lost_or_doubled(stage, seed):
    server, place = stage
    answers = place.played_by("trains", 100_000, PACE=0.01)
    holds(server_kills.in_mid_run(server, place, 2, seed, answers=answers, timed=False))


def test_a_server_killed_in_a_start_leaves_one_run_for_one_click(stage, seed):
    server, place = stage
    answers = place.played_by("trains", 3, PACE=0.01)
    holds(server_kills.while_launching(server, place, 1, seed, answers=answers))


def test_two_hundred_clicks_at_once_make_one_run(stage, seed):
    holds(clicks.at_once(*stage, 200, seed))


def test_two_servers_of_one_home_start_one_run_at_a_time(stage, seed):
    holds(clicks.two_servers(*stage, 1, seed))


def test_a_port_that_is_taken_is_reported_in_a_sentence(stage, seed):
    holds(clicks.taken_ports(*stage, 1, seed))


def test_a_reloaded_page_shows_the_run_as_it_is(stage, seed):
    holds(floods.reloads(*stage, 10, seed))


def test_a_flood_of_lines_stalls_no_one(stage, seed):
    holds(floods.a_flood(*stage, 1, seed, lines=200_000))


def test_a_closed_tab_stalls_no_one(stage, seed):
    holds(floods.a_closed_tab(*stage, 4, seed, stretch_s=0.3))


def test_a_clock_that_jumps_in_mid_run_changes_nothing(stage, seed):
    holds(clocks.in_the_worker(*stage, 1, seed, {"a day back": -clocks.DAY_S}))
