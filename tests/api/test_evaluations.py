"""Evaluations over REST, with stand-ins for the evaluator."""

from __future__ import annotations

import sys

import pytest

from tests.api.conftest import ACTORS, until
from tests.services.evaluations.conftest import put_rows
from tests.services.exports.conftest import put_model, put_trained


@pytest.fixture
def run(home, tmp_path):
    run = put_trained(home.root, put_model(tmp_path / "tiny"))
    put_rows(run, tmp_path)
    return run.id


@pytest.fixture
def evaluating(serving):
    """Return a function that serves with evaluators that behave as named."""
    actor = str(ACTORS / "evaluator.py")
    return lambda how: serving("obeys", evaluator=[sys.executable, actor, how])


def started(client, run, **more):
    reply = client.post("/api/evaluations", json={"run": run}, **more)
    assert reply.status_code == 202, reply.text
    assert reply.headers["location"] == f"/api/evaluations/{reply.json()['id']}"
    return reply.json()["id"]


def until_over(client, evaluation, state):
    def view():
        return client.get(f"/api/evaluations/{evaluation}").json()

    until(lambda: view()["state"] == state, f"The evaluation is {view()['state']}, not {state}.")
    return view()


def test_an_evaluation_is_predicted_started_read_and_deleted(evaluating, run):
    client = evaluating("finishes")
    needs = client.post("/api/evaluations/predict", json={"run": run}).json()
    assert (needs["rows"], needs["device"], needs["notes"]) == (40, "cpu", [])
    assert client.get("/api/evaluations").json() == []
    evaluation = started(client, run)
    view = until_over(client, evaluation, "finished")
    assert view["report"]["verdict"]["kind"] == "better"
    assert [step["step"] for step in view["steps"]] == ["base", "report"]
    assert client.get(f"/api/evaluations/{evaluation}/report").json() == view["report"]
    listed = client.get("/api/evaluations", params={"run": run}).json()
    assert [(each["id"], each["report"]) for each in listed] == [(evaluation, None)]
    assert client.get("/api/evaluations", params={"run": "x"}).json() == []
    assert client.delete(f"/api/evaluations/{evaluation}").status_code == 204
    assert client.get(f"/api/evaluations/{evaluation}").status_code == 404


def test_a_request_that_is_sent_twice_makes_one_evaluation(evaluating, run):
    client = evaluating("finishes")
    first = started(client, run, params={"request_id": "one"})
    assert started(client, run, headers={"Idempotency-Key": "one"}) == first
    assert started(client, run) != first


def test_an_evaluation_that_is_stopped_has_no_report(evaluating, run):
    client = evaluating("waits")
    evaluation = started(client, run)
    until_over(client, evaluation, "running")
    assert client.delete(f"/api/evaluations/{evaluation}").status_code == 409
    assert client.post(f"/api/evaluations/{evaluation}/stop").json()["state"] == "stopped"
    reply = client.get(f"/api/evaluations/{evaluation}/report")
    assert reply.status_code == 404
    assert reply.json()["problems"][0]["what"] == "The evaluation is stopped: no report yet."
    assert client.get(f"/api/evaluations/{evaluation}/log").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({}, 422, "run"),
        ({"run": "x"}, 404, "run"),
        ({"run": "RUN", "rows": 0}, 422, "rows"),
        ({"run": "RUN", "rows": "many"}, 422, "rows"),
        ({"run": "RUN", "path": "/etc"}, 422, "path"),
        ({"run": "RUN", "prompts": "/none"}, 404, "prompts"),
        ({"run": "RUN", "tasks": ["../x"]}, 422, "tasks"),
        ({"run": "RUN", "tasks": "x"}, 422, "tasks"),
    ],
)
def test_a_wrong_request_names_what_is_wrong(evaluating, run, body, status, where):
    client = evaluating("finishes")
    sent = {**body, "run": run} if body.get("run") == "RUN" else body
    for path in ("/api/evaluations", "/api/evaluations/predict"):
        reply = client.post(path, json=sent)
        assert reply.status_code == status, reply.text
        assert where in {problem["where"].partition(".")[0] for problem in reply.json()["problems"]}
    assert client.get("/api/evaluations").json() == []


@pytest.mark.parametrize(
    "evaluation", ["x", "..%2f..%2fruns", ".new-20260101-000000", "%00", "a" * 300]
)
def test_an_unknown_evaluation_is_not_found(evaluating, evaluation):
    client = evaluating("finishes")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/report")):
        assert client.request(method, f"/api/evaluations/{evaluation}{path}").status_code == 404
