"""Trial runs over REST."""

from __future__ import annotations

import time

from tests.api.conftest import PATIENCE_S


def over(client, where):
    deadline = time.monotonic() + PATIENCE_S
    while (body := client.get(where).json())["state"] not in ("finished", "stopped", "failed"):
        assert time.monotonic() < deadline, body
        time.sleep(0.02)
    return body


def test_a_trial_run_is_measured_and_used_by_preflight(serving, settings, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    client = serving("trains")
    started = client.post("/api/trial-runs", json=settings)
    assert started.status_code == 202, started.text
    where = started.headers["location"]
    assert where == f"/api/trial-runs/{started.json()['id']}"
    body = over(client, where)
    assert body["trial_run"]["peak_gib"] == 1.82
    assert body["ending"]["kind"] == "finished"
    assert client.get("/api/runs").json() == []
    report = client.post("/api/preflight", json=settings).json()
    assert (report["memory_basis"], report["seconds_basis"]) == ("trial_run", "trial_run")
    assert report["trial_run"]["id"] == started.json()["id"]


def test_a_trial_run_uses_the_machine_and_can_be_stopped(serving, settings, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.3")
    client = serving("trains")
    assert client.post("/api/trial-runs", json=settings | {"lora_r": 0}).status_code == 422
    assert client.get("/api/trial-runs/unknown").status_code == 404
    found = client.post("/api/trial-runs", json=settings).json()["id"]
    busy = client.post("/api/runs", json=settings)
    assert (busy.status_code, busy.json()["holder"]) == (409, "trial-run")
    assert client.post(f"/api/trial-runs/{found}/stop").status_code == 200
    body = over(client, f"/api/trial-runs/{found}")
    assert (body["state"], body["trial_run"]) == ("stopped", None)


def test_a_trial_run_of_rlhf_has_the_verdict_on_the_reward(serving, rlhf, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    client = serving("trains")
    body = over(client, client.post("/api/trial-runs", json=rlhf).headers["location"])
    trial = body["trial_run"]["reward_trial"]
    assert (trial["verdict"], trial["low"], trial["high"]) == ("cheatable", 0.26, 0.5)
    report = client.post("/api/preflight", json=rlhf).json()
    assert report["trial_run"]["reward_trial"] == trial
    assert "reward-cheatable" in {finding["code"] for finding in report["findings"]}
