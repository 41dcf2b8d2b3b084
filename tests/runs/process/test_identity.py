"""A process is told by id and birth, and nobody else is ever signalled."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from modelforge.paths import Home
from modelforge.runs.process.identity import (
    CHILDREN,
    ProcessIdentity,
    child_environment,
    kill_tree,
    new_session_options,
    process_tree,
    terminate_tree,
    wait_ended,
)


@pytest.fixture
def sleeper():
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(command, **new_session_options())
    yield process
    process.kill()
    process.wait()


def test_a_process_is_alive_as_itself_and_goes_with_its_record(sleeper):
    who = ProcessIdentity.of(sleeper.pid)
    assert who.alive
    assert ProcessIdentity.from_dict(who.as_dict()) == who
    assert ProcessIdentity.from_dict({"pid": who.pid, "birth": who.birth}).alive


def test_another_birth_is_another_process_and_gets_no_signal(sleeper):
    who = ProcessIdentity.of(sleeper.pid)
    strangers = [
        ProcessIdentity(who.pid, who.birth - 60),
        dataclasses.replace(who, start_ticks=(who.start_ticks or 0) + 1),
        dataclasses.replace(who, boot_id="another boot"),
    ]
    for stranger in strangers:
        assert not stranger.alive
        assert terminate_tree(stranger) == kill_tree(stranger) == process_tree(stranger) == []
    assert sleeper.poll() is None


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_a_process_id_below_two_is_never_alive(pid):
    who = ProcessIdentity(pid, 0.0)
    assert not who.alive
    assert kill_tree(who) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="clock ticks are Linux's")
def test_a_clock_that_jumps_does_not_change_who_a_process_is(sleeper):
    who = ProcessIdentity.of(sleeper.pid)
    assert dataclasses.replace(who, birth=who.birth + 86_400).alive


@pytest.mark.skipif(os.name == "nt", reason="zombies are POSIX's")
def test_a_zombie_does_not_live_and_is_reaped():
    child = subprocess.Popen([sys.executable, "-c", ""], **new_session_options())
    who = ProcessIdentity.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not who.alive
    CHILDREN.add(child)
    CHILDREN.reap()
    assert child.returncode == 0


def test_a_record_without_a_process_names_no_process():
    for record in ({}, {"pid": "7", "birth": 1.0}, {"pid": 7}, {"launching": 1.0}):
        assert ProcessIdentity.from_dict(record) is None


def test_a_process_that_is_gone_has_an_identity_that_is_nobodys(sleeper):
    sleeper.kill()
    sleeper.wait()
    assert not ProcessIdentity.of(sleeper.pid).alive


def test_a_family_ends_with_its_grandchildren(tmp_path):
    pids = tmp_path / "pids"
    program = f"""
import os, subprocess, sys, time
sleep = "import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleep])
open({str(pids)!r} + "~", "w").write(str(child.pid))
os.rename({str(pids)!r} + "~", {str(pids)!r})
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], **new_session_options())
    CHILDREN.add(parent)
    who = ProcessIdentity.of(parent.pid)
    try:
        while not pids.exists():
            assert parent.poll() is None
        child = ProcessIdentity.of(int(pids.read_text()))
        assert {member.pid for member in process_tree(who)} >= {who.pid, child.pid}
    finally:
        kill_tree(who)
    assert wait_ended(who, 5.0)
    assert wait_ended(child, 5.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere births are exact")
def test_how_a_child_ended_is_known_though_its_birth_is_rounded_otherwise(sleeper):
    CHILDREN.add(sleeper)
    who = ProcessIdentity.of(sleeper.pid)
    kill_tree(who)
    assert wait_ended(who, 5.0)
    assert CHILDREN.exit_code(dataclasses.replace(who, birth=who.birth + 1.0)) == -9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOMP_SPINCOUNT", "2000"),
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128"),
        ("LRU_CACHE_CAPACITY", "128"),
    ],
)
def test_a_child_leaves_others_their_turn_and_their_memory(tmp_path, monkeypatch, name, value):
    monkeypatch.delenv(name, raising=False)
    assert child_environment(Home(tmp_path))[name] == value
    monkeypatch.setenv(name, "7")
    assert child_environment(Home(tmp_path))[name] == "7"
