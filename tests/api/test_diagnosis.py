"""Diagnosis, retry and support bundle over REST."""

from __future__ import annotations

import io
import zipfile

from tests.api.conftest import until_state


def test_a_failed_run_has_a_diagnosis_a_retry_and_a_bundle(serving, settings):
    client = serving("fails")
    run = client.post("/api/runs", json=settings | {"per_device_train_batch_size": 2}).json()["id"]
    until_state(client, run, "failed")
    body = client.get(f"/api/runs/{run}/diagnosis").json()
    assert (body["code"], body["certain"]) == ("out-of-memory", True)
    assert body["action"]["settings"]["per_device_train_batch_size"] == 1
    again = client.post(f"/api/runs/{run}/retry", params={"request_id": "one"})
    assert again.status_code == 202
    assert again.headers["location"] == f"/api/runs/{again.json()['id']}"
    assert (
        client.post(f"/api/runs/{run}/retry", params={"request_id": "one"}).json() == again.json()
    )
    run_details = client.get(f"/api/runs/{again.json()['id']}").json()
    assert run_details["config"]["per_device_train_batch_size"] == 1
    until_state(client, again.json()["id"], "failed")
    bundle = client.get(f"/api/runs/{run}/bundle", timeout=30)
    assert bundle.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert f"{run}/diagnosis.json" in archive.namelist()


def test_a_finished_run_has_a_verdict_and_no_diagnosis(serving, settings):
    client = serving("finishes")
    run = client.post("/api/runs", json=settings).json()["id"]
    until_state(client, run, "finished")
    assert client.get(f"/api/runs/{run}").json()["verdict"]["kind"] == "unclear"
    response = client.get(f"/api/runs/{run}/diagnosis")
    assert (response.status_code, response.json()["problems"][0]["where"]) == (404, "run")
    assert client.post(f"/api/runs/{run}/retry").status_code == 422
    for path in ("diagnosis", "bundle"):
        assert client.get(f"/api/runs/unknown/{path}").status_code == 404
