"""The lease of the machine: one holder, known by name, and void once its process is gone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from modelforge.errors import BusyError
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.runs.process.machine_lease import MachineLease


@pytest.fixture
def side(tmp_path):
    """Open one more server's side of the same lease."""
    return lambda: MachineLease(tmp_path / "lease.json", tmp_path / "runs" / ".lock")


def test_the_second_is_refused_and_names_who_uses_the_computer(side):
    first, second = side(), side()
    first.take("chat", "starter")
    assert first.mine
    assert not second.mine
    first.take("chat", "another")
    with pytest.raises(BusyError, match="Chat with another is using this computer") as refused:
        second.take("export", "my run")
    assert refused.value.holder == "chat"
    second.release()
    assert first.mine, "what another holds is left alone"
    first.release()
    second.take("export", "my run")
    assert second.holder().sentence.startswith("The export of my run is using this computer")


def test_a_dead_holder_holds_nothing(side, tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        record = {"kind": "chat", "name": "x", "token": "t", "since": 1.0}
        who = ProcessIdentity.of(process.pid).as_dict()
        (tmp_path / "lease.json").write_text(json.dumps(record | who))
        with pytest.raises(BusyError):
            side().require_free()
        process.kill()
    side().require_free()
    side().take("chat", "y")


def test_a_process_id_that_was_given_to_another_holds_nothing(side, tmp_path):
    who = ProcessIdentity.of(1).as_dict() | {"pid": 2, "birth": 5.0, "start_ticks": 1}
    record = {"kind": "chat", "name": "x", "token": "t", "since": 1.0} | who
    (tmp_path / "lease.json").write_text(json.dumps(record))
    assert side().holder() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"kind": "chat"}'])
def test_a_damaged_lease_is_none(side, tmp_path, text):
    (tmp_path / "lease.json").write_text(text)
    side().take("chat", "x")


def test_of_twenty_at_once_one_gets_it(side):
    sides = [side() for _ in range(20)]
    refused = []

    def reach(one):
        try:
            one.take("chat", "x")
        except BusyError:
            refused.append(one)

    threads = [threading.Thread(target=reach, args=(one,)) for one in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 19
    assert [one.mine for one in sides].count(True) == 1
