"""The queue over REST."""

from __future__ import annotations

import pytest

from tests.api.conftest import until, until_state


@pytest.fixture
def add(client, settings):
    """Return a function that queues a named run and returns its id."""

    def one(name: str, **how) -> str:
        body = settings | {"logging": {"run_name": name}}
        queued = client.post("/api/queue", json=body, **how)
        assert queued.status_code == 202, queued.text
        assert queued.headers["location"] == f"/api/runs/{queued.json()['id']}"
        return queued.json()["id"]

    return one


def order(client) -> list[str]:
    return [run["name"] for run in client.get("/api/queue").json()["runs"]]


def test_a_queued_run_is_listed_as_a_run(client, add):
    run = add("first", params={"held": True})
    assert client.get(f"/api/runs/{run}").json()["state"] == "queued"
    body = client.get("/api/queue").json()
    assert (body["code"], body["why"]) == ("all-held", "Every waiting run is held.")
    assert body["runs"][0]["run"] == run
    assert body["runs"][0]["position"] == 1


def test_queued_runs_are_moved_held_scheduled_and_removed(client, add):
    ids = {name: add(name) for name in ("a", "b", "c")}
    moved = client.patch(f"/api/queue/{ids['c']}", json={"position": 1, "held": True})
    assert [run["name"] for run in moved.json()["runs"]] == ["c", "a", "b"]
    assert moved.json()["runs"][0]["held"] is True
    timed = client.patch(f"/api/queue/{ids['a']}", json={"start_after": "+2h"}).json()
    assert timed["runs"][1]["when"]
    at_once = client.patch(f"/api/queue/{ids['a']}", json={"start_after": None}).json()
    assert at_once["runs"][1]["start_after"] is None
    assert client.delete(f"/api/queue/{ids['b']}").status_code == 204
    assert client.get(f"/api/runs/{ids['b']}").status_code == 404
    assert order(client) == ["c", "a"]


def test_the_whole_queue_is_held_and_released(client, add):
    add("one")
    assert client.patch("/api/queue", json={"held": True}).json()["code"] == "held"
    body = client.patch("/api/queue", json={"held": False, "go_on_after_failure": False}).json()
    assert (body["held"], body["go_on_after_failure"], body["code"]) == (False, False, "")


def test_invalid_queue_requests_are_rejected(client, add, settings):
    run = add("one")
    for path, body in (
        ("/api/queue", {"held": "perhaps"}),
        ("/api/queue", {"speed": 1}),
        (f"/api/queue/{run}", {"start_after": "whenever"}),
        (f"/api/queue/{run}", {"start_after": 5}),
        (f"/api/queue/{run}", {"position": 0}),
    ):
        response = client.patch(path, json=body)
        assert response.status_code == 422, (path, body)
        assert response.json()["problems"][0]["what"]
    assert client.post("/api/queue", json=settings | {"lora_r": 0}).status_code == 422
    assert client.post("/api/queue", json=settings, params={"start_after": "?"}).status_code == 422
    assert order(client) == ["one"]


def test_a_run_that_is_not_queued_is_404(client, settings):
    started = client.post("/api/runs", json=settings).json()["id"]
    for run in (started, "unknown", "..%2f..", "a" * 300):
        assert client.patch(f"/api/queue/{run}", json={"held": True}).status_code == 404
        assert client.delete(f"/api/queue/{run}").status_code == 404
    assert client.get(f"/api/runs/{started}").status_code == 200
    assert client.post(f"/api/queue/{started}", json={}).status_code == 404


def test_the_same_request_queues_one_run(client, settings):
    how = {"headers": {"Idempotency-Key": "k"}}
    ids = {client.post("/api/queue", json=settings, **how).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert client.post("/api/runs", json=settings, **how).json()["id"] in ids
    assert len(order(client)) == 1


def test_the_next_run_starts_when_the_machine_is_free(client, serving, add, settings, home):
    first = client.post("/api/runs", json=settings).json()["id"]
    second = add("second")
    body = client.get("/api/queue").json()
    assert body["code"] == "busy"
    assert "is using this computer" in body["why"]
    client.post(f"/api/runs/{first}/stop")
    until_state(client, first, "stopped")
    forge = serving.forge
    until(lambda: forge.tend() or forge.runs.active() == second, "The second did not start.")
    assert order(client) == []
