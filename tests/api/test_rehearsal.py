"""Rehearsals over REST."""

from __future__ import annotations

import time

from tests.api.conftest import PATIENCE_S


def over(client, where):
    deadline = time.monotonic() + PATIENCE_S
    while (told := client.get(where).json())["state"] not in ("finished", "stopped", "failed"):
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    return told


def test_a_rehearsal_is_started_watched_and_told_by_preflight(serving, answers, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    client = serving("trains")
    begun = client.post("/api/trial-runs", json=answers)
    assert begun.status_code == 202, begun.text
    where = begun.headers["location"]
    assert where == f"/api/trial-runs/{begun.json()['id']}"
    told = over(client, where)
    assert told["trial_run"]["peak_gib"] == 1.82
    assert told["ending"]["kind"] == "finished"
    assert client.get("/api/runs").json() == []
    report = client.post("/api/preflight", json=answers).json()
    assert (report["memory_basis"], report["seconds_basis"]) == ("trial_run", "trial_run")
    assert report["trial_run"]["id"] == begun.json()["id"]


def test_it_is_refused_stopped_and_holds_the_machine(serving, answers, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.3")
    client = serving("trains")
    assert client.post("/api/trial-runs", json=answers | {"lora_r": 0}).status_code == 422
    assert client.get("/api/trial-runs/nobody").status_code == 404
    found = client.post("/api/trial-runs", json=answers).json()["id"]
    busy = client.post("/api/runs", json=answers)
    assert (busy.status_code, busy.json()["holder"]) == (409, "trial-run")
    assert client.post(f"/api/trial-runs/{found}/stop").status_code == 200
    told = over(client, f"/api/trial-runs/{found}")
    assert (told["state"], told["trial_run"]) == ("stopped", None)
