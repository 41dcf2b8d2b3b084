"""Targets over REST."""

from __future__ import annotations

import pytest

from modelforge.launchers.launcher import Condition
from modelforge.launchers.ssh import SshLauncher

BOX = {"name": "box", "place": "ssh:me@server:2222/data/forge", "slots": 2}


def test_a_target_is_added_checked_and_removed(serving, settings, monkeypatch):
    client = serving("obeys")
    added = client.post("/api/targets", json=BOX | {"options": {"extras": "quantization"}})
    assert added.status_code == 201, added.text
    target = added.json()
    assert (target["kind"], target["address"], target["slots"]) == (
        "ssh", "me@server:2222/data/forge", 2
    )  # fmt: skip
    assert (target["machine"], target["checked"]) == (None, None)
    refused = client.post("/api/runs", json=settings, params={"on": "box"})
    assert refused.status_code == 422
    assert "modelforge targets check box" in refused.json()["problems"][0]["remedy"]
    machine = serving.forge.machine.current()
    monkeypatch.setattr(SshLauncher, "check", lambda *_arguments: Condition([], machine))
    found = client.post("/api/targets/box/check").json()
    assert (found["usable"], found["problems"]) == (True, [])
    assert client.get("/api/targets").json()[0]["machine"]["cores"] == machine.cores
    queued = client.post("/api/queue", json=settings, params={"on": "box", "held": True})
    assert queued.status_code == 202, queued.text
    assert client.get("/api/queue").json()["runs"][0]["target"] == "box"
    run = client.get(f"/api/runs/{queued.json()['id']}").json()
    assert run["elsewhere"]["place"] == "ssh:me@server:2222/data/forge"
    assert client.delete("/api/targets/box").status_code == 204
    assert client.get("/api/targets").json() == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "here"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"place": "telnet:server"}, "address"),
        ({"place": "ssh:"}, "address"),
        ({"place": "ssh:-oProxyCommand=x"}, "address"),
        ({"options": {"token": "secret"}}, "option"),
        ({"options": {"ssh_config": "/home/me/config"}}, "options"),
        ({"options": {"environment": "/bin/sh"}}, "options"),
        ({"slots": 0}, "slots"),
    ],
)
def test_a_target_that_cannot_be_is_refused(serving, change, where):
    client = serving("obeys")
    refused = client.post("/api/targets", json=BOX | change)
    assert refused.status_code == 422, refused.text
    assert refused.json()["problems"][0]["where"] == where
    assert client.get("/api/targets").json() == []


def test_an_unknown_target_is_named(serving, settings):
    client = serving("obeys")
    for call in (
        lambda: client.post("/api/targets/none/check"),
        lambda: client.delete("/api/targets/none"),
        lambda: client.post("/api/runs", json=settings, params={"on": "none"}),
    ):
        assert call().status_code == 404
    assert client.get("/api/runs").json() == []
