"""Going on with runs over REST."""

from __future__ import annotations

import dataclasses

import pytest

from modelforge.hardware import machine as machines
from tests.api.conftest import until_state


@pytest.fixture
def lost(serving, answers):
    """A client, and the id of a run that ended without a word after three checkpoints."""
    client = serving("saves")
    run_id = client.post("/api/runs", json=answers).json()["id"]
    until_state(client, run_id, "lost")
    return client, run_id


def test_a_run_that_was_lost_is_resumed_from_its_newest_checkpoint(lost):
    client, run_id = lost
    offers = client.get(f"/api/runs/{run_id}/again").json()
    assert offers["resume"] == {
        "kind": "resume",
        "step": 3,
        "text": "Resumes from step 3.",
        "why_not": "",
    }
    assert offers["start_from"]["why_not"] == "It has left no adapter."
    resumed = client.post(f"/api/runs/{run_id}/resume")
    assert resumed.status_code == 202
    assert resumed.json()["id"] == run_id
    until_state(client, run_id, "finished")
    run = client.get(f"/api/runs/{run_id}").json()
    assert run["step"] == 6
    kinds = [
        event["kind"]
        for event in client.get(
            f"/api/runs/{run_id}/events", headers={"accept": "application/json"}
        ).json()["events"]
    ]
    assert kinds.count("started") == 2
    assert kinds.count("resumed") == 1


def test_a_finished_run_is_continued_in_a_new_one_and_stays_as_it_is(lost):
    client, run_id = lost
    client.post(f"/api/runs/{run_id}/resume")
    until_state(client, run_id, "finished")
    before = client.get(f"/api/runs/{run_id}").json()
    refused = client.post(f"/api/runs/{run_id}/resume")
    assert refused.status_code == 422
    assert "continued" in refused.json()["problems"][0]["what"]
    made = client.post(f"/api/runs/{run_id}/continue", json={"steps": 4, "request_id": "r-1"})
    assert made.status_code == 202, made.text
    new_id = made.json()["id"]
    assert made.headers["location"] == f"/api/runs/{new_id}"
    again = client.post(f"/api/runs/{run_id}/continue", json={"steps": 4, "request_id": "r-1"})
    assert again.json()["id"] == new_id
    until_state(client, new_id, "finished")
    run = client.get(f"/api/runs/{new_id}").json()
    assert run["config"]["max_steps"] == 9  # five were asked for at first
    assert run["step"] == 9  # six, and three more of this actor
    assert run["name"] == f"{before['name']} · continued"
    assert client.get(f"/api/runs/{run_id}").json() == before


def test_a_run_is_not_begun_again_where_there_is_no_room_any_more(lost, tmp_path, monkeypatch):
    client, run_id = lost
    full = dataclasses.replace(machines.probe_machine(tmp_path), disk_free_gib=0.0)
    monkeypatch.setattr(machines, "probe_machine", lambda *_place: full)
    monkeypatch.setattr("modelforge.services.machine.CACHE_S", -1.0)
    refused = client.post(f"/api/runs/{run_id}/resume")
    assert refused.status_code == 422
    assert "disk" in refused.text
    assert client.get(f"/api/runs/{run_id}").json()["state"] == "lost"


@pytest.mark.parametrize("verb", ["resume", "continue"])
def test_what_is_not_there_or_goes_on_cannot_be_gone_on_with(client, answers, verb):
    assert client.post(f"/api/runs/nothing/{verb}").status_code == 404
    run_id = client.post("/api/runs", json=answers).json()["id"]
    refused = client.post(f"/api/runs/{run_id}/{verb}")
    assert refused.status_code == 409
    assert refused.json()["holder"] == run_id


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"steps": 1, "epochs": 1}, "steps"),
        ({"epochs": 1}, "epochs"),
        ({"steps": 0}, "steps"),
    ],
)
def test_how_much_longer_is_checked(lost, body, where):
    client, run_id = lost
    refused = client.post(f"/api/runs/{run_id}/continue", json=body)
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["where"] == where
    assert len(client.get("/api/runs").json()) == 1


def test_a_run_is_not_continued_on_other_data(lost, rows):
    client, run_id = lost
    rows.write_text(rows.read_text() + '{"input": "New?", "output": "Yes."}\n')
    refused = client.post(f"/api/runs/{run_id}/continue")
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["where"] == "dataset"


def test_a_run_without_a_checkpoint_is_not_continued_but_can_begin_anew(serving, answers):
    client = serving("fails")
    run_id = client.post("/api/runs", json=answers).json()["id"]
    until_state(client, run_id, "failed")
    offers = client.get(f"/api/runs/{run_id}/again").json()
    assert offers["continue"]["why_not"] == "The run has no checkpoint to continue from."
    assert offers["resume"]["text"] == "Begins anew: nothing was saved."
    assert client.post(f"/api/runs/{run_id}/continue").status_code == 422
    assert client.post(f"/api/runs/{run_id}/resume").status_code == 202
