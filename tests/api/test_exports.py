"""Exports over REST, with stand-ins for the exporter."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest

from tests.api.conftest import ACTORS, until
from tests.services.exports.conftest import put_model, put_trained


@pytest.fixture
def run(home, tmp_path):
    return put_trained(home.root, put_model(tmp_path / "tiny")).id


@pytest.fixture
def exporting(serving):
    """Return a function that serves with exporters that behave as named."""
    return lambda how: serving("obeys", exporter=[sys.executable, str(ACTORS / "exporter.py"), how])


def started(client, run, **more):
    reply = client.post("/api/exports", json={"run": run, "format": "merged"}, **more)
    assert reply.status_code == 202, reply.text
    assert reply.headers["location"] == f"/api/exports/{reply.json()['id']}"
    return reply.json()["id"]


def until_over(client, export, state):
    def view():
        return client.get(f"/api/exports/{export}").json()

    until(lambda: view()["state"] == state, f"The export is {view()['state']}, not {state}.")
    return view()


def test_an_export_is_predicted_started_downloaded_and_deleted(exporting, run, home):
    client = exporting("finishes")
    needs = client.post("/api/exports/predict", json={"run": run, "format": "merged"}).json()
    assert 0 < needs["bytes"] <= needs["disk_bytes"] < needs["disk_free"]
    assert client.get("/api/exports").json() == []
    export = started(client, run)
    view = until_over(client, export, "finished")
    assert (view["self_test"]["passed"], view["run"], view["format"]) == (True, run, "merged")
    assert [step["step"] for step in view["steps"]] == ["merge", "self-test"]
    assert [each["id"] for each in client.get("/api/exports", params={"run": run}).json()] == [
        export
    ]
    assert client.get("/api/exports", params={"run": "x"}).json() == []

    one = client.get(f"/api/exports/{export}/download")
    assert one.content == b"x" * 3000
    assert one.headers["content-disposition"] == "attachment; filename*=utf-8''model.safetensors"
    files = home.exports / export / "files"
    (files / "config.json").write_text("{}")
    (files / "passwd").symlink_to("/etc/passwd")
    several = client.get(f"/api/exports/{export}/download")
    with zipfile.ZipFile(io.BytesIO(several.content)) as archive:
        names = {f"{view['name']}/config.json", f"{view['name']}/model.safetensors"}
        assert set(archive.namelist()) == names
        assert archive.testzip() is None
    assert several.headers["content-disposition"].endswith(f"''{view['name']}.zip")

    assert client.delete(f"/api/exports/{export}").status_code == 204
    assert client.get(f"/api/exports/{export}").status_code == 404


def test_a_request_that_is_sent_twice_makes_one_export(exporting, run):
    client = exporting("finishes")
    first = started(client, run, params={"request_id": "one"})
    assert started(client, run, headers={"Idempotency-Key": "one"}) == first
    assert started(client, run) != first


def test_what_failed_its_self_test_is_downloaded_as_not_usable(exporting, run):
    client = exporting("refuses")
    view = until_over(client, export := started(client, run), "failed")
    assert (view["self_test"]["cause"], view["problem"]["remedy"]) == (
        "wrong base",
        "Export again.",
    )
    reply = client.get(f"/api/exports/{export}/download")
    assert "''not-usable-model.safetensors" in reply.headers["content-disposition"]


def test_an_export_that_is_stopped_has_no_files(exporting, run):
    client = exporting("waits")
    export = started(client, run)
    until_over(client, export, "running")
    assert client.delete(f"/api/exports/{export}").status_code == 409
    assert client.post(f"/api/exports/{export}/stop").json()["state"] == "stopped"
    assert client.get(f"/api/exports/{export}/download").status_code == 404
    assert client.get(f"/api/exports/{export}/log").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"format": "merged"}, 422, "run"),
        ({"run": "x", "format": "merged"}, 404, "run"),
        ({"run": "RUN", "format": "exe"}, 422, "format"),
        ({"run": "RUN", "format": "merged", "path": "/etc"}, 422, "path"),
        ({"run": "RUN", "format": "hub", "repository": "../x"}, 422, "repository"),
        ({"run": "RUN", "format": "merged", "density": 7}, 422, "density"),
        ({"run": "RUN", "format": "merged", "adapters": [["../../x", 1]]}, 404, "run"),
        ({"run": "RUN", "format": "merged", "adapters": "x"}, 422, "adapters"),
    ],
)
def test_a_wrong_request_names_what_is_wrong(exporting, run, body, status, where):
    client = exporting("finishes")
    sent = {**body, "run": run} if body.get("run") == "RUN" else body
    for path in ("/api/exports", "/api/exports/predict"):
        reply = client.post(path, json=sent)
        assert reply.status_code == status, reply.text
        assert where in {problem["where"].partition(".")[0] for problem in reply.json()["problems"]}
    assert client.get("/api/exports").json() == []


@pytest.mark.parametrize(
    "export", ["x", "..%2f..%2fruns", ".new-20260101-000000", "%00", "a" * 300]
)
def test_an_unknown_export_is_not_found(exporting, export):
    client = exporting("finishes")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/download")):
        assert client.request(method, f"/api/exports/{export}{path}").status_code == 404
