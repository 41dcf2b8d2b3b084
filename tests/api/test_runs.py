"""Runs over REST."""

from __future__ import annotations

import json

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.event_types import SamplesEvent
from modelforge.runs.events import EventWriter
from modelforge.runs.progress.measured_events import TimeBreakdownEvent
from tests.api.conftest import until_state
from tests.runs.homes import put_run


def events_in(text: str) -> list[dict]:
    """Return the server-sent events of a stream without comments."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if "event" in fields:
            found.append(fields)
    return found


@pytest.fixture
def run_id(client, settings):
    started = client.post("/api/runs", json=settings)
    assert started.status_code == 202, started.text
    return started.json()["id"]


@pytest.fixture
def over(serving, settings):
    """A client, and the id of a run that has finished."""
    client = serving("finishes")
    run_id = client.post("/api/runs", json=settings).json()["id"]
    until_state(client, run_id, "finished")
    return client, run_id


def test_a_posted_body_starts_a_run(client, settings):
    started = client.post("/api/runs", json=settings)
    assert started.status_code == 202
    where = started.headers["location"]
    assert where == f"/api/runs/{started.json()['id']}"
    run = client.get(where).json()
    assert run["config"] == settings
    assert run["origins"]["max_steps"] == "body"
    assert run["origins"]["lora_r"] == "contract"
    assert run["plan"]["total_steps"] == 5
    assert [row["id"] for row in client.get("/api/runs").json()] == [run["id"]]


def test_the_setting_run_name_names_the_run(client, settings):
    body = settings | {"logging": {"run_name": "Käpt'n <b>Blue</b>"}}
    run_id = client.post("/api/runs", json=body).json()["id"]
    assert client.get(f"/api/runs/{run_id}").json()["name"] == "Käpt'n <b>Blue</b>"


def test_a_second_run_is_rejected_and_names_the_first(client, settings, run_id):
    second = client.post("/api/runs", json=settings)
    assert second.status_code == 409
    assert second.json()["holder"] == run_id
    assert len(client.get("/api/runs").json()) == 1
    assert client.get("/api/health").json()["active"] == run_id


@pytest.mark.parametrize(
    "how", [{"headers": {"Idempotency-Key": "k-1"}}, {"params": {"request_id": "k-1"}}]
)
def test_a_repeated_request_id_starts_no_second_run(client, settings, how):
    first, again = (client.post("/api/runs", json=settings, **how) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]


def test_an_invalid_request_id_is_rejected(client, settings):
    for key in ["", "two words", "x" * 201]:
        response = client.post("/api/runs", json=settings, headers={"Idempotency-Key": key})
        assert response.status_code == 422
        assert response.json()["problems"][0]["where"] == "Idempotency-Key"


def test_all_problems_are_returned_and_nothing_is_created(client, settings, home):
    body = settings | {"lora_r": 0, "learnin_rate": 1, "eval_split": 2}
    response = client.post("/api/runs", json=body)
    assert response.status_code == 422
    assert {item["where"] for item in response.json()["problems"]} == {
        "lora_r", "learnin_rate", "eval_split",
    }  # fmt: skip
    assert client.get("/api/runs").json() == []


def test_unsuitable_rows_are_rejected_with_a_finding(client, settings):
    response = client.post("/api/runs", json=settings | {"strategy": "dpo"})
    assert response.status_code == 422
    assert "wrong-kind" in {item["code"] for item in response.json()["findings"]}


@pytest.mark.parametrize("where", ["/api/runs", "/api/preflight"])
def test_a_body_that_is_not_a_json_object_is_rejected(client, where):
    bodies = [b"", b"{broken", b"[1, 2]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000]
    for body in bodies:
        response = client.post(where, content=body)
        assert response.status_code == 422
        assert response.json()["problems"][0]["where"] == "body"
        assert "Traceback" not in response.text


def test_a_missing_model_is_404(client, settings, tmp_path):
    response = client.post("/api/runs", json=settings | {"model_name": str(tmp_path / "none")})
    assert response.status_code == 404
    assert response.json()["problems"][0]["where"] == "model_name"


def test_an_unknown_id_is_404_on_every_route(client):
    routes = [("GET", ""), ("GET", "/events"), ("GET", "/log"), ("POST", "/stop"), ("DELETE", "")]
    for path in ["unknown", "..", "%2e%2e", "..%2f..%2fetc", "%00", "a" * 300, "C:%5C", "-rf"]:
        for verb, rest in routes:
            assert client.request(verb, f"/api/runs/{path}{rest}").status_code == 404


def test_a_run_is_stopped_and_then_deleted(client, run_id):
    until_state(client, run_id, "running")
    assert client.delete(f"/api/runs/{run_id}").status_code == 409
    stopped = client.post(f"/api/runs/{run_id}/stop")
    assert stopped.json()["state"] in {"stopping", "stopped"}
    assert until_state(client, run_id, "stopped")["ending"]["kept"] is True
    assert client.delete(f"/api/runs/{run_id}").status_code == 204
    assert client.get(f"/api/runs/{run_id}").status_code == 404


def test_a_run_can_be_stopped_and_discarded(client, run_id):
    until_state(client, run_id, "running")
    client.post(f"/api/runs/{run_id}/stop", json={"keep": False})
    assert until_state(client, run_id, "stopped")["ending"]["kept"] is False


def test_an_invalid_stop_is_rejected(client, run_id):
    response = client.post(f"/api/runs/{run_id}/stop", json={"keep": "perhaps"})
    assert response.status_code == 422
    assert response.json()["problems"][0]["where"] == "keep"


def test_the_end_of_the_log_is_plain_text(over):
    client, run_id = over
    response = client.get(f"/api/runs/{run_id}/log", params={"tail": 10})
    assert response.headers["content-type"].startswith("text/plain")


def test_control_characters_are_removed_from_the_log(over, home):
    client, run_id = over
    (home.runs / run_id / "worker.log").write_bytes(b"a\x1b]52;c;x\x07b\tc\n\xff")
    assert client.get(f"/api/runs/{run_id}/log").text == "a�]52;c;x�b\tc\n�"


def test_the_stream_has_every_event_once_and_ends_with_the_run(over):
    client, run_id = over
    response = client.get(f"/api/runs/{run_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events_in(response.text)
    assert [item["event"] for item in found] == ["started", *["step"] * 3, "finished", "over"]
    assert [item["id"] for item in found] == ["1", "2", "3", "4", "5", "5"]
    assert json.loads(found[1]["data"])["data"]["loss"] == 1.0
    assert json.loads(found[-1]["data"]) == {"state": "finished"}


def test_a_stream_resumes_after_any_event(over):
    client, run_id = over
    for seen in range(5):
        headers = {"Last-Event-ID": str(seen)}
        response = client.get(f"/api/runs/{run_id}/events", headers=headers)
        numbers = [int(item["id"]) for item in events_in(response.text) if item["event"] != "over"]
        assert numbers == list(range(seen + 1, 6))


def test_a_client_with_all_events_gets_204(over):
    client, run_id = over
    response = client.get(f"/api/runs/{run_id}/events", headers={"Last-Event-ID": "5"})
    assert response.status_code == 204


def test_events_are_returned_as_a_json_page(over):
    client, run_id = over
    json_please = {"Accept": "application/json"}
    page = client.get(f"/api/runs/{run_id}/events", headers=json_please).json()
    assert [item["n"] for item in page["events"]] == [1, 2, 3, 4, 5]
    assert (page["last"], page["state"]) == (5, "finished")
    rest = client.get(f"/api/runs/{run_id}/events", headers=json_please, params={"after": 4})
    assert [item["n"] for item in rest.json()["events"]] == [5]


def test_events_arrive_while_the_run_is_active(client, run_id):
    kinds = []
    with client.stream("GET", f"/api/runs/{run_id}/events") as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if len(kinds) == 10:
                client.post(f"/api/runs/{run_id}/stop")
    assert kinds[0] == "started"
    assert kinds[-2:] == ["stopped", "over"]


def test_the_stream_of_a_lost_run_ends(serving, settings):
    client = serving("vanishes")
    run_id = client.post("/api/runs", json=settings).json()["id"]
    until_state(client, run_id, "lost")
    found = events_in(client.get(f"/api/runs/{run_id}/events").text)
    assert json.loads(found[-1]["data"]) == {"state": "lost"}


def test_a_failed_run_has_a_cause(serving, settings):
    client = serving("fails")
    run_id = client.post("/api/runs", json=settings).json()["id"]
    ending = until_state(client, run_id, "failed")["ending"]
    assert (ending["kind"], ending["cause"]) == ("failed", "out-of-memory")


def test_an_idle_stream_sends_keep_alive_comments(client, run_id, monkeypatch):
    until_state(client, run_id, "running")
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    with client.stream("GET", f"/api/runs/{run_id}/events", params={"after": 10**9}) as response:
        assert response.headers["cache-control"].startswith("no-")
        assert response.headers["x-accel-buffering"] == "no"
        lines = response.iter_lines()
        assert next(lines) == "retry: 2000"
        assert any(line.startswith(":") for line in lines)


def test_the_stream_of_a_deleted_run_ends(serving, settings, home):
    client = serving("obeys")
    run_id = client.post("/api/runs", json=settings).json()["id"]
    until_state(client, run_id, "running")
    with client.stream("GET", f"/api/runs/{run_id}/events") as response:
        lines = response.iter_lines()
        next(lines)
        client.post(f"/api/runs/{run_id}/stop")
        until_state(client, run_id, "stopped")
        client.delete(f"/api/runs/{run_id}")
        assert [line for line in lines if line.startswith("event: ")][-1] in {
            "event: over",
            "event: stopped",
            "event: step",
            "event: started",
        }


def test_a_disconnected_client_ends_the_stream_on_the_server(client, run_id):
    until_state(client, run_id, "running")
    with client.stream("GET", f"/api/runs/{run_id}/events") as response:
        next(response.iter_lines())
    # The server answers and stops the run although the stream was left open by the client.
    assert client.post(f"/api/runs/{run_id}/stop").status_code == 200
    until_state(client, run_id, "stopped")


def test_samples_over_time_are_listed(client, home):
    folder = put_run(home.root, 1)
    answer = {
        "prompt": "Who?", "source": "yours", "expected": "", "text": "Me.", "tokens": 2,
        "cut": False,
    }  # fmt: skip
    with EventWriter(folder.events) as events:
        events.write(SamplesEvent(step=0, answers=[answer], seconds=1.5))
    (first,) = client.get(f"/api/runs/{folder.id}/samples").json()
    assert first["answers"] == [answer]
    assert (first["step"], first["seconds"]) == (0, 1.5)
    assert client.get("/api/runs/unknown/samples").status_code == 404


def test_time_and_memory_by_part_are_returned(client, home):
    folder = put_run(home.root, 5)
    with EventWriter(folder.events) as events:
        events.write(TimeBreakdownEvent(step=3, parts={"forward": 2.0, "backward": 6.0}))
    measured = client.get(f"/api/runs/{folder.id}/breakdown").json()
    assert [part["share"] for part in measured["time"]] == [0.25, 0.75]
    assert measured["memory"] == []
    assert client.get("/api/runs/unknown/breakdown").status_code == 404


def test_a_run_of_another_computer_is_taken_in(serving, home, tmp_path):
    there = Forge(Home(tmp_path / "there"))
    run = put_run(there.home.root, 1)
    rows = tmp_path / "far.jsonl"
    rows.write_text("{}\n", "utf-8")
    record = json.loads(run.config.read_text("utf-8"))
    record["dataset"]["path"] = str(rows)
    run.config.write_text(json.dumps(record), "utf-8")
    packed = there.archives.pack(run.id, tmp_path / "run.zip").read_bytes()
    client = serving("finishes")
    taken = client.post("/api/runs/import", content=packed)
    assert (taken.status_code, taken.json()) == (201, {"id": run.id, "state": "finished"})
    assert client.get(taken.headers["location"]).json()["name"] == "run 1"
    again = client.post("/api/runs/import", content=packed)
    assert again.status_code == 422
    assert "is here already" in again.text
    damaged = client.post("/api/runs/import", content=packed[:-100])
    assert damaged.status_code == 422
    assert "damaged" in damaged.text
    assert client.post("/api/runs/import", content=b"").status_code == 422


def test_a_notebook_is_returned_and_nothing_is_started(client, settings):
    answer = client.post("/api/notebook", json=settings | {"strategy": "sft"})
    assert answer.status_code == 200, answer.text
    assert 'filename="training-run.ipynb"' in answer.headers["content-disposition"]
    assert answer.json()["nbformat"] == 4
    assert client.get("/api/runs").json() == []
    assert client.post("/api/notebook", json={}).status_code == 422
