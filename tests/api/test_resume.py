"""Resume and continue runs over REST."""

from __future__ import annotations

import dataclasses

import pytest

from modelforge.hardware import machine as machines
from tests.api.conftest import until_state


@pytest.fixture
def lost(serving, settings):
    """A client, and the id of a run whose worker vanished after three checkpoints."""
    client = serving("saves")
    run_id = client.post("/api/runs", json=settings).json()["id"]
    until_state(client, run_id, "lost")
    return client, run_id


def test_a_lost_run_resumes_from_its_newest_checkpoint(lost):
    client, run_id = lost
    options = client.get(f"/api/runs/{run_id}/again").json()
    assert options["resume"] == {
        "kind": "resume",
        "step": 3,
        "stage": None,
        "text": "Resumes from step 3.",
        "why_not": "",
    }
    assert options["start_from"]["why_not"] == "The run has no adapter."
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


def test_a_finished_run_is_continued_in_a_new_run(lost):
    client, run_id = lost
    client.post(f"/api/runs/{run_id}/resume")
    until_state(client, run_id, "finished")
    before = client.get(f"/api/runs/{run_id}").json()
    response = client.post(f"/api/runs/{run_id}/resume")
    assert response.status_code == 422
    assert "continued" in response.json()["problems"][0]["what"]
    created = client.post(f"/api/runs/{run_id}/continue", json={"steps": 4, "request_id": "r-1"})
    assert created.status_code == 202, created.text
    new_id = created.json()["id"]
    assert created.headers["location"] == f"/api/runs/{new_id}"
    again = client.post(f"/api/runs/{run_id}/continue", json={"steps": 4, "request_id": "r-1"})
    assert again.json()["id"] == new_id
    until_state(client, new_id, "finished")
    run = client.get(f"/api/runs/{new_id}").json()
    assert run["config"]["max_steps"] == 9  # five in the first run
    assert run["step"] == 9  # six, and three more of this actor
    # The default depends on the release, and the checkpoint holds the state of this optimizer.
    assert run["config"]["optim"] == before["plan"]["optim"]
    assert run["name"] == f"{before['name']} · continued"
    assert client.get(f"/api/runs/{run_id}").json() == before


def test_a_run_does_not_resume_on_a_full_disk(lost, tmp_path, monkeypatch):
    client, run_id = lost
    full = dataclasses.replace(machines.probe_machine(tmp_path), disk_free_gib=0.0)
    monkeypatch.setattr(machines, "probe_machine", lambda *_place: full)
    monkeypatch.setattr("modelforge.services.machine.CACHE_S", -1.0)
    response = client.post(f"/api/runs/{run_id}/resume")
    assert response.status_code == 422
    assert "disk" in response.text
    assert client.get(f"/api/runs/{run_id}").json()["state"] == "lost"


@pytest.mark.parametrize("verb", ["resume", "continue"])
def test_an_unknown_or_active_run_cannot_be_continued(client, settings, verb):
    assert client.post(f"/api/runs/nothing/{verb}").status_code == 404
    run_id = client.post("/api/runs", json=settings).json()["id"]
    response = client.post(f"/api/runs/{run_id}/{verb}")
    assert response.status_code == 409
    assert response.json()["holder"] == run_id


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"steps": 1, "epochs": 1}, "steps"),
        ({"epochs": 1}, "epochs"),
        ({"steps": 0}, "steps"),
    ],
)
def test_the_additional_steps_are_validated(lost, body, where):
    client, run_id = lost
    response = client.post(f"/api/runs/{run_id}/continue", json=body)
    assert response.status_code == 422
    assert response.json()["problems"][0]["where"] == where
    assert len(client.get("/api/runs").json()) == 1


def test_a_run_is_not_continued_with_changed_data(lost, rows):
    client, run_id = lost
    rows.write_text(rows.read_text() + '{"input": "New?", "output": "Yes."}\n')
    response = client.post(f"/api/runs/{run_id}/continue")
    assert response.status_code == 422
    assert response.json()["problems"][0]["where"] == "dataset"


def test_a_run_without_checkpoint_can_only_start_over(serving, settings):
    client = serving("fails")
    run_id = client.post("/api/runs", json=settings).json()["id"]
    until_state(client, run_id, "failed")
    options = client.get(f"/api/runs/{run_id}/again").json()
    assert options["continue"]["why_not"] == "The run has no checkpoint to continue from."
    assert options["resume"]["text"] == "Starts from the beginning: no checkpoint was saved."
    assert client.post(f"/api/runs/{run_id}/continue").status_code == 422
    assert client.post(f"/api/runs/{run_id}/resume").status_code == 202


def steps_of(client, run_id):
    return [each["step"] for each in client.get(f"/api/runs/{run_id}/again").json()["checkpoints"]]


def test_a_run_resumes_from_a_chosen_step(lost):
    client, run_id = lost
    assert steps_of(client, run_id) == [3, 2, 1]
    assert client.post(f"/api/runs/{run_id}/resume", json={"step": 2}).status_code == 202
    until_state(client, run_id, "finished")
    events = client.get(
        f"/api/runs/{run_id}/events", headers={"accept": "application/json"}
    ).json()["events"]
    (resumed,) = [event for event in events if event["kind"] == "resumed"]
    assert resumed["data"]["step"] == 2
    assert steps_of(client, run_id) == [5, 4, 3, 2, 1]
    assert client.get(f"/api/runs/{run_id}").json()["step"] == 5


def test_a_step_without_a_checkpoint_is_refused_and_nothing_is_deleted(lost):
    client, run_id = lost
    for verb, body in (("resume", {"step": 7}), ("continue", {"from_step": 7})):
        response = client.post(f"/api/runs/{run_id}/{verb}", json=body)
        assert response.status_code == 422
        (problem,) = response.json()["problems"]
        assert problem["what"] == "There is no intact checkpoint of step 7."
        assert problem["remedy"] == "Choose one of the steps 3, 2, 1."
    assert steps_of(client, run_id) == [3, 2, 1]


def test_a_new_run_continues_from_a_chosen_step(lost):
    client, run_id = lost
    body = {"steps": 4, "from_step": 1}
    new_id = client.post(f"/api/runs/{run_id}/continue", json=body).json()["id"]
    until_state(client, new_id, "finished")
    assert client.get(f"/api/runs/{new_id}").json()["step"] == 4  # one, and three of this actor
    assert steps_of(client, run_id) == [3, 2, 1]


def test_a_new_run_begins_with_the_checkpoint_that_it_names(lost, settings):
    client, run_id = lost
    name = "trainer.resume_from_checkpoint"
    checked = client.post("/api/preflight", json=settings | {name: f"{run_id}:2"}).json()
    (change,) = [each for each in checked["plan"]["changes"] if each["where"] == name]
    assert change["used"] == "checkpoint-2"
    assert run_id in change["reason"]
    newest = client.post("/api/preflight", json=settings | {name: True}).json()["plan"]
    assert newest["resume_from"].endswith("checkpoint-3")
    refused = client.post("/api/preflight", json=settings | {name: f"{run_id}:9"}).json()
    assert [problem["where"] for problem in refused["problems"]] == [name]
