"""The queue over REST: added to, put in order, held, and worked off."""

from __future__ import annotations

import pytest

from tests.api.conftest import until, until_state


@pytest.fixture
def add(client, answers):
    """Queue a run of a name and return its id."""

    def one(name: str, **how) -> str:
        body = answers | {"logging": {"run_name": name}}
        queued = client.post("/api/queue", json=body, **how)
        assert queued.status_code == 202, queued.text
        assert queued.headers["location"] == f"/api/runs/{queued.json()['id']}"
        return queued.json()["id"]

    return one


def order(client) -> list[str]:
    return [run["name"] for run in client.get("/api/queue").json()["runs"]]


def test_a_queued_run_waits_and_is_a_run_like_others(client, add):
    run = add("first", params={"held": True})
    assert client.get(f"/api/runs/{run}").json()["state"] == "queued"
    told = client.get("/api/queue").json()
    assert (told["code"], told["why"]) == ("all-held", "Every run that waits is held.")
    assert told["runs"][0]["run"] == run
    assert told["runs"][0]["position"] == 1


def test_the_order_is_changed_and_runs_are_held_removed_and_given_a_time(client, add):
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
    told = client.patch("/api/queue", json={"held": False, "go_on_after_failure": False}).json()
    assert (told["held"], told["go_on_after_failure"], told["code"]) == (False, False, "")


def test_what_cannot_be_is_refused_in_words(client, add, answers):
    run = add("one")
    for path, body in (
        ("/api/queue", {"held": "perhaps"}),
        ("/api/queue", {"speed": 1}),
        (f"/api/queue/{run}", {"start_after": "whenever"}),
        (f"/api/queue/{run}", {"start_after": 5}),
        (f"/api/queue/{run}", {"position": 0}),
    ):
        refused = client.patch(path, json=body)
        assert refused.status_code == 422, (path, body)
        assert refused.json()["problems"][0]["what"]
    assert client.post("/api/queue", json=answers | {"lora_r": 0}).status_code == 422
    assert client.post("/api/queue", json=answers, params={"start_after": "?"}).status_code == 422
    assert order(client) == ["one"]


def test_a_run_that_does_not_wait_is_404(client, answers):
    started = client.post("/api/runs", json=answers).json()["id"]
    for run in (started, "nobody", "..%2f..", "a" * 300):
        assert client.patch(f"/api/queue/{run}", json={"held": True}).status_code == 404
        assert client.delete(f"/api/queue/{run}").status_code == 404
    assert client.get(f"/api/runs/{started}").status_code == 200
    assert client.post(f"/api/queue/{started}", json={}).status_code == 404


def test_the_same_request_queues_one_run(client, answers):
    how = {"headers": {"Idempotency-Key": "k"}}
    ids = {client.post("/api/queue", json=answers, **how).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert client.post("/api/runs", json=answers, **how).json()["id"] in ids
    assert len(order(client)) == 1


def test_the_next_one_starts_when_the_machine_is_free(client, serving, add, answers, home):
    first = client.post("/api/runs", json=answers).json()["id"]
    second = add("second")
    told = client.get("/api/queue").json()
    assert told["code"] == "busy"
    assert "is using the GPU" in told["why"]
    client.post(f"/api/runs/{first}/stop")
    until_state(client, first, "stopped")
    forge = serving.forge
    until(lambda: forge.tend() or forge.runs.active() == second, "The second did not start.")
    assert order(client) == []
