"""Runs over REST, from a posted body to the last event."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import until_state


def events_in(text: str) -> list[dict]:
    """Return the server-sent events in a piece of stream, comments left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if "event" in fields:
            found.append(fields)
    return found


@pytest.fixture
def run_id(client, answers):
    started = client.post("/api/runs", json=answers)
    assert started.status_code == 202, started.text
    return started.json()["id"]


@pytest.fixture
def over(serving, answers):
    """A client, and the id of a run that has finished."""
    client = serving("finishes")
    run_id = client.post("/api/runs", json=answers).json()["id"]
    until_state(client, run_id, "finished")
    return client, run_id


def test_a_posted_body_becomes_a_run(client, answers):
    started = client.post("/api/runs", json=answers)
    assert started.status_code == 202
    where = started.headers["location"]
    assert where == f"/api/runs/{started.json()['id']}"
    run = client.get(where).json()
    assert run["config"] == answers
    assert run["origins"]["max_steps"] == "body"
    assert run["origins"]["lora_r"] == "contract"
    assert run["plan"]["total_steps"] == 5
    assert [row["id"] for row in client.get("/api/runs").json()] == [run["id"]]


def test_a_name_given_in_the_logging_group_is_the_name_of_the_run(client, answers):
    body = answers | {"logging": {"run_name": "Käpt'n <b>Blue</b>"}}
    run_id = client.post("/api/runs", json=body).json()["id"]
    assert client.get(f"/api/runs/{run_id}").json()["name"] == "Käpt'n <b>Blue</b>"


def test_a_second_run_is_refused_and_names_the_first(client, answers, run_id):
    second = client.post("/api/runs", json=answers)
    assert second.status_code == 409
    assert second.json()["holder"] == run_id
    assert len(client.get("/api/runs").json()) == 1
    assert client.get("/api/health").json()["active"] == run_id


@pytest.mark.parametrize(
    "how", [{"headers": {"Idempotency-Key": "k-1"}}, {"params": {"request_id": "k-1"}}]
)
def test_the_same_request_never_starts_a_second_run(client, answers, how):
    first, again = (client.post("/api/runs", json=answers, **how) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]


def test_a_key_that_cannot_be_one_is_refused(client, answers):
    for key in ["", "two words", "x" * 201]:
        refused = client.post("/api/runs", json=answers, headers={"Idempotency-Key": key})
        assert refused.status_code == 422
        assert refused.json()["problems"][0]["where"] == "Idempotency-Key"


def test_every_problem_is_told_at_once_and_nothing_is_created(client, answers, home):
    body = answers | {"lora_r": 0, "learnin_rate": 1, "eval_split": 2}
    refused = client.post("/api/runs", json=body)
    assert refused.status_code == 422
    assert {each["where"] for each in refused.json()["problems"]} == {
        "lora_r", "learnin_rate", "eval_split",
    }  # fmt: skip
    assert client.get("/api/runs").json() == []


def test_what_this_version_does_not_train_is_refused_with_its_finding(client, answers):
    refused = client.post(
        "/api/runs", json=answers | {"provider": "unsloth", "max_seq_length": 256}
    )
    assert refused.status_code == 422
    assert "not-here-yet" in {each["code"] for each in refused.json()["findings"]}


@pytest.mark.parametrize("where", ["/api/runs", "/api/preflight"])
def test_a_body_that_is_no_json_object_is_refused_in_words(client, where):
    bodies = [b"", b"{broken", b"[1, 2]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000]
    for body in bodies:
        refused = client.post(where, content=body)
        assert refused.status_code == 422
        assert refused.json()["problems"][0]["where"] == "body"
        assert "Traceback" not in refused.text


def test_a_model_that_is_not_there_is_404(client, answers, tmp_path):
    refused = client.post("/api/runs", json=answers | {"model_name": str(tmp_path / "none")})
    assert refused.status_code == 404
    assert refused.json()["problems"][0]["where"] == "model_name"


def test_an_id_that_is_none_is_404_on_every_route(client):
    routes = [("GET", ""), ("GET", "/events"), ("GET", "/log"), ("POST", "/stop"), ("DELETE", "")]
    for path in ["nobody", "..", "%2e%2e", "..%2f..%2fetc", "%00", "a" * 300, "C:%5C", "-rf"]:
        for verb, rest in routes:
            assert client.request(verb, f"/api/runs/{path}{rest}").status_code in {404, 405}


def test_a_run_is_stopped_and_then_deleted(client, run_id):
    until_state(client, run_id, "running")
    assert client.delete(f"/api/runs/{run_id}").status_code == 409
    stopped = client.post(f"/api/runs/{run_id}/stop")
    assert stopped.json()["state"] in {"stopping", "stopped"}
    assert until_state(client, run_id, "stopped")["ending"]["kept"] is True
    assert client.delete(f"/api/runs/{run_id}").status_code == 204
    assert client.get(f"/api/runs/{run_id}").status_code == 404


def test_a_run_can_be_stopped_without_keeping_anything(client, run_id):
    until_state(client, run_id, "running")
    client.post(f"/api/runs/{run_id}/stop", json={"keep": False})
    assert until_state(client, run_id, "stopped")["ending"]["kept"] is False


def test_a_stop_with_nonsense_is_refused_in_words(client, run_id):
    refused = client.post(f"/api/runs/{run_id}/stop", json={"keep": "perhaps"})
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["where"] == "keep"


def test_the_end_of_the_log_is_plain_text(over):
    client, run_id = over
    answer = client.get(f"/api/runs/{run_id}/log", params={"tail": 10})
    assert answer.headers["content-type"].startswith("text/plain")


def test_control_characters_of_a_log_stay_away_from_terminals(over, home):
    client, run_id = over
    (home.runs / run_id / "worker.log").write_bytes(b"a\x1b]52;c;x\x07b\tc\n\xff")
    assert client.get(f"/api/runs/{run_id}/log").text == "a�]52;c;x�b\tc\n�"


def test_the_stream_gives_every_event_once_and_ends_with_the_run(over):
    client, run_id = over
    answer = client.get(f"/api/runs/{run_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events_in(answer.text)
    assert [each["event"] for each in found] == ["started", *["step"] * 3, "finished", "over"]
    assert [each["id"] for each in found] == ["1", "2", "3", "4", "5", "5"]
    assert json.loads(found[1]["data"])["data"]["loss"] == 1.0
    assert json.loads(found[-1]["data"]) == {"state": "finished"}


def test_a_stream_resumes_after_any_event_without_loss_or_doubling(over):
    client, run_id = over
    for seen in range(5):
        headers = {"Last-Event-ID": str(seen)}
        answer = client.get(f"/api/runs/{run_id}/events", headers=headers)
        numbers = [int(each["id"]) for each in events_in(answer.text) if each["event"] != "over"]
        assert numbers == list(range(seen + 1, 6))


def test_who_has_read_everything_is_told_not_to_come_back(over):
    client, run_id = over
    answer = client.get(f"/api/runs/{run_id}/events", headers={"Last-Event-ID": "5"})
    assert answer.status_code == 204


def test_a_page_of_events_is_given_to_who_asks_for_json(over):
    client, run_id = over
    json_please = {"Accept": "application/json"}
    page = client.get(f"/api/runs/{run_id}/events", headers=json_please).json()
    assert [each["n"] for each in page["events"]] == [1, 2, 3, 4, 5]
    assert (page["last"], page["state"]) == (5, "finished")
    rest = client.get(f"/api/runs/{run_id}/events", headers=json_please, params={"after": 4})
    assert [each["n"] for each in rest.json()["events"]] == [5]


def test_events_arrive_while_the_run_goes_on(client, run_id):
    kinds = []
    with client.stream("GET", f"/api/runs/{run_id}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if len(kinds) == 10:
                client.post(f"/api/runs/{run_id}/stop")
    assert kinds[0] == "started"
    assert kinds[-2:] == ["stopped", "over"]


def test_a_run_that_vanished_is_lost_and_its_stream_ends(serving, answers):
    client = serving("vanishes")
    run_id = client.post("/api/runs", json=answers).json()["id"]
    until_state(client, run_id, "lost")
    found = events_in(client.get(f"/api/runs/{run_id}/events").text)
    assert json.loads(found[-1]["data"]) == {"state": "lost"}


def test_the_cause_of_a_failure_is_told(serving, answers):
    client = serving("fails")
    run_id = client.post("/api/runs", json=answers).json()["id"]
    ending = until_state(client, run_id, "failed")["ending"]
    assert (ending["kind"], ending["cause"]) == ("failed", "out-of-memory")
