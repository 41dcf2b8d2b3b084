"""The routes of chats: streams, saved chats, votes, corrections and questions that wait."""

from __future__ import annotations

import json

import pytest

from tests.actors.talks import BASE, OTHER, TUNED
from tests.api.conftest import actor, until
from tests.services.exports.conftest import put_model, put_trained

HELLO = [{"role": "user", "content": "What is the capital?"}]


@pytest.fixture
def api(serving):
    return serving("obeys", chat_process=actor("talks"))


@pytest.fixture
def run(api, home, tmp_path):
    """The id of a tuned run."""
    return put_trained(home.root, put_model(tmp_path / "tiny"), 1, name="captain").id


def ask(api, sides, **more):
    body = {"sides": [{"messages": HELLO, **side} for side in sides], **more}
    response = api.post("/api/chat", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return [json.loads(line) for line in response.text.splitlines()]


def text_of(parts, side):
    return "".join(
        part["text"] for part in parts if part.get("side") == side and set(part) == {"side", "text"}
    )


def test_two_sides_are_streamed_as_lines(api, run):
    parts = ask(api, [{"model": run, "tuned": False}, {"model": run}], sampling={"seed": 4})
    assert (text_of(parts, 0), text_of(parts, 1)) == (BASE, TUNED)
    done = [part["done"] for part in parts if "done" in part]
    assert [each["seed"] for each in done] == [4, 4]
    assert done[0]["context"] == 2048


def test_an_error_before_the_stream_has_a_status_and_one_within_is_a_line(api, run):
    body = {"sides": [{"model": "nothing", "messages": HELLO}]}
    assert api.post("/api/chat", json=body).status_code == 404
    assert api.post("/api/chat", json={"sides": []}).status_code == 422
    wrong = {"sides": [{"model": run, "messages": HELLO}], "sampling": {"top_k": -1}}
    response = api.post("/api/chat", json=wrong)
    assert response.status_code == 422
    assert "top_k" in response.text
    fails = [{"role": "user", "content": "Fail: broken."}]
    (*_, last) = ask(api, [{"model": run, "messages": fails}])
    assert last == {"error": {"where": "chat", "what": "broken.", "remedy": "Look at the log."}}


def test_how_a_model_is_asked(api, run):
    view = api.get(f"/api/chat/models/{run}").json()
    assert (view["name"], view["format"], view["has_base"]) == ("captain", "conversation", True)
    assert view["cpu"]["possible"]
    assert api.get("/api/chat/models/nothing").status_code == 404


def test_a_blind_question_is_voted_on(api, run):
    sides = [{"model": run, "tuned": False}, {"model": run}]
    first, *parts = ask(api, sides, blind=True)
    vote = {"question": first["question"], "choice": "left"}
    reveal = api.post("/api/chat/votes", json=vote).json()
    shown = text_of(parts, 0)
    assert reveal["winner"] == [BASE, TUNED].index(shown)
    assert api.post("/api/chat/votes", json=vote).status_code == 404
    (rate,) = api.get("/api/chat/votes", params={"run": run}).json()
    assert rate == reveal["rate"]
    assert rate["wins"] == reveal["winner"]
    assert api.get("/api/chat/votes", params={"run": "nothing"}).status_code == 404
    assert api.post("/api/chat/votes", json={**vote, "choice": "both"}).status_code == 422


def test_a_chat_is_saved_renamed_and_deleted(api):
    content = {"sides": [{"model": "m"}], "turns": [{"asked": "Hello", "answers": []}]}
    saved = api.post("/api/chat/saved", json=content)
    assert saved.status_code == 201
    place = f"/api/chat/saved/{saved.json()['id']}"
    assert api.get("/api/chat/saved").json()[0]["name"] == "Hello"
    assert api.patch(place, json={"name": "Greetings"}).json()["name"] == "Greetings"
    assert api.put(place, json={**content, "mode": "pair"}).json()["mode"] == "pair"
    assert api.get(place).json()["turns"][0]["asked"] == "Hello"
    assert api.delete(place).status_code == 204
    for response in (api.get(place), api.delete(place), api.put(place, json=content)):
        assert response.status_code == 404
    assert api.post("/api/chat/saved", json={**content, "extra": 1}).status_code == 422


def test_an_answer_is_corrected(api, run):
    body = {"model": run, "messages": HELLO, "answer": BASE, "correction": OTHER}
    taught = api.post("/api/chat/corrections", json=body)
    assert taught.status_code == 201, taught.text
    assert taught.json()["dataset"] == "corrections.jsonl"
    (listed,) = api.get("/api/chat/corrections").json()
    assert (listed["id"], listed["correction"]) == (taught.json()["id"], OTHER)
    assert "corrections.jsonl" in [one["name"] for one in api.get("/api/datasets").json()]
    place = f"/api/chat/corrections/{listed['id']}"
    assert api.delete(place).status_code == 204
    assert api.delete(place).status_code == 404
    assert api.post("/api/chat/corrections", json={**body, "correction": ""}).status_code == 422


def test_a_question_waits_while_a_run_trains(api, run, settings):
    training = api.post("/api/runs", json=settings).json()["id"]
    body = {"sides": [{"model": run, "messages": HELLO}]}
    refused = api.post("/api/chat", json=body)
    assert (refused.status_code, refused.json()["holder"]) == (409, training)
    kept = api.post("/api/chat/questions", json=body)
    assert kept.status_code == 201
    assert (kept.json()["state"], kept.json()["holder"]) == ("waiting", training)
    place = f"/api/chat/questions/{kept.json()['id']}"
    assert api.post(f"{place}/cpu").status_code == 202

    def answered():
        return api.get(place).json()["state"] == "answered"

    until(answered, "It was not answered on the CPU.")
    assert api.get("/api/chat/questions").json()[0]["answers"][0]["text"] == TUNED
    assert api.delete(place).status_code == 204
    assert api.get(place).status_code == 404
    api.post(f"/api/runs/{training}/stop")
    until(lambda: api.get(f"/api/runs/{training}").json()["state"] == "stopped", "It runs on.")
