"""What the live page of a run is sent: everything once, and afterwards only changes."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.layout import RunFolder
from tests.runs.homes import put_run
from ui.pages.run import live
from ui.pages.run.live import RunFollower


@pytest.fixture
def run(forge) -> RunFolder:
    return put_run(forge.home.root, ending=None, losses=[2.0] * 30)


def add_log(run: RunFolder, text: str) -> None:
    number = len(run.events.read_text("utf-8").splitlines()) + 1
    record = {"n": number, "t": 5.0, "kind": "note", "data": {"code": "a-note", "text": text}}
    with run.events.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def test_only_what_has_changed_is_sent_again(forge, run, monkeypatch):
    monkeypatch.setattr(live, "STATE_S", 0.0)
    monkeypatch.setattr(live, "CHARTS_S", 0.0)
    follower = RunFollower(forge, run.id)
    first = follower.update()
    assert first is not None
    assert {"run-head", "machine-brief"} <= first.parts.keys()
    assert first.charts
    assert follower.update() is None
    add_log(run, "Something to read.")
    second = follower.update()
    assert second is not None
    assert "Something to read." in str(second.parts)
    assert second.parts.keys() < first.parts.keys()
    assert not second.charts
    assert follower.update() is None
